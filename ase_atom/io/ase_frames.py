"""Frames as ASE's atoms, and back, for the formats that ASE itself reads and writes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_masses

from ase_atom.io.frames import FrameBlock, stated
from ase_atom.molecules.atoms import stated_charge
from ase_atom.units import parse_time, velocities_from_ase, velocities_to_ase

TIME = "time_fs"
EXPECTED, STRIDE = "expected_error", "stride_fs"
"""What a frame says of the jump that it lies on, see `FrameBlock`."""
"""Where frames keep their time in ``atoms.info``."""

_HELD = ("numbers", "positions", "momenta", "masses")


def to_atoms(
    numbers: np.ndarray,
    block: FrameBlock,
    frame: int,
    masses: np.ndarray | None = None,
    charge: int | None = None,
) -> Atoms:
    """Return one frame as atoms with momenta, time, energy and forces, as far as it has them.

    Parameters
    ----------
    numbers, masses
        Atomic numbers and masses in amu, ``[N]``; standard masses by default.
    block, frame
        Frames, and which of them.
    charge
        Total charge in e, if it is stated.
    """
    atoms = Atoms(numbers, block.positions[frame], masses=masses)
    if charge is not None:
        atoms.info["charge"] = charge
    if block.cells is not None:
        atoms.set_cell(block.cells[frame])
        repeats = block.cells[frame].any(axis=1)
        atoms.pbc = repeats if block.pbc is None else repeats & block.pbc[frame]
    if block.velocities is not None:
        atoms.set_velocities(velocities_to_ase(block.velocities[frame]))
    if block.times is not None:
        atoms.info[TIME] = float(block.times[frame])
    for name, values in ((EXPECTED, block.expected_errors), (STRIDE, block.strides)):
        if values is not None and np.isfinite(values[frame]):
            atoms.info[name] = float(values[frame])
    results: dict[str, float | np.ndarray] = {}
    if block.energies is not None and np.isfinite(block.energies[frame]):
        results["energy"] = float(block.energies[frame])
    if block.forces is not None and np.isfinite(block.forces[frame]).all():
        results["forces"] = np.array(block.forces[frame])
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def time_of(atoms: Atoms) -> float | None:
    """Return the time in fs that atoms carry as ``info["time_fs"]``, None if they carry none.

    A number, of whatever type, or text with a number and, if need be, its unit: ``"0.5 fs"``.

    Raises
    ------
    ValueError
        If it is no time.
    """
    found = atoms.info.get(TIME)
    if found is None:
        return None
    try:
        time = parse_time(found) if isinstance(found, str) else float(found)
    except (TypeError, ValueError):
        time = math.nan
    if not math.isfinite(time) or isinstance(found, bool | np.bool_):
        raise ValueError(f"{TIME} is {found!r}, and should be a number of fs")
    return time


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


def with_results(atoms: Atoms, **more: Any) -> None:
    """Add results, such as ``energy`` in eV, to those that the atoms carry."""
    results = dict(getattr(atoms.calc, "results", {}))
    atoms.calc = SinglePointCalculator(atoms, **results, **more)


def left_out(atoms: Atoms) -> list[str]:
    """Return names of what atoms carry and a block of frames has no place for."""
    names = [name for name in atoms.arrays if name not in _HELD]
    results = getattr(atoms.calc, "results", {})
    energy = results.get("energy")
    names += [
        name
        for name in results
        if name not in ("energy", "forces")
        and not (name == "free_energy" and energy is not None and results[name] == energy)
    ]
    # A word without a value is part of a comment.
    charged = ["charge"] if stated_charge(atoms) is not None else []
    told = (
        TIME,
        *charged,
        *(name for name in (EXPECTED, STRIDE) if _number(atoms, name) is not None),
    )
    names += [str(k) for k, v in atoms.info.items() if k not in told and v is not True]
    names += ["constraints"] * bool(atoms.constraints)
    return names


def to_block(frames: Sequence[Atoms], atom_count: int) -> FrameBlock:
    """Return atoms as a block whose frames may differ in what they hold, see `FrameBlock.divided`.

    Raises
    ------
    ValueError
        If a time is none.
    """
    if not frames:
        return FrameBlock(np.empty((0, atom_count, 3)))
    none = np.full((atom_count, 3), np.nan)
    velocities = cells = pbc = None
    if any(atoms.has("momenta") for atoms in frames):
        moving = [stated(a.get_velocities()) if a.has("momenta") else none for a in frames]
        velocities = velocities_from_ase(np.array(moving))
    if any(atoms.pbc.any() for atoms in frames):
        cells = np.array([atoms.cell.array for atoms in frames])
        pbc = np.array([atoms.pbc for atoms in frames])
    results = [getattr(atoms.calc, "results", {}) for atoms in frames]
    times = _gathered([time_of(atoms) for atoms in frames], np.nan)
    energies = _gathered([found.get("energy") for found in results], np.nan)
    forces = _gathered([found.get("forces") for found in results], none)
    positions = np.array([atoms.positions for atoms in frames])
    errors, strides = (
        _gathered([_number(atoms, name) for atoms in frames], np.nan) for name in (EXPECTED, STRIDE)
    )
    return FrameBlock(positions, velocities, times, cells, energies, forces, pbc, errors, strides)


def _number(atoms: Atoms, name: str) -> float | None:
    """Return a number of the atoms' info, None where it has none of the name."""
    value = atoms.info.get(name)
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return float(value)
    return None


def _gathered(parts: Sequence[Any], missing: Any) -> np.ndarray | None:
    if all(part is None for part in parts):
        return None
    return np.array([missing if part is None else part for part in parts], dtype=np.float64)
