"""Trajectories of others as what leaps learn from: positions alone, at whatever interval."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ase_atom.errors import DataError
from ase_atom.io import read_trajectory
from ase_atom.io.reader import TrajectoryReader
from ase_atom.operator.leap import LeapDecoder
from ase_atom.operator.leap.card import memory
from ase_atom.units import PS, format_time
from training.importing.checking import check_masses
from training.leap.checks import check_alike, check_molecule
from training.leap.command import learned
from training.leap.config import LeapTrainingConfig
from training.leap.teacher import ENDING, TeacherRun, write_run

HELD_OUT = 1 / 6
"""Last part of each file, which is not learned from."""

INDEPENDENT = 20
"""Lags that trajectories must be long in all, for the longest lag that is learned."""

USUAL, MANY = 16.0 * PS, 200
"""Longest lag unless trajectories are longer than so many times as much, fs."""

LONGEST = 0.8
"""Part of a file's stretch that a pair may be apart."""

_BELOW = 0.64
"""Part of the shortest leap that is learned, too: settling takes some of it."""

BLOCKS = 8
"""Parts of a held-out stretch, which errors are from; where it is long, of two lags at least."""

EVEN = 1e-3
"""By how much of the interval times of frames may be off, beside rounding to single precision."""


@dataclass(frozen=True)
class Source:
    """What a user knows of trajectories, beside what is in their files.

    Attributes
    ----------
    files
        Of one molecule.
    temperatures
        K, one for all or one for each file.
    friction
        1/fs.
    topology
        Structure or PSF file, for formats without elements.
    interval
        Between frames, fs, for files that do not say.
    thermostat
        What it was, if not Langevin's.
    """

    files: Sequence[Path]
    temperatures: Sequence[float]
    friction: float
    topology: Path | None = None
    interval: float | None = None
    thermostat: str | None = None

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise DataError("positions do not say how hot they are: give --temperature in K")
        if len(self.temperatures) not in (1, len(self.files)):
            raise DataError(
                f"{len(self.temperatures)} times --temperature for {len(self.files)} trajectories: "
                "give one for all, or one for each in their order"
            )
        for name, values in (
            ("--temperature", self.temperatures),
            ("--friction", [self.friction]),
            ("--interval", [] if self.interval is None else [self.interval]),
        ):
            for value in values:
                if not 0 < value < float("inf"):
                    raise DataError(f"{name} is {value:g}: it must be above 0")
        seen = [file.resolve() for file in self.files]
        for file, place in zip(self.files, seen, strict=True):
            if seen.count(place) > 1:
                raise DataError(f"{file} is given twice: what is held out would be learned from")


@dataclass(frozen=True)
class Learnable:
    """Trajectories, checked and divided.

    Attributes
    ----------
    runs, held_out
        Of each file what to learn from, and its end, in blocks as replicas.
    lags
        Shortest and longest that they allow, fs.
    atoms
        The molecule in the first frame.
    """

    runs: list[TeacherRun]
    held_out: list[TeacherRun]
    lags: tuple[float, float]
    atoms: Atoms


