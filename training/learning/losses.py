"""Losses: every term is dimensionless, and about one for a model that has learned nothing.

Positions
    mean over windows and atoms of |x − x_ref|², divided by the mean squared displacement at that
    lag over the training data, averaged over lags. So short lags count as much as long ones, and
    a molecule that stays where it is scores one.
Velocities
    mean over windows, atoms and directions of (v − v_ref)² / (k_B T/m), with T a reference
    temperature, averaged over lags. A molecule at rest scores T_data/T.
Forces
    mean over states, atoms and directions of (F − F_ref)² / mean F_ref² of the training data.
Energies
    mean over states of (E − E_ref)² / variance of E_ref in the training data, molecule by molecule.

Padding enters none of them. With ``measure: length`` each square above, summed over directions,
gives way to its root before means are taken: errors count as they are, so that a few states far
worse than the others, as there are among many kinds of molecules, do not decide the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ase_atom.operator import Operator
from ase_atom.operator.scaling import thermal_speeds
from training.data.frames import FrameData, States

_SMOOTH = 1e-3  # of the scales: where a root of squares turns into a parabola


@dataclass(frozen=True)
class Scales:
    """What errors are measured against, from the training data alone.

    Attributes
    ----------
    displacement
        RMS displacement (of the vector) at lags of 1, 2, ... frames, Å, ``[L]``.
    force
        RMS force component, eV/Å.
    energy
        RMS deviation of the potential energy from its molecule's mean, eV.
    temperature
        K.
    """

    displacement: Tensor
    force: float
    energy: float
    temperature: float

    @classmethod
    def from_data(cls, data: FrameData, longest: int, temperature: float) -> Scales:
        """Measure them.

        Parameters
        ----------
        data
            Training frames.
        longest
            Longest lag, frames.
        temperature
            Of the velocity scale, K.
        """
        atoms = (data.numbers > 0).sum(1)
        weight = atoms[data.burst]
        squares, counts = torch.zeros(longest, dtype=torch.float64), torch.zeros(longest)
        for first, length, number in zip(
            data.first.tolist(), data.length.tolist(), atoms.tolist(), strict=True
        ):
            path = data.positions[first : first + length]
            for lag in range(1, longest + 1):
                moved = path[lag:] - path[:-lag]
                squares[lag - 1] += moved.square().sum().double()
                counts[lag - 1] += len(moved) * number
        # Bursts of one molecule share a mean energy; their own means differ with temperature.
        molecules = data.molecule[data.burst]
        energies = data.energies.double()
        size = int(molecules.max()) + 1
        mean = torch.zeros(size, dtype=torch.float64).index_add_(0, molecules, energies)
        mean /= torch.bincount(molecules, minlength=size)
        spread = (energies - mean[molecules]).square().mean().sqrt()
        force = (data.forces.double().square().sum() / (3 * weight.sum())).sqrt()
        return cls(
            displacement=(squares / counts).sqrt().float(),
            force=max(float(force), 1e-6),
            energy=max(float(spread), 1e-6),
            temperature=temperature,
        )

    @classmethod
    def mean(cls, scales: Sequence[Scales], weights: Sequence[float]) -> Scales:
        """Root of the weighted mean of squares: the scales of several sets of data together."""
        shares = torch.tensor(weights, dtype=torch.float64)
        shares = shares / shares.sum()

        def joined(values: Sequence[Tensor | float]) -> Tensor:
            stacked = torch.stack([torch.as_tensor(value).double() for value in values], dim=-1)
            return (stacked.square() * shares).sum(-1).sqrt()

        return cls(
            displacement=joined([one.displacement for one in scales]).float(),
            force=float(joined([one.force for one in scales])),
            energy=float(joined([one.energy for one in scales])),
            temperature=scales[0].temperature,
        )

    def to(self, device: torch.device) -> Scales:
        """The same on another device."""
        return replace(self, displacement=self.displacement.to(device))


def path_losses(
    predicted: tuple[Tensor, Tensor],
    reference: tuple[Tensor, Tensor],
    masses: Tensor,
    displacement: Tensor,
    temperature: float,
    measure: str = "square",
) -> tuple[Tensor, Tensor]:
    """Position and velocity loss of a batch of paths.

    Parameters
    ----------
    predicted, reference
        Positions in Å and velocities in Å/fs, each ``[B, L, N, 3]``.
    masses
        amu, ``[B, N]``; 0 on padding.
    displacement
        RMS displacement at each lag, Å, ``[L]``.
    temperature
        Of the velocity scale, K.
    measure
        ``square`` or ``length``.

    Returns
    -------
    Two scalars.
    """
    real = (masses > 0).to(masses.dtype)[:, None]
    count = real.sum() * len(displacement)
    position = (predicted[0] - reference[0]).square().sum(-1) / displacement.square()[:, None]
    inverse = thermal_speeds(masses, temperature).squeeze(-1).square().reciprocal()[:, None] / 3
    velocity = (predicted[1] - reference[1]).square().sum(-1) * inverse
    found = [(measured(part, measure) * real).sum() / count for part in (position, velocity)]
    return found[0], found[1]


def measured(squares: Tensor, measure: str) -> Tensor:
    """Squares as they are, or their roots, smooth at zero."""
    return (squares + _SMOOTH**2).sqrt() - _SMOOTH if measure == "length" else squares


def learns_energies(operator: Operator) -> bool:
    """Whether energies and forces are to be learned: not if a potential knows them already."""
    potential = operator.potential
    if potential is None:
        return operator.has_energy
    return any(weight.requires_grad for weight in potential.network.parameters())


def energy_and_gradient(
    operator: Operator, species: Tensor, masses: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """The energy head's output, ``[B]``, and its gradient, ``[B, N, 3]``, both differentiable.

    The gradient is taken by a function transform rather than by a backward pass within the
    forward pass, which `torch.compile` could not see through.
    """

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        output = operator.energy_output(species, masses, x)
        return output.sum(), output

    gradient, output = torch.func.grad(total, has_aux=True)(positions)
    return output, gradient


def energy_losses(
    operator: Operator,
    states: States,
    scales: Scales,
    evaluate: Callable[..., tuple[Tensor, Tensor]] = energy_and_gradient,
    measure: str = "square",
) -> tuple[Tensor, Tensor]:
    """Force and energy loss of a batch of states.

    The head's output times ``operator.energy_scale`` is the energy in eV less the offsets that
    `training.data.frames.energy_offsets` gave; the force is its negative gradient. A potential
    takes the head's place, if there is one.

    Parameters
    ----------
    operator
        What is trained.
    states
        Frames with reference energies and forces.
    scales
        Of the losses.
    evaluate
        `energy_and_gradient`, or the same compiled.
    measure
        ``square`` or ``length``.
    """
    if operator.potential is None:
        species = operator.index(states.numbers, states.charge)
        output, gradient = evaluate(operator, species, states.masses, states.positions)
        energy, force = output * operator.energy_scale, -gradient * operator.energy_scale
    else:
        given = states.numbers, states.positions, states.charge
        energy, force = operator.potential.energy_and_forces(*given, graded=True)
    real = (states.numbers > 0).to(states.positions.dtype)
    wrong = (force - states.forces).square().sum(-1) / (3 * scales.force**2)
    energy = (energy.to(states.energies) - states.energies) / scales.energy
    return (
        (measured(wrong, measure) * real).sum() / real.sum(),
        measured(energy.square(), measure).mean(),
    )
