"""Files of reference bursts: HDF5 with a group ``/<molecule>/<index>`` for each burst.

`training.data.store` writes them and says what is in a group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from ase_atom.errors import DataError
from ase_atom.io.bounds import Budget
from ase_atom.io.guard import reading
from ase_atom.io.plain_hdf5 import attribute, children, dataset, open_plain, read_whole, subgroup

FORMAT = "ase-atom bursts 1"

Attributes = dict[str, str | float | int | bool | None]


def is_bursts(path: str | Path) -> bool:
    """Whether a file is one of reference bursts."""
    if not Path(path).is_file() or not h5py.is_hdf5(path):
        return False
    with reading(path), open_plain(path) as file:
        return attribute(file, "format") == FORMAT


def fingerprint_of(checksums: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the keys and checksums of bursts, in the order of the keys."""
    digest = hashlib.sha256()
    for key, checksum in sorted(checksums):
        digest.update(f"{key} {checksum}\n".encode())
    return digest.hexdigest()


class BurstFile:
    """The bursts of one file; also a context manager.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    DataError
        If it is an HDF5 file of another kind.
    OSError, RuntimeError, ValueError
        If it is none, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = open_plain(path)
        try:
            found = attribute(self._file, "format")
            if found != FORMAT:
                raise DataError(
                    f"{path}: is no file of reference bursts (format {found!r}, not {FORMAT!r})"
                )
        except BaseException:
            self._file.close()
            raise

    def molecules(self) -> list[str]:
        """Names of the molecules, sorted."""
        return children(self._file)

    def keys(self) -> list[str]:
        """Keys ``<molecule>/<index>`` of the bursts, sorted."""
        return sorted(
            f"{molecule}/{index}"
            for molecule in self.molecules()
            for index in children(subgroup(self._file, molecule))
        )

    def __contains__(self, key: str) -> bool:
        return key in self._file

    def attributes(self, key: str | None = None) -> Attributes:
        """Attributes of a burst, or of the whole file, by name."""
        where = self._file if key is None else self._group(key)
        return {name: attribute(where, name) for name in where.attrs}

    def arrays(
        self,
        key: str,
        needed: Iterable[str],
        optional: Iterable[str] = (),
        budget: Budget | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Arrays of a burst by name, of the optional ones those that are there.

        The budget is that of all that is read and kept; by default of this burst alone.
        """
        group = self._group(key)
        budget = Budget(self._file.id.get_filesize()) if budget is None else budget
        names = [*needed, *(name for name in optional if name in group)]
        return {name: read_whole(dataset(group, name), budget) for name in names}

    def __enter__(self) -> BurstFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def _group(self, key: str) -> h5py.Group:
        molecule, _, index = key.rpartition("/")
        return subgroup(subgroup(self._file, molecule), index)
