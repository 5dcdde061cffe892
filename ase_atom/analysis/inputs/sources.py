"""From files to trajectories: what `ase_atom.io` reads, reference bursts, and npz archives."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms

from ase_atom.analysis.inputs.archives import read_npz
from ase_atom.analysis.inputs.bursts import read_bursts
from ase_atom.analysis.inputs.trajectory import EVEN, Segment, Trajectory, split_runs
from ase_atom.errors import DataError
from ase_atom.errors.values import file_path
from ase_atom.io.bursts import is_bursts
from ase_atom.io.frames import FrameBlock
from ase_atom.io.guard import check_file
from ase_atom.molecules.coverage import MASS_TOLERANCE
from ase_atom.molecules.whole import made_whole
from ase_atom.units import format_charge

_ROUNDING = 1e-3  # Å; a cell moves an atom by more than that


def load_trajectory(
    path: str | Path,
    topology: Atoms | str | Path | None = None,
    *,
    frame_interval: float | None = None,
    molecule: str | None = None,
    temperature: float | None = None,
    charge: int | None = None,
) -> Trajectory:
    """Read a trajectory wholly into memory.

    Parameters
    ----------
    path
        A trajectory that `ase_atom.io` reads; a file of reference bursts as ``training.generate``
        makes them; an npz archive of MD17 or rMD17, or of arrays ``numbers``, ``positions`` and, if
        there are any, ``velocities``, ``times`` and ``energies`` in Å, fs and eV; or a folder of
        such files, each of which is a run of its own.
    topology
        Elements of the atoms, and masses of isotopes, for formats that do not say.
    frame_interval
        fs, for files without times of their own; those of a file may not differ from it.
    molecule
        Which one, where a file holds bursts of several: its name there.
    temperature
        Take only bursts thermalised at this temperature, K.
    charge
        Total charge in e, for files that do not state it; those of a file may not differ from it.

    Raises
    ------
    DataError
        If what is read does not fit together, nothing is left, or the file has other times or
        another charge.
    TrajectoryError
        If a file cannot be read.
    """
    path = file_path("a trajectory", path)
    if path.is_dir():
        found = [
            _read(file, topology, molecule, temperature, frame_interval)
            for file in sorted(path.iterdir())
            if file.is_file() and _kind_of(file) is not None and not file.name.startswith(".")
        ]
        if not found:
            raise DataError(f"the folder {path} holds no trajectory")
        trajectory = _joined(path, found)
    else:
        check_file(path, "trajectory")
        trajectory = _read(path, topology, molecule, temperature, frame_interval)
    if frame_interval is not None and not _has_times(trajectory, frame_interval):
        runs = tuple(
            replace(run, times=frame_interval * np.arange(len(run))) for run in trajectory.segments
        )
        trajectory = replace(trajectory, segments=runs).noting(
            f"frames were taken as {frame_interval:g} fs apart, as given"
        )
    return _with_charge(trajectory, charge).checked()


def _with_charge(trajectory: Trajectory, told: int | None) -> Trajectory:
    own = trajectory.stated_charge
    if told is None or own == told:
        return trajectory
    if own is not None:
        raise DataError(
            f"{trajectory.name} states a charge of {format_charge(own)}, not {format_charge(told)} "
            "as given: leave the charge out, or correct it in the file"
        )
    return replace(trajectory, stated_charge=told)


def _has_times(trajectory: Trajectory, told: float) -> bool:
    """Whether there are times already, which have to be those that are told."""
    own = trajectory.interval
    if own is not None and abs(own - told) > EVEN * told:
        raise DataError(
            f"frames of {trajectory.name} are {own:.4g} fs apart by its own times, not {told:g} fs "
            "as given: leave the interval out, or correct the times in the file"
        )
    return own is not None


def _read(
    path: Path,
    topology: Atoms | str | Path | None,
    molecule: str | None,
    temperature: float | None,
    frame_interval: float | None,
) -> Trajectory:
    kind = _kind_of(path)
    if kind == "bursts":
        return read_bursts(path, molecule, temperature)
    if kind == "archive":
        return read_npz(path, assume_times=frame_interval is None)
    return _read_frames(path, topology)


def _kind_of(path: Path) -> Literal["bursts", "archive", "frames"] | None:
    """Say what a file is by its ending, and None where it is nothing to be read."""
    from ase_atom.io.formats import formats

    ending = path.suffix.lower()
    if ending == ".npz":
        return "archive"
    if ending in (".h5", ".hdf5") and is_bursts(path):
        return "bursts"
    beside = ending == ".pdb" and any(
        path.with_suffix(other).exists()
        for one in formats()
        for other in one.endings[:1]
        if other != ".pdb"
    )
    if any(ending in one.endings for one in formats()) and not beside:
        return "frames"
    return None


def _joined(path: Path, parts: Sequence[Trajectory]) -> Trajectory:
    first = parts[0]
    for part in parts[1:]:
        if not np.array_equal(part.numbers, first.numbers):
            raise DataError(
                f"{part.name} and {first.name} in {path} hold different atoms, or in another order"
            )
        if not np.allclose(part.masses, first.masses, rtol=0, atol=MASS_TOLERANCE):
            raise DataError(f"{part.name} and {first.name} in {path} hold different isotopes")
    shared = {k: v for k, v in first.facts.items() if all(p.facts.get(k) == v for p in parts)}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Trajectory(
        str(path),
        first.numbers,
        first.masses,
        tuple(run for part in parts for run in part.segments),
        shared,
        notes,
        checksums={key: value for part in parts for key, value in part.checksums.items()},
        stated_charge=_shared_charge(path, parts),
    )


def _shared_charge(path: Path, parts: Sequence[Trajectory]) -> int | None:
    """Return the one charge that files state, None if none does."""
    stated = {p.stated_charge: p.name for p in parts if p.stated_charge is not None}
    if len(stated) > 1:
        first, second = list(stated)[:2]
        raise DataError(
            f"{stated[first]} and {stated[second]} in {path} are of different molecules: their "
            f"charges are {format_charge([first, second])}"
        )
    return next(iter(stated), None)


def _read_frames(path: Path, topology: Atoms | str | Path | None) -> Trajectory:
    from ase_atom.io import TrajectoryWarning, read_trajectory
    from ase_atom.io.topology import names_beside

    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrajectoryWarning)
        with read_trajectory(path, topology) as reader:
            numbers, masses = np.asarray(reader.numbers, dtype=np.int64), reader.masses
            charge = reader.charge
            blocks = list(reader)
            names = tuple(names_beside(path, reader.atoms)) if blocks else ()
    notes += [str(one.message) for one in caught if issubclass(one.category, TrajectoryWarning)]
    if not blocks:
        raise DataError(f"{path} holds no whole frame")
    for name in ("velocities", "times"):
        held = [getattr(block, name) is not None for block in blocks]
        if any(held) and not all(held):
            notes.append(f"only some of its frames have {name}, which were not used")
    if any(b.energies is not None and not np.isfinite(b.energies).all() for b in blocks):
        notes.append("only some of its frames have energies, which were not used")
    positions = np.concatenate([block.positions for block in blocks]).astype(np.float64)
    followed = _followed(positions, blocks)
    if not np.array_equal(followed, positions):
        notes.append("the molecule was made whole and followed through the walls of its cell")
    whole = Segment(
        followed,
        _concatenated(blocks, "velocities"),
        _concatenated(blocks, "times"),
        energies=_concatenated(blocks, "energies"),
        expected_errors=_with_gaps(blocks, "expected_errors"),
        strides=_with_gaps(blocks, "strides"),
        name=str(path),
    )
    runs, more = split_runs(whole)
    return Trajectory(
        str(path),
        numbers,
        masses,
        tuple(runs),
        {},
        (*notes, *more),
        names=names,
        stated_charge=charge,
    )


def _followed(positions: np.ndarray, blocks: Sequence[FrameBlock]) -> np.ndarray:
    """Return positions ``[T, N, 3]`` of a molecule that periodic cells may have cut or moved."""
    if all(block.cells is None for block in blocks):
        return positions
    cells = [np.zeros((len(b), 3, 3)) if b.cells is None else b.cells for b in blocks]
    pbc = [np.ones((len(b), 3), bool) if b.pbc is None else b.pbc for b in blocks]
    found = made_whole(positions, np.concatenate(cells), np.concatenate(pbc))
    # Adding up the differences of atoms rounds.
    return positions if np.abs(found - positions).max() < _ROUNDING else found


def _with_gaps(blocks: Sequence[FrameBlock], name: str) -> np.ndarray | None:
    """Return a number of each frame, not a number where there is none; None if there are none."""
    parts = [getattr(block, name) for block in blocks]
    if all(part is None for part in parts):
        return None
    filled = [
        np.full(len(block), np.nan) if part is None else part
        for block, part in zip(blocks, parts, strict=True)
    ]
    return np.concatenate(filled).astype(np.float64)


def _concatenated(blocks: Sequence[object], name: str) -> np.ndarray | None:
    parts = [getattr(block, name) for block in blocks]
    if any(part is None for part in parts):
        return None
    array = np.concatenate(parts).astype(np.float64)
    # Readers mark an energy that a frame lacks as not a number.
    return None if name == "energies" and not np.isfinite(array).all() else array
