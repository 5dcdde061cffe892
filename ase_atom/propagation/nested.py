"""Canonical sampling of a calculator's potential, with an operator's potential for the way there.

Nested Monte Carlo (Iftimie, Salahub, Wei and Schofield, J. Chem. Phys. 113, 4852 (2000); Gelb,
J. Chem. Phys. 118, 7747 (2003)): a proposal is a chain of moves that keeps the canonical
distribution of a cheap potential E_op, and is accepted with

    min(1, exp(−β[(E_ref − E_op)(x') − (E_ref − E_op)(x)])),

which leaves that of E_ref as it is, whatever E_op: what E_op lacks costs acceptance and nothing
else. The chain is hybrid Monte Carlo (Duane, Kennedy, Pendleton and Roweth, Phys. Lett. B 195, 216
(1987)). A learned jump could not stand in its place, as it is neither exactly reversible nor keeps
volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.propagation.guard import Guard
from ase_atom.propagation.stochastic import Noise, SerialisableNoise, torch_noise
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, KB, thermal_speed

Forces = Callable[[PhaseState], tuple[Tensor, Tensor]]
"""Gives potential energies in eV, ``[B]``, and forces in eV/Å, ``[B, N, 3]``."""

STIFFNESS = 50.0
"""eV/Å², of the wall at the limits of the guard."""


def walled(forces: Forces, guard: Guard) -> Forces:
    """Return a potential with a wall where the guard would call a molecule broken.

    Half of `STIFFNESS` times the square of how far a distance is beyond its limits, 5 % before the
    guard's: an operator's potential may have holes there.

    Parameters
    ----------
    forces
        The potential.
    guard
        Of the same molecules.
    """
    lower, upper = 1.05 * guard.lower, 0.95 * guard.upper

    def both(state: PhaseState) -> tuple[Tensor, Tensor]:
        energy, force = forces(state)
        apart = state.positions[:, guard.first] - state.positions[:, guard.second]
        distance = apart.norm(dim=-1).clamp(min=1e-9)
        beyond = (distance - upper).clamp(min=0) - (lower - distance).clamp(min=0)
        pull = (-STIFFNESS * beyond / distance)[..., None] * apart
        force = force.clone()
        force.index_add_(1, guard.first, pull.to(force))
        force.index_add_(1, guard.second, -pull.to(force))
        wall = 0.5 * STIFFNESS * beyond.square().nan_to_num(0.0).sum(dim=1)
        return energy + wall.to(energy), force

    return both


@dataclass
class Acceptance:
    """How often moves were accepted.

    Attributes
    ----------
    proposed, accepted
        Of the reference's potential.
    inner_proposed, inner_accepted
        Of the chains.
    """

    proposed: int = 0
    accepted: int = 0
    inner_proposed: int = 0
    inner_accepted: int = 0


class NestedMonteCarlo:
    """Sample the canonical distribution of a reference potential.

    Parameters
    ----------
    surrogate
        Cheap potential with forces; see `walled`.
    reference
        Gives potential energies in eV, ``[B]``. It is asked once for each proposal.
    start
        The molecules, ``[B, N]``, each a walker of its own.
    temperature_K
        K.
    chain
        Moves of hybrid Monte Carlo in a proposal.
    steps
        Steps of velocity Verlet in a move.
    timestep
        fs.
    seed
        Of all that is drawn, or the source of standard normal numbers.
    saved
        What `state_dict` of another sampler gave, to go on from; the potentials are not asked
        about the start again.

    Attributes
    ----------
    state
        Where the walkers are; velocities mean nothing.
    energies
        Of the reference there, eV, ``[B]``.
    counts
        What was accepted.

    Raises
    ------
    ConfigError
        For numbers that cannot be meant.
    """

    def __init__(
        self,
        surrogate: Forces,
        reference: Callable[[PhaseState], Tensor],
        start: PhaseState,
        temperature_K: float,
        chain: int = 10,
        steps: int = 20,
        timestep: float = 1.0,
        seed: int | Noise = 0,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in (
            ("temperature_K", temperature_K),
            ("chain", chain),
            ("steps", steps),
            ("timestep", timestep),
        ):
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be above zero, not {value!r}")
        self._surrogate, self._reference = surrogate, reference
        self._temperature, self._beta = temperature_K, 1.0 / (KB * temperature_K)
        self._chain, self._steps, self._timestep = chain, steps, timestep
        self._noise = seed if callable(seed) else torch_noise(seed)
        self.counts = Acceptance()
        self.state = start
        if saved is not None:
            self._load(saved)
            return
        self._cheap, self._force = surrogate(start)
        self.energies = reference(start)

    def step(self) -> Tensor:
        """Make one proposal of each walker, and return which were accepted, ``[B]``."""
        state, cheap, force = self.state, self._cheap, self._force
        for _ in range(self._chain):
            state, cheap, force = self._move(state, cheap, force)
        energies = self._reference(state)
        worse = (energies - cheap) - (self.energies - self._cheap)
        taken = self._accept(worse)
        self.counts.proposed += len(taken)
        self.counts.accepted += int(taken.sum())
        self.state = _chosen(taken, state, self.state)
        self._cheap = torch.where(taken, cheap, self._cheap)
        self._force = torch.where(taken[:, None, None], force, self._force)
        self.energies = torch.where(taken, energies, self.energies)
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on behind the last proposal: tensors and plain values.

        Raises
        ------
        ConfigError
            If the source of random numbers has no state.
        """
        if not isinstance(self._noise, SerialisableNoise):
            raise ConfigError("noise without state_dict cannot be kept: give a seed")
        return {
            "positions": self.state.positions,
            "cheap": self._cheap,
            "force": self._force,
            "energies": self.energies,
            "counts": asdict(self.counts),
            "noise": self._noise.state_dict(),
        }

    def _load(self, saved: Mapping[str, Any]) -> None:
        if not isinstance(self._noise, SerialisableNoise):
            raise ConfigError("noise without load_state_dict cannot go on: give a seed")
        self.state = self.state.replace(positions=saved["positions"])
        self._cheap, self._force = saved["cheap"], saved["force"]
        self.energies = saved["energies"]
        self.counts = Acceptance(**saved["counts"])
        self._noise.load_state_dict(saved["noise"])

    def _move(
        self, state: PhaseState, energy: Tensor, force: Tensor
    ) -> tuple[PhaseState, Tensor, Tensor]:
        """One move of hybrid Monte Carlo: fresh momenta, Verlet, and its own acceptance."""
        mask = state.mask[..., None]
        masses = torch.where(state.mask, state.masses, 1.0)
        speed = thermal_speed(masses, self._temperature)[..., None]
        v = torch.where(mask, speed * self._noise(state.positions.shape).to(speed), 0.0)
        weight = AMU_A2_FS2_IN_EV * masses[..., None]
        h, x, pull = self._timestep, state.positions, force
        before = energy + 0.5 * (weight * v.square()).sum((1, 2))
        after = energy
        for _ in range(self._steps):
            v = v + 0.5 * h * pull / weight
            x = torch.where(mask, x + h * v, x)
            after, pull = self._surrogate(state.replace(positions=x))
            v = torch.where(mask, v + 0.5 * h * pull / weight, 0.0)
        taken = self._accept(after + 0.5 * (weight * v.square()).sum((1, 2)) - before)
        self.counts.inner_proposed += len(taken)
        self.counts.inner_accepted += int(taken.sum())
        return (
            _chosen(taken, state.replace(positions=x), state),
            torch.where(taken, after, energy),
            torch.where(taken[:, None, None], pull, force),
        )

    def _accept(self, rise: Tensor) -> Tensor:
        """Accept rises of energy in eV, ``[B]``, by Metropolis' rule; never what is no number."""
        # The normal distribution's integral of a normal number is even between 0 and 1.
        even = torch.special.ndtr(self._noise(rise.shape)).to(rise)
        return torch.log(even) < -self._beta * rise


def _chosen(rows: Tensor, yes: PhaseState, no: PhaseState) -> PhaseState:
    return no.replace(positions=torch.where(rows[:, None, None], yes.positions, no.positions))
