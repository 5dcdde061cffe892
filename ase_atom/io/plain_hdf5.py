"""HDF5 files of unknown origin: numbers and short texts that lie in the file itself, nothing else.

PyTables, and mdtraj with it, unpickle attributes, which runs whatever code a file brings along;
h5py does not. Links to other files, arrays whose numbers lie in other files and references are not
followed. Sizes are checked before memory is taken.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path

import h5py
import numpy as np

from ase_atom.io.bounds import Budget

_TEXT = 2**16  # bytes of an attribute
_HEAP = b"GCOL\x01\0\0\0"


def open_plain(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading, whoever else may be writing it.

    Raises
    ------
    OSError, RuntimeError
        If it is none, is cut short, or its attributes are damaged.
    """
    file = h5py.File(path, "r", locking=False)
    try:
        _ = list(file.attrs)
    except BaseException:
        file.close()
        raise
    return file


def children(group: h5py.Group) -> list[str]:
    """Return the names in a group, sorted."""
    return sorted(group.keys())


def child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return a group or dataset by its name in the group.

    Raises
    ------
    KeyError
        If there is none.
    ValueError
        If it is a link to somewhere else, or anything but a group or a dataset.
    """
    link = group.get(name, getlink=True)
    if link is None:
        raise KeyError(name)
    if type(link) is not h5py.HardLink:
        raise ValueError(f"its {name} is a link to somewhere else, which is not followed")
    found = group[name]
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise ValueError(f"its {name} is neither a group nor an array")
    _ = list(found.attrs)  # damaged ones make others' readers crash
    return found


def subgroup(group: h5py.Group, name: str) -> h5py.Group:
    """Return a group in a group; errors as `child`, or ValueError for a dataset."""
    found = child(group, name)
    if not isinstance(found, h5py.Group):
        raise ValueError(f"its {name} is no group")
    return found


def dataset(
    group: h5py.Group, name: str, shape: Sequence[int | None] | None = None
) -> h5py.Dataset:
    """Return an array of numbers, or of texts of fixed length, whose parts can be read safely.

    A chunk and a row (what its first index stands for) are within bounds; the whole need not be.

    Parameters
    ----------
    group, name
        Where it is.
    shape
        What its shape must be, None for any length; by default any.

    Raises
    ------
    KeyError
        If there is none.
    ValueError
        As `child`, or if it is no such array or larger than the file can hold.
    """
    found = child(group, name)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ValueError(f"its {name} is no array")
    if found.dtype.kind not in "iufS" or found.dtype.itemsize < 1:
        raise ValueError(f"its {name} is of the type {found.dtype}, not of numbers")
    if found.is_virtual or found.external:
        raise ValueError(f"the numbers of its {name} lie in other files, which are not read")
    if shape is not None and (
        len(shape) != found.ndim
        or any(a is not None and a != b for a, b in zip(shape, found.shape, strict=True))
    ):
        wanted = ", ".join("…" if n is None else str(n) for n in shape)
        raise ValueError(f"its {name} is {list(found.shape)}, not [{wanted}]")
    stored = found.file.id.get_filesize()
    row = math.prod(found.shape[1:])
    for size in (row, math.prod(found.chunks or ())):
        Budget(stored).take(size * found.dtype.itemsize, f"a part of its {name}")
    return found


def whole_rows(array: h5py.Dataset) -> int:
    """Return how many of an array's rows are stored, of those that it says it has.

    Rows that were never written read as zeros.
    """
    rows: int = array.shape[0]
    if array.chunks is None:
        return rows if array.id.get_storage_size() or not array.size else 0
    each = math.prod(
        -(-length // part) for length, part in zip(array.shape[1:], array.chunks[1:], strict=True)
    )
    return min(rows, int(array.id.get_num_chunks() // max(each, 1) * array.chunks[0]))


def read_whole(array: h5py.Dataset, budget: Budget | None = None) -> np.ndarray:
    """Return all numbers of a dataset from `dataset`.

    Parameters
    ----------
    array
        The dataset.
    budget
        Memory that the file has for all that is read from it; by default for this array alone.

    Raises
    ------
    ValueError
        If they are more than the file can hold, or were not all written.
    """
    name = array.name.rpartition("/")[2]
    budget = Budget(array.file.id.get_filesize()) if budget is None else budget
    budget.take(array.size * array.dtype.itemsize, f"its {name}")
    if array.ndim and whole_rows(array) < array.shape[0]:
        raise ValueError(f"its {name} is not there to its end")
    found: np.ndarray = array[()]
    return found


def attribute(where: h5py.Group | h5py.Dataset, name: str) -> str | float | int | bool | None:
    """Return an attribute that is one number or one text; None if there is none.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if name not in where.attrs:
        return None
    kind = where.attrs.get_id(name)
    text = h5py.check_string_dtype(kind.dtype)
    if kind.shape is None or math.prod(kind.shape) != 1:
        raise ValueError(f"its attribute {name} is not one number or text")
    if text is None and kind.dtype.kind not in "iufb":
        raise ValueError(f"its attribute {name} is of the type {kind.dtype}, not a number or text")
    if text is not None and text.length is None:
        stat = Path(where.file.filename).stat()
        _check_heaps(where.file.filename, stat.st_size, stat.st_mtime_ns)
    if kind.dtype.itemsize > _TEXT:
        raise ValueError(f"its attribute {name} is a text of {kind.dtype.itemsize} bytes")
    value = np.asarray(where.attrs[name]).reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else value.item()


@lru_cache(maxsize=128)
def _check_heaps(path: str, size: int, _: int) -> None:
    """Follow the heaps in which HDF5 keeps texts of no fixed length, once for each state of a file.

    The library walks through a heap without end where an object in it is nothing long.
    (HDF5 File Format Specification 3.0, "Disk Format: Level 1E - Global Heap".)

    Raises
    ------
    ValueError
        If one is damaged.
    """
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        begin = data.find(_HEAP)
        while begin >= 0:
            (length,) = struct.unpack_from("<Q", data, begin + 8) if begin + 16 <= size else (0,)
            end = begin + length
            if not 16 <= length <= size - begin:
                raise ValueError("its texts are damaged")
            place = begin + 16
            while place + 16 <= end:
                index, long = struct.unpack_from("<HxxxxxxQ", data, place)
                # Object 0 is what is free behind the last, its own head included.
                step = 16 + -(-long // 8) * 8 if index else long
                if step < 16 or place + step > end:
                    raise ValueError("its texts are damaged")
                place += step
            begin = data.find(_HEAP, end)


def write_text(where: h5py.Group | h5py.Dataset, name: str, value: str) -> None:
    """Set an attribute to a text of fixed length, as PyTables has them."""
    kind = h5py.string_dtype("utf-8", max(1, len(value.encode())))
    where.attrs.create(name, value, dtype=kind)
