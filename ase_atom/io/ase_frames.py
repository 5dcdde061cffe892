"""Frames as ASE's atoms, and back, for the formats that ASE itself reads and writes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_masses

from ase_atom.io.frames import FrameBlock
from ase_atom.units import velocities_from_ase, velocities_to_ase

TIME = "time_fs"
"""Where frames keep their time in ``atoms.info``."""


def to_atoms(
    numbers: np.ndarray,
    block: FrameBlock,
    frame: int,
    masses: np.ndarray | None = None,
    pbc: np.ndarray | bool = True,
) -> Atoms:
    """Return one frame as atoms with momenta, time, energy and forces, as far as it has them.

    Parameters
    ----------
    numbers, masses
        Atomic numbers and masses in amu, ``[N]``; standard masses by default.
    block, frame
        Frames, and which of them.
    pbc
        Along which vectors of its cell the frame repeats, if it has one.
    """
    cell = None if block.cells is None else block.cells[frame]
    atoms = Atoms(
        numbers, block.positions[frame], masses=masses, cell=cell, pbc=cell is not None and pbc
    )
    if block.velocities is not None:
        atoms.set_velocities(velocities_to_ase(block.velocities[frame]))
    if block.times is not None:
        atoms.info[TIME] = float(block.times[frame])
    results = {}
    if block.energies is not None and np.isfinite(block.energies[frame]):
        results["energy"] = float(block.energies[frame])
    if block.forces is not None and np.isfinite(block.forces[frame]).all():
        results["forces"] = np.array(block.forces[frame])
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def stated_masses(atoms: Atoms) -> np.ndarray | None:
    """Return masses in amu, ``[N]``, if the atoms carry any of their own."""
    return atoms.get_masses() if atoms.has("masses") else None


def isotope_masses(numbers: np.ndarray, masses: np.ndarray) -> np.ndarray | None:
    """Return masses in amu, ``[N]``, if they are not the standard ones."""
    return None if np.allclose(masses, atomic_masses[numbers]) else masses


def results_at_hand(atoms: Atoms) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return energy ``[1]`` and forces ``[1, N, 3]`` as far as the calculator has them."""
    found = []
    for name in ("energy", "forces"):
        value = None
        with contextlib.suppress(PropertyNotImplementedError, KeyError, AttributeError):
            value = atoms.calc.get_property(name, atoms, allow_calculation=False)
        found.append(None if value is None else np.asarray(value, dtype=np.float64)[None])
    return found[0], found[1]


def to_block(frames: Sequence[Atoms], atom_count: int) -> FrameBlock:
    """Return atoms as a block; velocities, times and cells only if all of them have some."""
    if not frames:
        return FrameBlock(np.empty((0, atom_count, 3)))
    velocities = times = cells = energies = forces = None
    if all(atoms.has("momenta") for atoms in frames):
        velocities = velocities_from_ase(np.array([atoms.get_velocities() for atoms in frames]))
    if all(isinstance(atoms.info.get(TIME), int | float) for atoms in frames):
        times = np.array([atoms.info[TIME] for atoms in frames], dtype=np.float64)
    if all(atoms.pbc.any() for atoms in frames):
        cells = np.array([atoms.cell.array for atoms in frames])
    results = [getattr(atoms.calc, "results", {}) for atoms in frames]
    if any("energy" in found for found in results):
        energies = np.array([found.get("energy", np.nan) for found in results], dtype=np.float64)
    if any("forces" in found for found in results):
        none = np.full((atom_count, 3), np.nan)
        forces = np.array([found.get("forces", none) for found in results])
    positions = np.array([atoms.positions for atoms in frames])
    return FrameBlock(positions, velocities, times, cells, energies, forces)
