"""Whatever goes wrong with a file's contents is one error of the package, in one line."""

from __future__ import annotations

import errno
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from ase_atom.errors import DataError, FileFormatError, TrajectoryError
from ase_atom.io.frames import FrameBlock
from ase_atom.io.guard import reading
from ase_atom.io.reader import TrajectoryReader, TrajectoryWarning

FOREIGN = (
    KeyError("coordinates"),
    ValueError("cannot reshape array"),
    struct.error("unpack requires a buffer of 4 bytes"),
    OverflowError("Python int too large to convert to C long"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    MemoryError(),
    zlib.error("Error -3 while decompressing data"),
    IndexError("list index out of range"),
    RuntimeError("Unable to get group info\n  #000: H5G.c line 1\n\tmajor: Symbol table"),
    AssertionError(),
    RecursionError("maximum recursion depth exceeded"),
    OSError("Unable to synchronously open file (bad superblock version number)"),
    OSError(errno.EINVAL, os.strerror(errno.EINVAL)),
    ZeroDivisionError("division by zero"),
    np.linalg.LinAlgError("SVD did not converge"),
)


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda error: type(error).__name__)
def test_what_parsers_raise_is_one_line_that_names_the_file(foreign: Exception) -> None:
    with pytest.raises(FileFormatError) as caught, reading("run.xyz"):
        raise foreign
    assert str(caught.value).startswith("run.xyz cannot be read: ")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.__cause__ is foreign
    assert isinstance(caught.value, TrajectoryError)


def test_what_the_operating_system_refuses_is_no_matter_of_the_format() -> None:
    with pytest.raises(TrajectoryError, match="Permission denied") as caught, reading("run.xyz"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert not isinstance(caught.value, FileFormatError)


def test_errors_of_the_package_interrupts_and_warnings_pass() -> None:
    for error in (DataError("other"), KeyboardInterrupt(), TrajectoryWarning("cut")):
        with pytest.raises(type(error)) as caught, reading("run.xyz"):
            raise error
        assert caught.value is error


class _Planted(TrajectoryReader):
    """A reader that knows nothing of the guard, and fails where it is told to."""

    broken = ""

    def _fail(self, where: str) -> None:
        if self.broken == where:
            raise KeyError(where)

    def _open(self) -> None:
        self.atom_count = 1
        self._fail("open")

    def __len__(self) -> int:
        self._fail("len")
        return 2

    def _read(self, first: int, count: int) -> FrameBlock:
        self._fail("read")
        return FrameBlock(np.zeros((max(0, min(count, 2 - first)), 1, 3)))

    def _close(self) -> None:
        self._fail("close")

    @property
    def own_numbers(self) -> np.ndarray:
        self._fail("numbers")
        return np.array([500 if self.broken == "element" else 1])

    @property
    def own_masses(self) -> None:
        self._fail("masses")

    def last_time(self) -> float:
        self._fail("last_time")
        return 1.0


LOOKS = {
    "open": lambda reader: reader,
    "len": len,
    "read": list,
    "close": lambda reader: reader.close(),
    "numbers": lambda reader: reader.numbers,
    "element": lambda reader: reader.masses,
    "masses": lambda reader: reader.atoms,
    "last_time": lambda reader: reader.last_time(),
}


@pytest.mark.parametrize("where", LOOKS)
def test_a_reader_is_guarded_without_knowing(where: str) -> None:
    kind = type("Broken", (_Planted,), {"broken": where})
    with pytest.raises(FileFormatError, match=r"run\.xyz cannot be read"):
        LOOKS[where](kind(Path("run.xyz")))


def test_numbers_that_overflow_do_not_warn() -> None:
    with warnings.catch_warnings(), reading("run.xyz"):
        warnings.simplefilter("error")
        assert np.isinf(np.array([1e300]) * 1e300).all()
