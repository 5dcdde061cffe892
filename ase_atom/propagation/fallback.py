"""Step-by-step dynamics with a calculator's forces, for stretches where jumps err too much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ase_atom.errors import ConfigError, FallbackError
from ase_atom.molecules.atoms import set_charge
from ase_atom.operator.torch_settings import users_torch
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV

TIMESTEP = 0.5
"""fs, at most."""


@dataclass(frozen=True)
class Stretch:
    """Frames of molecules that were moved by forces.

    Parameters
    ----------
    positions, velocities
        Å and Å/fs, ``[B, T, N, 3]``.
    before, after
        Potential energies in eV at start and end, ``[B]``.
    failure
        The calculator's error, behind the frames; None if all went well.
    """

    positions: Tensor
    velocities: Tensor
    before: Tensor
    after: Tensor
    failure: FallbackError | None = None


class Fallback:
    """An ASE calculator that moves molecules by velocity Verlet.

    Parameters
    ----------
    calculator
        Computes energies and forces.
    name
        What it is called; by default its class.

    Attributes
    ----------
    calls
        How often forces were computed.

    Raises
    ------
    ConfigError
        If it computes no forces.
    """

    def __init__(self, calculator: Any, name: str | None = None) -> None:
        self.name = name or type(calculator).__name__
        offered = getattr(calculator, "implemented_properties", ("energy", "forces"))
        if not hasattr(calculator, "get_forces") or "forces" not in offered:
            raise ConfigError(
                f"the fallback {self.name} computes no forces: give an ASE calculator that does"
            )
        self._calculator = calculator
        self.calls = 0

    def check(self, state: PhaseState) -> None:
        """Try it on the first of some molecules.

        Raises
        ------
        ConfigError
            If it fails.
        """
        try:
            self.forces(state.select(torch.tensor([0])))
        except FallbackError as error:
            raise ConfigError(f"{error}: try it on the structure by itself") from error

    def forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Return energies in eV, ``[B]``, and forces in eV/Å, ``[B, N, 3]``.

        Raises
        ------
        FallbackError
            Whatever goes wrong in the calculator.
        """
        energies, forces = [], np.zeros(tuple(state.positions.shape))
        for row, atoms in enumerate(state.to_atoms()):
            if charge := int(state.charge[row]):
                set_charge(atoms, charge)
            try:
                with users_torch():
                    energies.append(float(self._calculator.get_potential_energy(atoms)))
                    forces[row, : len(atoms)] = self._calculator.get_forces(atoms)
            except Exception as error:  # calculators raise whatever they like
                text = str(error).strip() or type(error).__name__
                raise FallbackError(
                    f"the fallback {self.name} failed ({text.splitlines()[0]})"
                ) from error
            self.calls += 1
        found = torch.from_numpy(forces)
        if not (np.isfinite(energies).all() and bool(torch.isfinite(found).all())):
            raise FallbackError(f"the fallback {self.name} failed (its forces are not finite)")
        return torch.tensor(energies, dtype=state.dtype), found.to(state.dtype)

    def path(self, start: PhaseState, times: Tensor) -> Stretch:
        """Move by velocity Verlet (Swope et al. 1982), in equal steps of at most `TIMESTEP`.

        Frames between steps are on the cubic through positions and velocities of either side.

        Parameters
        ----------
        start
            The molecules, ``[B, N]``.
        times
            Rising, fs, ``[T]``; the last is the end.

        Raises
        ------
        FallbackError
            If the calculator fails before the first frame. Later, the frames before are returned
            with the error.
        """
        end = float(times[-1])
        count = max(1, math.ceil(end / TIMESTEP - 1e-9))
        step = end / count
        mask = start.mask[..., None]
        mass = torch.where(start.mask, start.masses, 1.0)[..., None] * AMU_A2_FS2_IN_EV
        x, v = start.positions, start.velocities
        energy, force = self.forces(start)
        before, wanted, failure = energy, times.tolist(), None
        frames_x: list[Tensor] = []
        frames_v: list[Tensor] = []
        for n in range(count):
            half = v + 0.5 * step * force / mass
            next_x = torch.where(mask, x + step * half, x)
            try:
                energy, force = self.forces(start.replace(positions=next_x))
            except FallbackError as error:
                if not frames_x:
                    raise
                failure = error
                break
            next_v = torch.where(mask, half + 0.5 * step * force / mass, v)
            while len(frames_x) < len(wanted) and wanted[len(frames_x)] <= (n + 1) * step + 1e-9:
                part = (wanted[len(frames_x)] - n * step) / step
                a, b = _cubic(part, step, x, v, next_x, next_v)
                frames_x.append(a)
                frames_v.append(b)
            x, v = next_x, next_v
        return Stretch(torch.stack(frames_x, 1), torch.stack(frames_v, 1), before, energy, failure)


def _cubic(
    part: float, step: float, x: Tensor, v: Tensor, next_x: Tensor, next_v: Tensor
) -> tuple[Tensor, Tensor]:
    """Positions and velocities on the cubic between two steps; exact at both ends."""
    if part >= 1 - 1e-9:
        return next_x, next_v
    p = part
    position = (
        (2 * p**3 - 3 * p**2 + 1) * x
        + (p**3 - 2 * p**2 + p) * step * v
        + (3 * p**2 - 2 * p**3) * next_x
        + (p**3 - p**2) * step * next_v
    )
    velocity = (
        (6 * p**2 - 6 * p) / step * (x - next_x)
        + (3 * p**2 - 4 * p + 1) * v
        + (3 * p**2 - 2 * p) * next_v
    )
    return position, velocity
