"""Output files: one writer each, and no writer for what is no file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import FileIO
from pathlib import Path

from ase_atom.errors import TrajectoryError, TrajectoryWarning
from ase_atom.errors.warning import warn

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

KEPT = "{} exists and is kept; --overwrite (mode='w') replaces it"
_BEING_WRITTEN = (
    "{} is being written already, by another process or by a writer that is not closed: wait for "
    "its end, or choose another name"
)
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def check_no_special(file: Path) -> None:
    """Check that an output is a file or nothing yet.

    Raises
    ------
    TrajectoryError
        For a folder, a pipe, a device, or links that go in a circle.
    """
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TrajectoryError(f"cannot write {file}: {reason}") from error
    if stat.S_ISDIR(mode):
        raise TrajectoryError(f"the output {file} is a folder; name a file")
    if not stat.S_ISREG(mode):
        raise TrajectoryError(
            f"the output {file} is a pipe or a device, and trajectories go back to their beginning "
            "to count frames; name a file"
        )


def check_unlocked(path: Path) -> None:
    """Check that nobody writes a file at the moment, without opening it for writing.

    Raises
    ------
    TrajectoryError
        If somebody does.
    """
    if fcntl is None or not path.is_file():
        return
    with contextlib.suppress(OSError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise TrajectoryError(_BEING_WRITTEN.format(path)) from error


def lock_output(path: Path, new: bool = False) -> FileIO:
    """Open an output for reading and writing, unbuffered, as the only one who writes it.

    What it holds is left as it is.

    The lock is on the open file itself and ends with it, or with the process. On network file
    systems it holds between machines where these lock files at all.

    Parameters
    ----------
    path
        The file; made if there is none.
    new
        Refuse one that is there.

    Raises
    ------
    TrajectoryError
        If somebody writes it already, or it is there and must not be.
    OSError
        If it cannot be opened.

    Warns
    -----
    TrajectoryWarning
        If its file system locks no files.
    """
    check_no_special(path)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    if new:
        flags |= os.O_EXCL
    try:
        file = FileIO(os.open(os.path.realpath(path), flags, 0o666), "r+")
    except FileExistsError as error:
        raise TrajectoryError(KEPT.format(path)) from error
    try:
        _lock(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: FileIO, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise TrajectoryError(_BEING_WRITTEN.format(path)) from error
        if error.errno not in _NO_LOCKS:
            raise
        text = f"the file system of {path} locks no files: see to it that nobody else writes it"
        warn(text, TrajectoryWarning)
        return
    if not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
        raise TrajectoryError(f"{path} was replaced by another process meanwhile")
