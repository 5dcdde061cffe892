"""Trajectories with a known answer: ethanol of springs, moved exactly by its normal modes."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase.data import atomic_masses
from ase.io import read
from conftest import ETHANOL
from numpy.typing import NDArray

from ase_atom.analysis import Trajectory
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

_BOND, _ANGLE, _REST = 32.0, 5.0, 0.25  # eV/Å² of springs between neighbours, next and all others


@cache
def modes() -> tuple[NDArray, NDArray, NDArray]:
    """Minimum ``[N, 3]``, angular frequencies in rad/fs ``[M]`` and Cartesian modes ``[M, N, 3]``.

    A mode's amplitude is in Å √amu.
    """
    atoms = read(ETHANOL)
    x, masses = atoms.positions, atomic_masses[atoms.numbers]
    bonds = set(perceive_bonds(atoms.numbers, atoms.positions))
    around = {i: {j for pair in bonds if i in pair for j in pair} - {i} for i in range(len(x))}
    size = x.size
    stiffness = np.zeros((size, size))
    for i in range(len(x)):
        for j in range(i):
            constant = _REST
            if (j, i) in bonds:
                constant = _BOND
            elif around[i] & around[j]:
                constant = _ANGLE
            row = np.zeros_like(x)
            row[i] = (x[i] - x[j]) / np.linalg.norm(x[i] - x[j])
            row[j] = -row[i]
            stiffness += constant * np.outer(row, row)
    roots = np.repeat(np.sqrt(masses), 3)
    squares, vectors = np.linalg.eigh(stiffness / np.outer(roots, roots) / AMU_A2_FS2_IN_EV)
    stiff = squares > 1e-8
    shapes = (vectors[:, stiff] / roots[:, None]).T.reshape(-1, *x.shape)
    return x, np.sqrt(squares[stiff]), shapes


def wavenumbers() -> NDArray:
    """Of the modes, cm⁻¹."""
    return modes()[1] / (2 * np.pi * 2.99792458e-5)


def harmonic_ethanol(
    runs: int = 10,
    frames: int = 500,
    interval: float = 2.0,
    seed: int = 0,
    temperature: float = 300.0,
    **changes: object,
) -> Trajectory:
    """Runs in which every mode has the energy kT and a random phase."""
    minimum, omega, shapes = modes()
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (runs, 1, len(omega)))
    times = interval * np.arange(frames)
    size = np.sqrt(2 * KB * temperature / AMU_A2_FS2_IN_EV) / omega
    angle = omega * times[:, None] + phases
    positions = minimum + np.einsum("rtm,mnx->rtnx", size * np.cos(angle), shapes)
    velocities = np.einsum("rtm,mnx->rtnx", -size * omega * np.sin(angle), shapes)
    settings = {"name": "springs", "facts": {"ensemble": "nve"}} | changes
    numbers = read(ETHANOL).numbers
    return Trajectory.from_arrays(numbers, positions, velocities, times, **settings)
