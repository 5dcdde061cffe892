"""Frames from a propagator to files and summary, under a progress bar."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ase_atom.cli.messages import is_quiet
from ase_atom.cli.report import ns_per_day
from ase_atom.propagation import Frames
from ase_atom.units import format_time


def march(
    frames: Iterator[Frames],
    end: float,
    molecules: int,
    begin: float,
    take: Callable[[Frames], None],
) -> None:
    """Hand on the frames as they come, under a progress bar where there is a terminal.

    Parameters
    ----------
    frames
        From a propagator.
    end
        Time of the last one in fs.
    molecules
        How many march.
    begin
        Time of the last one that is there already.
    take
        Takes them.
    """
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=is_quiet() or not console.is_terminal,
    )
    started = clock.perf_counter()
    with progress:
        task = progress.add_task("", total=end, rate="")
        progress.update(task, completed=begin)
        for block in frames:
            take(block)
            now = float(block.times[-1])
            speed = ns_per_day((now - begin) * molecules, clock.perf_counter() - started)
            progress.update(
                task,
                completed=now,
                description=f"{format_time(now)} of {format_time(end)}",
                rate=f"{speed:.3g} ns/day",
            )
