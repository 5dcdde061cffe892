"""The one place where what goes wrong with a file's contents becomes an error of this package.

Parsers raise whatever they hit: `KeyError`, `struct.error`, `OverflowError`, `zlib.error`, HDF5's
own. `reading` turns all of it into one line that names the file. Trajectory readers do not call
it: `Guarded` puts it around every method of theirs that looks at the file.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ase_atom.errors import AtomError, FileFormatError, TrajectoryError

# What the operating system says if it is asked for a place that no file has.
_NO_PLACE = (errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)
_LONGEST = 160  # characters of another library's message


@contextmanager
def reading(
    path: str | Path,
    error: type[AtomError] | None = None,
    what: str = "cannot be read",
    advice: str = "",
) -> Iterator[None]:
    """Let nothing but this package's errors out of a block that reads a file.

    Warnings that were made errors and interrupts pass. Numbers that overflow do not warn: whoever
    reads looks whether they are finite.

    Parameters
    ----------
    path
        The file, for the message.
    error
        What to raise for contents that cannot be read; `FileFormatError` by default. What the
        operating system refuses is then of this kind too.
    what, advice
        What is said of the file before the reason, and after it.

    Raises
    ------
    FileFormatError
        For contents that cannot be read.
    TrajectoryError
        For a file that the operating system does not give.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except (AtomError, Warning):
        raise
    except Exception as caught:
        if isinstance(caught, OSError) and caught.errno and caught.errno not in _NO_PLACE:
            kind = TrajectoryError if error is None else error
            raise kind(f"cannot read {path}: {caught.strerror or caught}") from caught
        kind = FileFormatError if error is None else error
        after = f"; {advice}" if advice else ""
        raise kind(f"{path} {what}: {_reason(caught)}{after}") from caught


def check_file(path: str | Path, what: str) -> None:
    """Check that there is a file to read.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, for the message: ``trajectory``, ``structure file``.

    Raises
    ------
    TrajectoryError
        If there is none, or a folder, a pipe, a device or links that go in a circle.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise TrajectoryError(f"the {what} {path} does not exist") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TrajectoryError(f"cannot read {path}: {reason}") from error
    if stat.S_ISDIR(mode):
        raise TrajectoryError(f"the {what} {path} is a folder, not a {what}")
    if not stat.S_ISREG(mode):
        raise TrajectoryError(f"the {what} {path} is a pipe or a device: save it to a file first")


def refusal(path: str | Path, reason: str) -> FileFormatError:
    """Return the error for a file that cannot be read, with the reason as one line."""
    return FileFormatError(f"{path} cannot be read: {one_line(reason)}")


def one_line(text: str) -> str:
    """Return a message of another library as one line of bounded length."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_LONGEST]


def _reason(caught: Exception) -> str:
    if isinstance(caught, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(caught, RecursionError):
        return "its contents are nested too deeply"
    if isinstance(caught, ValueError | OSError) and str(caught):
        return one_line(str(caught))
    kind = type(caught)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return one_line(f"its contents are damaged ({name}: {caught})")


class Guarded:
    """Base of classes whose methods look at the file ``self.path``.

    Methods and properties named in ``looks`` stand inside `reading`, in every subclass that
    defines them.
    """

    looks: ClassVar[tuple[str, ...]] = ()
    path: Path

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in cls.looks:
            own = cls.__dict__.get(name)
            if isinstance(own, property) and own.fget is not None:
                setattr(cls, name, property(_guarded(own.fget), doc=own.__doc__))
            elif callable(own):
                setattr(cls, name, _guarded(own))


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def inside(self: Guarded, *args: Any, **kwargs: Any) -> Any:
        with reading(self.path):
            return method(self, *args, **kwargs)

    return inside
