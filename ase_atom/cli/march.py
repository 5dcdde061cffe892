"""A run under a progress bar."""

from __future__ import annotations

import time as clock

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ase_atom.cli.report import ns_per_day
from ase_atom.propagation import Propagator
from ase_atom.replicas import ReplicaFiles
from ase_atom.summary import RunSummary
from ase_atom.units import format_time


def march(
    propagator: Propagator, duration: float, files: ReplicaFiles, summary: RunSummary
) -> None:
    """Write the frames as they come, under a progress bar where there is a terminal."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    molecules = propagator.state.batch_size
    started = clock.perf_counter()
    with progress:
        task = progress.add_task("", total=duration, rate="")
        for frames in propagator.run(duration):
            files.write(frames)
            summary.add(frames)
            now = summary.last_time
            speed = ns_per_day(now * molecules, clock.perf_counter() - started)
            progress.update(
                task,
                completed=now,
                description=f"{format_time(now)} of {format_time(duration)}",
                rate=f"{speed:.3g} ns/day",
            )
