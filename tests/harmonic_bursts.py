"""Reference bursts with a known answer: small molecules of springs, propagated exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ase_atom.units import AMU_A2_FS2_IN_EV, KB
from training.data.store import Burst

MASSES = {1: 1.008, 8: 15.999}
# SMILES, atomic numbers, positions in Å, springs (i, j, eV/Å²)
WATER = (
    "O",
    [8, 1, 1],
    [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]],
    [(0, 1, 45.0), (0, 2, 45.0), (1, 2, 10.0)],
)
HYDROGEN = ("[H][H]", [1, 1], [[0.0, 0.0, 0.0], [0.74, 0.0, 0.0]], [(0, 1, 36.0)])


class Springs:
    """Harmonic motion about a molecule's minimum: x(t), v(t), E and F in closed form."""

    def __init__(self, molecule: tuple) -> None:
        self.smiles, numbers, positions, springs = molecule
        self.numbers = np.array(numbers)
        self.masses = np.array([MASSES[number] for number in numbers])
        self.minimum = np.array(positions)
        size = 3 * len(numbers)
        self.stiffness = np.zeros((size, size))
        for i, j, constant in springs:
            along = self.minimum[j] - self.minimum[i]
            row = np.zeros((len(numbers), 3))
            row[i], row[j] = -along, along
            row = row.ravel() / np.linalg.norm(along)
            self.stiffness += constant * np.outer(row, row)
        self._roots = np.repeat(np.sqrt(self.masses * AMU_A2_FS2_IN_EV), 3)
        squares, self._modes = np.linalg.eigh(self.stiffness / np.outer(self._roots, self._roots))
        self._stiff = squares > 1e-6
        self._omega = np.sqrt(np.where(self._stiff, squares, 0.0))

    def propagate(self, x: NDArray, v: NDArray, times: NDArray) -> tuple[NDArray, NDArray]:
        """Positions and velocities ``[T, N, 3]`` at times after one state ``[N, 3]``."""
        place = ((x - self.minimum).ravel() * self._roots) @ self._modes
        speed = (v.ravel() * self._roots) @ self._modes
        phase = self._omega * np.asarray(times, float)[:, None]
        over = np.divide(1, self._omega, out=np.zeros_like(self._omega), where=self._stiff)
        # sin(ω t)/ω is t where ω is zero.
        sine = np.where(self._stiff, np.sin(phase) * over, np.asarray(times, float)[:, None])
        q = place * np.cos(phase) + speed * sine
        p = speed * np.cos(phase) - place * self._omega * np.sin(phase)
        back = [(z @ self._modes.T / self._roots).reshape(-1, *x.shape) for z in (q, p)]
        return back[0] + self.minimum, back[1]

    def energy_and_forces(self, x: NDArray) -> tuple[NDArray, NDArray]:
        """Energies ``[T]`` about a floor of −2000 eV and forces ``[T, N, 3]``."""
        moved = (x - self.minimum).reshape(len(x), -1)
        forces = -moved @ self.stiffness
        return -2000 - 0.5 * (forces * moved).sum(1), forces.reshape(x.shape)

    def burst(self, index: int, temperature: float, frames: int, name: str) -> Burst:
        """A burst from a thermal state that only vibrates."""
        rng = np.random.default_rng([index, len(self.numbers)])
        width = np.sqrt(KB * temperature) * self._stiff
        over = np.divide(1, self._omega, out=np.zeros_like(self._omega), where=self._stiff)
        q, p = rng.normal(size=(2, len(width))) * width
        place, speed = (self._modes @ z / self._roots for z in (q * over, p))
        start = self.minimum + place.reshape(self.minimum.shape)
        times = np.arange(frames)
        x, v = self.propagate(start, speed.reshape(start.shape), times)
        energies, forces = self.energy_and_forces(x)
        return Burst(
            key=f"{name}/{index:05d}",
            smiles=self.smiles,
            numbers=self.numbers,
            masses=self.masses,
            positions=x,
            velocities=v,
            energies=energies,
            forces=forces,
            interval=1.0,
            temperature_K=temperature,
            seed=index,
            attrs={"ensemble": "nve", "theory": "springs"},
        )


def water_bursts(count: int, frames: int = 60) -> list[Burst]:
    """Bursts at 300 and 500 K in turn."""
    springs = Springs(WATER)
    return [springs.burst(n, (300.0, 500.0)[n % 2], frames, "water") for n in range(count)]


def hydrogen_bursts(count: int, frames: int = 60) -> list[Burst]:
    """Bursts of a smaller molecule."""
    springs = Springs(HYDROGEN)
    return [springs.burst(n, 300.0, frames, "hydrogen") for n in range(count)]
