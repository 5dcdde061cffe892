"""Lines on standard error, and how long lines are on a terminal."""

from __future__ import annotations

import sys
import textwrap
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

COLUMNS = 80
"""Of a terminal. In a file or a pipe a message stays one line, for programs that read it."""

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def be_quiet(quiet: bool) -> None:
    """Leave out notes, or not; warnings stay."""
    _quiet.set(quiet)


def is_quiet() -> bool:
    """Whether notes are left out."""
    return _quiet.get()


def say(message: str) -> None:
    """Say a line."""
    if not is_quiet():
        print(folded(message, sys.stderr), file=sys.stderr)


def say_warning(message: str | None) -> None:
    """Say a warning, if there is one."""
    if message:
        print(folded(f"ase-atom: warning: {message}", sys.stderr), file=sys.stderr)


@dataclass(frozen=True)
class Note:
    """A line to be said later.

    Parameters
    ----------
    text
        The line.
    is_warning
        Whether it is a warning.
    """

    text: str
    is_warning: bool = False

    def say(self) -> None:
        """Say it."""
        (say_warning if self.is_warning else say)(self.text)


def folded(message: str, stream: TextIO | None, indent: int = 2) -> str:
    """Break a line for a terminal, with the rest of it indented; elsewhere it stays whole."""
    if stream is None or not stream.isatty() or len(message) <= COLUMNS:
        return message
    return textwrap.fill(
        message,
        COLUMNS,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
