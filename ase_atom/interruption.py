"""Ctrl-C, and a polite kill, which ends a command in the same way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A command that was interrupted and knows what it leaves behind.

    Parameters
    ----------
    left
        What there is and how it goes on, for the user; empty if that has been said.
    number
        The signal; None for that which came last.
    """

    def __init__(self, left: str = "", number: int | None = None) -> None:
        super().__init__(left)
        self.left, self.number = left, number


def was_interrupted(error: BaseException) -> bool:
    """Whether an error comes of an interrupt, as of an import that was cut in two."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        if isinstance(link, KeyboardInterrupt):
            return True
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return False


@contextmanager
def polite_kill() -> Iterator[list[int]]:
    """Let SIGTERM, as of ``kill``, ``timeout`` and batch systems, raise a KeyboardInterrupt.

    Only where it would end the process at once, and in the main thread, which alone is told of
    signals.

    Yields
    ------
    A list, to which the number is added when it comes.
    """
    came: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield came
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
