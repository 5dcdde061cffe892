"""npz archives of unknown origin: arrays of numbers and texts, within bounds, and no objects."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ase_atom.io.bounds import Budget

_SUFFIX = ".npy"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class PlainArchive(Mapping[str, NDArray[Any]]):
    """The arrays of an npz archive by name; also a context manager.

    Arrays of Python objects, which only unpickling could read, are not among them. The memory that
    an array takes is checked before it is taken.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    objects
        Names of the arrays of Python objects.

    Raises
    ------
    zipfile.BadZipFile, OSError, ValueError
        If it is no such archive.
    """

    def __init__(self, path: str | Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._budget = Budget(Path(path).stat().st_size)
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.objects: list[str] = []
        try:
            for member in self._zip.infolist():
                if not member.filename.endswith(_SUFFIX):
                    continue
                name = member.filename.removesuffix(_SUFFIX)
                with self._zip.open(member) as file:
                    if _read_header(file)[1].hasobject:
                        self.objects.append(name)
                    else:
                        self._members[name] = member
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read an array.

        Raises
        ------
        KeyError
            If there is none of numbers or texts under this name.
        ValueError
            If it is damaged, or larger than its file can hold.
        """
        member = self._members[name]
        with self._zip.open(member) as file:
            shape, kind = _read_header(file)
            size = math.prod(shape) * kind.itemsize
            head = file.tell()
            if size != member.file_size - head:
                raise ValueError(
                    f"its array {name} should take {size} bytes by its shape {list(shape)}, and "
                    f"takes {member.file_size - head}"
                )
            self._budget.take(size, f"its array {name}")
            file.seek(0)
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __enter__(self) -> PlainArchive:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it holds an array in version {version} of NumPy's format")
    shape, _, kind = _HEADERS[version](file)
    if any(length < 0 for length in shape):
        raise ValueError(f"it holds an array of the shape {list(shape)}")
    return shape, kind
