"""Bursts: ordinary jumps from each sample of a leaping run, as trajectories of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from ase_atom.ase.replicas import ReplicaFiles
from ase_atom.cli.batch import Batch
from ase_atom.cli.messages import say
from ase_atom.cli.report import Row
from ase_atom.cli.request import RunRequest
from ase_atom.cli.start import Plan, seeds
from ase_atom.errors import ConfigError
from ase_atom.io.room import check_room
from ase_atom.propagation import Frames, Propagator
from ase_atom.propagation.propagator import roll_out
from ase_atom.units import format_time

_NAME = re.compile(r"(.+)-\d{7,}")


class Bursts:
    """Write a burst from each frame of a run of leaps, frame 0 left out.

    A burst begins at the sample and is a simulation of the same ensemble by jumps, with a frame
    for each jump. The next leap begins at the sample, too, not at the burst's end. The noise of a
    burst follows from the seed of the run and its number, so that a run that goes on makes the
    same ones.

    Parameters
    ----------
    plan
        Of the run.
    duration
        Of a burst, fs.
    rows
        Replicas, each with its file.
    seed
        Of the run.
    fresh
        Whether the run begins, so that bursts that are there are another's, to be replaced.

    Attributes
    ----------
    written, broken
        How many there are, and how many of them ended early.
    """

    def __init__(
        self, plan: Plan, duration: float, rows: Sequence[Row], seed: int, fresh: bool
    ) -> None:
        self._plan, self._duration, self._rows, self._seed = plan, duration, rows, seed
        self.folder = folder_of(rows)
        self.folder.mkdir(exist_ok=True)
        if fresh:
            for file in bursts_in(self.folder, rows):
                file.unlink()
        self.written = self.broken = 0

    def take(self, frames: Frames) -> None:
        """Make the bursts of some frames."""
        for index, time in enumerate(frames.times.tolist()):
            rows = frames.valid[:, index].nonzero().flatten()
            number = round(time / self._plan.interval)
            if number and len(rows):
                self._make(frames, index, rows, number)

    def _make(self, frames: Frames, index: int, rows: torch.Tensor, number: int) -> None:
        plan, chosen = self._plan, [self._rows[row] for row in rows.tolist()]
        seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
        propagator = Propagator(
            plan.operator,
            frames.state(index).select(rows),
            plan.ensemble,
            plan.jump,
            seed=seed,
            drop_broken=True,
        )
        files = [self.folder / f"{row.file.stem}-{number:07d}{row.file.suffix}" for row in chosen]
        with ExitStack() as stack:
            # What is there is of this run, before it was interrupted.
            writers = ReplicaFiles(files, [row.atoms for row in chosen], plan.jump, overwrite=True)
            stack.enter_context(writers)
            wants = plan.operator.has_energy and any(
                writer.holds_energies for writer in writers.writers
            )
            for block in roll_out(propagator, self._duration):
                energies = None
                if wants:
                    energies = plan.operator.energy(block.flat()).view(block.valid.shape).cpu()
                writers.write(block, energies)
        self.written += len(files)
        self.broken += len(propagator.broken)

    def report(self) -> None:
        """Say how many there are."""
        early = f", {self.broken} of which ended early" if self.broken else ""
        say(f"{self.folder}: {self.written} bursts of {format_time(self._duration)}{early}")


def folder_of(rows: Sequence[Row]) -> Path:
    """Folder of bursts, beside the first trajectory."""
    first = rows[0].file
    return first.with_name(f"{first.stem}-bursts")


def bursts_in(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Files in a folder that have the names of bursts of some rows, topologies included."""
    stems = {row.file.stem for row in rows}
    return [
        file
        for file in folder.iterdir()
        if (found := _NAME.fullmatch(file.stem)) and found[1] in stems
    ]


def make_bursts(batch: Batch) -> Bursts | None:
    """Return what makes the bursts of a run, where they are asked for."""
    request = batch.request
    if request.burst is None:
        return None
    fresh = batch.done is None
    return Bursts(batch.plan, request.burst, batch.rows, seeds(request)[1], fresh)


def check_bursts(request: RunRequest, plan: Plan, rows: Sequence[Row]) -> None:
    """Check that bursts can be made and have a place.

    Raises
    ------
    ConfigError
        Without leaps; for bursts longer than a leap or shorter than a jump; or where there are
        bursts of another run.
    TrajectoryError
        If there is no room for them.
    """
    if request.burst is None:
        return
    burst = format_time(request.burst)
    if not plan.leaps:
        raise ConfigError(
            f"--burst {burst} goes with leaps: give a --stride of at least 0.5 ps, or leave it out"
        )
    if not plan.jump <= request.burst <= plan.stride:
        raise ConfigError(
            f"--burst {burst} must be from a jump of {format_time(plan.jump)} to a leap of "
            f"{format_time(plan.stride)} long"
        )
    folder = folder_of(rows)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose another --output for the bursts' folder")
    if folder.exists() and bursts_in(folder, rows) and not request.overwrite:
        raise ConfigError(
            f"{folder} holds bursts of another run: --overwrite replaces them, or choose another "
            "--output"
        )
    frames = round(plan.duration / plan.interval) * (round(request.burst / plan.jump) + 1)
    check_room([row.file for row in rows], [len(row.atoms) for row in rows], frames)
