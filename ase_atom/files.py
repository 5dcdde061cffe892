"""Files that appear under their names complete or not at all, and their digests."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESTART_INTERVAL = 500
"""Jumps between two restart files: some seconds, which is what a killed run loses at the most."""


def is_same_file(first: str | Path, second: str | Path) -> bool:
    """Return whether two paths lead to one file, by symbolic or hard links too."""
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):  # one is not there yet
        return os.path.realpath(first) == os.path.realpath(second)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name to write to, which replaces the file once it is complete and on the disk.

    Its folder is made. What a killed process leaves behind is called ``.NAME.PID.tmp``. Of a
    symbolic link, the file that it leads to is replaced.

    Raises
    ------
    OSError
        If it is a folder or a device, or cannot be written, as on a full disk. It names the file,
        which the operating system does not.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, place)
        _sync_folder(place.parent)
    except OSError as error:
        if error.filename in (None, str(unfinished), unfinished):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file in place of the one there; ``write`` is given a name that ends in ``.tmp``."""
    with replacing(path) as unfinished:
        write(unfinished)


def replace_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, in place of the one there."""
    replace_file(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
