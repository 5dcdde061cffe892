"""Jumps made step by step from forces: of a potential of an operator's own, or of another program.

They cost what dynamics by those forces costs. Those of another program settle and judge leaps that
were learned from a trajectory (see `ase_atom.propagation.leaps`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.errors import ConfigError, HorizonError
from ase_atom.errors.keywords import known_keywords
from ase_atom.operator.protocol import Charges, Leap, OperatorBase, OperatorLike, check_operator
from ase_atom.operator.torch_settings import without_gradients
from ase_atom.propagation.ensembles import Ensemble, Potential
from ase_atom.propagation.grid import LEAST_TIME, whole_steps
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV

Array = NDArray[np.float64]

HORIZON = 16.0
"""fs, of one jump."""

LONGEST_STEP = 2.0
"""fs. Velocity Verlet of an O–H stretch, 3900 1/cm, is unstable from 2.7 fs on."""


class Stepwise(OperatorBase, ABC):
    """Velocity Verlet as an operator: positions and velocities at multiples of a time step.

    It is symplectic, so a run does not correct its energy; see `suited`.

    Parameters
    ----------
    timestep
        fs.
    leaps
        Draws states at later times, such as `ase_atom.operator.load_leaps` returns.

    Raises
    ------
    ConfigError
        For a time step that is not above 0, or longer than a jump.
    """

    horizon = HORIZON
    has_energy = True

    def __init__(self, timestep: float = 0.5, leaps: Leap | None = None) -> None:
        if not 0 < timestep <= HORIZON:
            raise ConfigError(
                f"a time step of {timestep:g} fs is not above 0 and up to {HORIZON:g}"
            )
        self.timestep, self.leaps = timestep, leaps

    @abstractmethod
    def energy_and_forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Return potential energies in eV, ``[B]``, and forces in eV/Å, ``[B, N, 3]``."""

    def energy(self, state: PhaseState) -> Tensor:
        """Return potential energies in eV, ``[B]``, float64."""
        return self.energy_and_forces(state)[0]

    @without_gradients
    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions and velocities, ``[B, T, N, 3]``, at ``times`` in fs.

        Raises
        ------
        HorizonError, ConfigError
            As `steps_to`.
        """
        counts = self.steps_to(times.tolist())
        x, v, masses = (each.double() for each in (state.positions, state.velocities, state.masses))
        precise = state.replace(positions=x, velocities=v, masses=masses)
        inertia = torch.where(state.mask, masses, 1.0)[..., None] * AMU_A2_FS2_IN_EV
        half, last = 0.5 * self.timestep / inertia, max(counts, default=0)
        found = {0: (x, v)}
        forces = self.energy_and_forces(precise)[1] if last else x
        for count in range(1, last + 1):
            v = v + half * forces
            x = x + self.timestep * v
            forces = self.energy_and_forces(precise.replace(positions=x))[1]
            v = v + half * forces
            if count in counts:
                found[count] = x, v
        paths = (torch.stack([found[count][side] for count in counts], dim=1) for side in (0, 1))
        positions, velocities = (path.to(state.positions) for path in paths)
        return positions, velocities

    def steps_to(self, times: Sequence[float]) -> list[int]:
        """Return the number of steps to each time in fs.

        Raises
        ------
        HorizonError
            For a time outside a jump.
        ConfigError
            For a time between steps.
        """
        for time in times:
            if not 0 <= time <= self.horizon * (1 + 1e-9):
                raise HorizonError(f"{time:g} fs is not in a jump of up to {self.horizon:g} fs")
        return [whole_steps("time", time, self.timestep) for time in times]


class OneByOne(Stepwise):
    """Velocity Verlet by a program that computes one molecule at a time."""

    @abstractmethod
    def evaluate(self, numbers: NDArray[np.int64], charge: int, x: Array) -> tuple[float, Array]:
        """Return energy in eV and forces in eV/Å, ``[N, 3]``, of one molecule.

        Parameters
        ----------
        numbers, charge
            Atomic numbers ``[N]`` and total charge in e.
        x
            Å, ``[N, 3]``.
        """

    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions and velocities, ``[B, T, N, 3]``; see `Stepwise`.

        Each molecule to the end before the next, so that a program that starts from its last answer
        finds one of the same molecule.
        """
        rows = [state.select(torch.tensor([row])) for row in range(state.batch_size)]
        paths = [self.follow(row, times) for row in rows]
        positions, velocities = (torch.cat(side) for side in zip(*paths, strict=True))
        return positions, velocities

    def follow(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return the path of one molecule, a batch of one; see `Stepwise`."""
        return super().__call__(state, times)

    def energy_and_forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Return potential energies in eV, ``[B]``, and forces in eV/Å, ``[B, N, 3]``.

        Those of a molecule whose positions are no numbers are none.
        """
        energies = torch.full((state.batch_size,), float("nan"), dtype=torch.float64)
        forces = torch.zeros_like(state.positions)
        for row in range(state.batch_size):
            real = state.mask[row]
            numbers = state.numbers[row][real].cpu().numpy()
            x = state.positions[row][real].double().cpu().numpy()
            if np.isfinite(x).all():
                energies[row], pull = self.evaluate(numbers, int(state.charge[row]), x)
                forces[row, real] = torch.from_numpy(pull).to(forces)
            else:
                forces[row, real] = float("nan")
        return energies.to(state.device), forces


class PotentialSteps(Stepwise):
    """An operator whose path is that of velocity Verlet by its own forces, in place of its jumps.

    Whole batches move together. At constant energy the modes of a molecule keep what they have,
    which jumps cannot promise (docs/general-operator.md). The operator's leaps settle by steps.

    Parameters
    ----------
    operator
        With a potential of its own, or an energy head.
    timestep
        fs.

    Raises
    ------
    ConfigError
        For an operator without energies, or a time step that is not above 0 and up to 2 fs.
    """

    @known_keywords()
    def __init__(self, operator: OperatorLike, timestep: float = 1.0) -> None:
        check_operator(operator)
        if not operator.has_energy:
            raise ConfigError("the operator has no energy head, so it has no forces to step by")
        check_timestep(timestep)
        super().__init__(timestep, operator.leaps)
        self.operator, self.horizon = operator, max(HORIZON, operator.horizon)
        if operator.card is not None:
            # What is known of the error of jumps is not known of steps.
            self.card = operator.card.model_copy(update={"calibration": None})

    @property
    def engine(self) -> str:  # type: ignore[override]
        """What evaluates the operator."""
        return self.operator.engine

    @property
    def atomic_charges(self) -> Charges | None:  # type: ignore[override]
        """The operator's."""
        return self.operator.atomic_charges

    @property
    def fingerprint(self) -> str:
        """The operator's, and the time step."""
        return f"{self.operator.fingerprint} {self.timestep}"

    def energy(self, state: PhaseState) -> Tensor:
        """Return the operator's potential energies in eV, ``[B]``."""
        return self.operator.energy(state)

    def energy_and_forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Return the operator's energies in eV, ``[B]``, and forces in eV/Å, ``[B, N, 3]``."""
        return self.operator.energy_and_forces(state)

    def in_double_precision(self) -> PotentialSteps:
        """Return the same with the operator computed in double precision."""
        return PotentialSteps(self.operator.in_double_precision(), self.timestep)


def check_timestep(timestep: float, name: str = "timestep") -> None:
    """Check that molecules can be moved in steps of a length in fs.

    Raises
    ------
    ConfigError
        If not, by the name that the caller has for it.
    """
    if isinstance(timestep, bool) or not isinstance(timestep, int | float):
        raise ConfigError(f"{name} is a number in fs, not {timestep!r}")
    if not LEAST_TIME <= timestep <= LONGEST_STEP:
        raise ConfigError(
            f"{name} must be from {LEAST_TIME:g} to {LONGEST_STEP:g} fs, not {timestep:g} fs: "
            "bonds of hydrogen vibrate in 9 fs"
        )


def suited(
    ensemble: Ensemble,
    operator: OperatorLike,
    times: Mapping[str, float] | None = None,
    potential: Potential | None = None,
) -> Ensemble:
    """Return an ensemble as an operator needs it: one that corrects no symplectic steps.

    Velocity Verlet retraces its path, and its energy only oscillates about one that it keeps.
    Corrections would take thrice the time, and add the noise that they remove from jumps.

    Parameters
    ----------
    ensemble, operator
        Of a run. For an operator that is not `Stepwise` the ensemble comes back as it is.
    times
        What must be multiples of the time step, fs, by name.
    potential
        What jumps would keep.

    Raises
    ------
    ConfigError
        If a time is no multiple, the potential is another than the operator's, or the ensemble
        cannot be had without corrections.
    """
    if not isinstance(operator, Stepwise):
        return ensemble
    for name, time in (times or {}).items():
        whole_steps(name, time, operator.timestep)
    if potential is not None and getattr(potential, "__self__", None) is not operator:
        raise ConfigError(
            "another potential's energy is for jumps to keep, and steps by forces are not "
            "corrected: leave it out"
        )
    if not (ensemble.reversible or ensemble.energy_correction):
        return ensemble
    made: Any = ensemble
    try:
        return cast(Ensemble, replace(made, reversible=False, energy_correction=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the ensemble {ensemble.title} corrects jumps, and steps by forces are not to be "
            "corrected: make it a dataclass with the fields reversible and energy_correction"
        ) from error
