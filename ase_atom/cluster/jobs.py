"""Jobs on workers: no more under way than these ask for, until all are done or a signal comes."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from ase_atom.cluster.workers import Workers

Job = TypeVar("Job")

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run_jobs(
    waiting: deque[Job],
    workers: Workers,
    start: Callable[[Job], Future[Any]],
    take: Callable[[Job, Future[Any]], None],
) -> int | None:
    """Run jobs on workers, in order.

    Parameters
    ----------
    waiting
        The jobs. Those that are put back while others run are run too.
    workers
        Say how many may be under way.
    start
        Submits one.
    take
        Is given each with its future, once that is done.

    Returns
    -------
    The number of the interrupt or termination that ended it early, if one did.
    """
    pending: dict[Future[Any], Job] = {}
    with _noted_signals() as signals:
        while (waiting or pending) and not signals:
            while waiting and len(pending) < workers.depth():
                job = waiting.popleft()
                pending[start(job)] = job
            ready = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED).done
            for future in [each for each in pending if each in ready]:
                take(pending.pop(future), future)
    return signals[0] if signals else None


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Collect interrupts and terminations in a list in place of acting on them."""
    noted: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: noted.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Progress:
    """A title and a progress bar on a terminal, a line for each job in a log file.

    Parameters
    ----------
    title
        Shown first.
    what
        What the jobs make.
    quiet
        Show nothing.
    """

    def __init__(self, title: str, what: str, quiet: bool = False) -> None:
        self._title, self._quiet = title, quiet
        self._progress = RichProgress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, done: int, total: int, line: str) -> None:
        """Show how far it is; the first call, after all checks, starts the display."""
        if self._quiet:
            return
        if self._title:
            console.print(self._title, markup=False)
            self._title = ""
            self._progress.start()
        latest = line.partition(":")[0]  # the whole line would push the bar off a narrow terminal
        self._progress.update(self._task, completed=done, total=total, description=latest)
        if not console.is_terminal:
            console.print(f"[{done}/{total}] {line}", markup=False)