def read_source(source: Source) -> Learnable:
    """Read trajectories and check that leaps can be learned from them.

    Raises
    ------
    DataError
        Naming file, frame and atoms of what cannot be learned from.
    TrajectoryError
        If a file cannot be read.
    """
    kelvin = list(source.temperatures) * (len(source.files) // len(source.temperatures))
    runs: list[TeacherRun] = []
    first: Atoms | None = None
    for file, temperature in zip(source.files, kelvin, strict=True):
        atoms, run = _read(file, source, temperature)
        if first is None:
            first = atoms
        check_alike(file, atoms.numbers, atoms.positions, first, source.files[0])
        runs.append(run)
    assert first is not None
    return _divided(runs, first)


def train_on(
    source: Source,
    found: Learnable,
    config: LeapTrainingConfig,
    folder: Path,
    command: str,
    parent: LeapDecoder | None = None,
) -> LeapDecoder:
    """Train leaps on trajectories, and return the decoder.

    What is held out is kept in the folder ``held-out``, for `training.leap.evaluate`.

    Parameters
    ----------
    source, found
        The trajectories, as described and as read.
    config
        Of the training; lags are those that the trajectories allow.
    folder
        Of checkpoints and what is held out.
    command
        For the card.
    parent
        Leaps whose weights a new training begins with.

    Raises
    ------
    ConfigError
        If the folder holds a training with other settings, or the parent is of others.
    """
    shortest, longest = found.lags
    least = max(_BELOW * shortest, *(run.interval for run in found.runs))
    place = folder / "held-out"
    place.mkdir(parents=True, exist_ok=True)
    for index, run in enumerate(found.held_out):
        write_run(place / f"{source.files[index].stem}-{index}{ENDING}", run)
    names = ", ".join(file.name for file in source.files)
    moved = "Langevin dynamics" if source.thermostat is None else source.thermostat
    other = (
        ""
        if source.thermostat is None
        else "; the molecule as a whole moves as in Langevin dynamics at the friction given"
    )
    return learned(
        found.runs,
        config.model_copy(update={"lags": (least, longest)}),
        folder,
        held_out=found.held_out,
        parent=parent,
        lags_fs=found.lags,
        training_command=command,
        notes=f"learned from positions of {names} by {moved}{other}",
    )


def _read(path: Path, source: Source, kelvin: float) -> tuple[Atoms, TeacherRun]:
    with read_trajectory(path, source.topology) as reader:
        atoms = reader.atoms
        check_masses(str(path), atoms.numbers, reader.masses)
        blocks = [(block.positions, block.times, block.cells) for block in reader]
        periodic = any(cells is not None for _, _, cells in blocks)
        x = np.concatenate([positions for positions, _, _ in blocks]).astype(np.float32)
        interval = _interval(path, reader, [times for _, times, _ in blocks], source.interval)
    smiles = check_molecule(path, atoms, x, periodic)
    masses = torch.from_numpy(atoms.get_masses())
    numbers = torch.from_numpy(atoms.numbers.astype(np.int64))
    mark = hashlib.sha256(x.tobytes()).hexdigest()[:16]
    run = TeacherRun(
        *(smiles, numbers, masses, torch.from_numpy(x)[None]),
        *(interval, kelvin, source.friction, f"positions of {path.name}, {mark}"),
    )
    return atoms, run


def _interval(
    path: Path,
    reader: TrajectoryReader,
    times: Sequence[NDArray | None],
    given: float | None,
) -> float:
    """Time between frames in fs, which must be the same between all."""
    if len(reader) < 3:
        raise DataError(f"{path} holds {len(reader)} frames: too few to learn from")
    if any(part is None for part in times):
        if given is None:
            raise DataError(f"{path} does not say how far frames are apart: give --interval")
        return given
    when = np.concatenate([part for part in times if part is not None])
    gaps = np.diff(when)
    interval = float(np.median(gaps))
    rounding = 4 * float(np.finfo(np.float32).eps) * float(np.abs(when).max())
    if interval <= rounding:
        if given is not None and not gaps.any():
            return given  # all frames carry one time, as files do that say none
        raise DataError(f"{path}: the time does not go on from frame to frame: give --interval")
    uneven = np.flatnonzero(np.abs(gaps - interval) > EVEN * interval + rounding)
    if len(uneven):
        frame = int(uneven[0])
        raise DataError(
            f"{path}: frames {frame} and {frame + 1} are {_apart(gaps[frame])} apart, and others "
            f"{format_time(interval)}: cut it where frames are missing or another run begins, and "
            "give the parts as files of their own"
        )
    interval = float(when[-1] - when[0]) / len(gaps)
    if given is not None and abs(interval / given - 1) > EVEN:
        raise DataError(
            f"{path}: its frames are {format_time(interval)} apart, not {format_time(given)} as "
            "--interval says"
        )
    return interval if given is None else given


def _apart(gap: float) -> str:
    return f"{'-' if gap < 0 else ''}{format_time(abs(gap))}" if gap else "no time"


def _divided(runs: list[TeacherRun], atoms: Atoms) -> Learnable:
    """Cut off the end of each run, and find the lags that what is left allows."""
    cuts = [round(run.positions.shape[1] * (1 - HELD_OUT)) for run in runs]
    learned = [
        replace(run, positions=run.positions[:, :cut]) for run, cut in zip(runs, cuts, strict=True)
    ]
    shortest = max(memory(runs[0].friction), *(run.interval for run in runs))
    total, piece = sum(run.duration for run in learned), min(run.duration for run in learned)
    longest = min(LONGEST * piece, total / INDEPENDENT, max(USUAL, total / MANY))
    if longest < 2 * shortest:
        raise DataError(
            f"too short: of {format_time(sum(run.duration for run in runs))} of trajectory a part "
            f"of {1 - HELD_OUT:.2f} is learned from, which allows lags of up to "
            f"{format_time(longest)}, and the shortest here is {format_time(shortest)} (five "
            f"times the memory of velocities, and the interval of frames): give "
            f"{format_time(2 * INDEPENDENT * shortest / (1 - HELD_OUT))} or more"
        )
    return Learnable(
        learned,
        [
            _in_blocks(replace(run, positions=run.positions[:, cut:]), longest)
            for run, cut in zip(runs, cuts, strict=True)
        ],
        (shortest, longest),
        atoms,
    )


def _in_blocks(run: TeacherRun, longest: float) -> TeacherRun:
    """A run of one stretch as several replicas."""
    frames = run.positions.shape[1]
    count = int(min(BLOCKS, max(2, run.duration // (2 * longest))))
    size = frames // count
    x = run.positions[0, : count * size]
    return replace(run, positions=x.reshape(count, size, *x.shape[1:]))
