"""Jumps made step by step from forces, for molecules that no operator was trained for.

They cost what dynamics by those forces costs. They settle and judge leaps that were learned from a
trajectory (see `ase_atom.propagation.leaps`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.errors import ConfigError, HorizonError
from ase_atom.operator.protocol import Leap, OperatorBase
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV

Array = NDArray[np.float64]

HORIZON = 16.0
"""fs, of one jump."""


class Stepwise(OperatorBase, ABC):
    """Velocity Verlet as an operator: positions and velocities at multiples of a time step.

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
    def evaluate(self, numbers: NDArray[np.int64], charge: int, x: Array) -> tuple[float, Array]:
        """Return energy in eV and forces in eV/Å, ``[N, 3]``, of one molecule.

        Parameters
        ----------
        numbers, charge
            Atomic numbers ``[N]`` and total charge in e.
        x
            Å, ``[N, 3]``.
        """

    def follow(
        self, numbers: NDArray[np.int64], charge: int, masses: Array, start: Array, steps: list[int]
    ) -> Array:
        """Return positions and velocities of one molecule after numbers of steps that rise.

        Parameters
        ----------
        numbers, charge
            As for `evaluate`.
        masses
            amu, ``[N]``.
        start
            Positions and velocities, Å and Å/fs, ``[2, N, 3]``.
        steps
            In all, from the start.

        Returns
        -------
        ``[T, 2, N, 3]``.
        """
        x, v = start.copy()
        half = 0.5 * self.timestep / (masses[:, None] * AMU_A2_FS2_IN_EV)
        done, found = 0, []
        forces = self.evaluate(numbers, charge, x)[1] if max(steps, default=0) else x
        for count in steps:
            for _ in range(count - done):
                v = v + half * forces
                x = x + self.timestep * v
                forces = self.evaluate(numbers, charge, x)[1]
                v = v + half * forces
            done = count
            found.append(np.stack([x, v]))
        return np.stack(found)

    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions and velocities, ``[B, T, N, 3]``, at ``times`` in fs.

        Raises
        ------
        HorizonError
            For a time outside a jump, or between steps.
        """
        counts = self._steps(times.tolist())
        order = np.argsort(counts, kind="stable")
        back = np.argsort(order)
        size = state.positions.shape
        found = np.zeros((size[0], len(counts), 2, *size[1:]))
        for row in range(size[0]):
            numbers, charge, real = self._molecule(state, row)
            start = torch.stack([state.positions[row], state.velocities[row]])[:, real]
            masses = state.masses[row][real].double().cpu().numpy()
            path = self.follow(
                *(numbers, charge, masses, start.double().cpu().numpy()),
                [counts[place] for place in order],
            )
            found[row][:, :, real.cpu().numpy()] = path[back]
        both = torch.from_numpy(found).to(state.positions)
        return both[:, :, 0], both[:, :, 1]

    def energy(self, state: PhaseState) -> Tensor:
        """Return potential energies in eV, ``[B]``, float64."""
        return self.energy_and_forces(state)[0]

    def energy_and_forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Return potential energies in eV, ``[B]``, and forces in eV/Å, ``[B, N, 3]``.

        Those of a molecule whose positions are no numbers are none.
        """
        energies = torch.full((state.batch_size,), float("nan"), dtype=torch.float64)
        forces = torch.zeros_like(state.positions)
        for row in range(state.batch_size):
            numbers, charge, real = self._molecule(state, row)
            x = state.positions[row][real].double().cpu().numpy()
            if np.isfinite(x).all():
                energies[row], pull = self.evaluate(numbers, charge, x)
                forces[row, real] = torch.from_numpy(pull).to(forces)
            else:
                forces[row, real] = float("nan")
        return energies.to(state.device), forces

    def _steps(self, times: list[float]) -> list[int]:
        counts = [round(time / self.timestep) for time in times]
        for time, count in zip(times, counts, strict=True):
            if not 0 <= time <= self.horizon * (1 + 1e-9):
                raise HorizonError(f"{time:g} fs is not in a jump of up to {self.horizon:g} fs")
            if abs(count * self.timestep - time) > 1e-6 * self.timestep:
                raise HorizonError(f"{time:g} fs is no multiple of steps of {self.timestep:g} fs")
        return counts

    @staticmethod
    def _molecule(state: PhaseState, row: int) -> tuple[NDArray[np.int64], int, Tensor]:
        real = state.mask[row]
        numbers = state.numbers[row][real].cpu().numpy()
        return numbers, int(state.charge[row]), real
