"""Sections that Ctrl-C does not cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

# Those that scripts and batch systems turn into exceptions, Ctrl-C first.
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")
    if hasattr(signal, name)
)


class Uninterrupted:
    """A block into which no signal's handler breaks; it is called at the end of the block.

    For bookkeeping that must be done as a whole, such as a frame and its count. Signals that have
    no handler of Python's act as ever. Threads other than the main one are not interrupted anyway.
    """

    def __enter__(self) -> None:
        self._waiting: list[int] = []
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._wait)
        except BaseException:
            self._restore()
            raise

    def __exit__(self, *exception: object) -> None:
        self._restore()
        for number in self._waiting:
            signal.raise_signal(number)

    def _wait(self, number: int, _: FrameType | None) -> None:
        self._waiting.append(number)

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
