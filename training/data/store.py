"""Reference trajectories on disk: HDF5, one file a burst while they are made, merged at the end.

Layout: a group ``/<molecule>/<index>`` for each burst, with the datasets ``numbers [N]``, ``masses
[N]`` (amu), ``positions [T, N, 3]`` (Å), ``velocities [T, N, 3]`` (Å/fs), ``energies [T]`` (eV,
potential) and ``forces [T, N, 3]`` (eV/Å), where the engine computes them ``atomic_charges [T, N]``
(e) and, at every tenth frame, ``force_spread [K, N]`` (eV/Å), and as attributes its SMILES, frame
interval (fs), temperature (K), seed, total charge (e) if it has one, everything else known about
its origin, and a checksum of all of these. A merged file holds many such groups, a part file one.
Files appear under their name complete or not at all: they are written beside it, flushed to the
disk and renamed.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from ase_atom.errors import DataError
from ase_atom.files import replacing
from ase_atom.io.bursts import FORMAT, BurstFile, fingerprint_of
from ase_atom.io.guard import reading
from training.data.burst import ARRAYS, EXTRAS, SCALARS, Burst

DATA_VARIABLE = "ASE_ATOM_DATA"


def data_folder() -> Path:
    """Return the folder of reference data: ``$ASE_ATOM_DATA``, or one in the user's data folder."""
    if chosen := os.environ.get(DATA_VARIABLE):
        return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "ase-atom"


def write_burst(path: Path, burst: Burst) -> None:
    """Write one burst to a file of its own, which appears complete or not at all.

    Raises
    ------
    DataError
        If the burst's arrays do not fit together or hold a value that is not finite.
    OSError
        If the disk is full or the folder cannot be written.
    """
    with replacing(path) as unfinished:
        # In memory first: HDF5 can crash the process where a plain write reports a full disk.
        image = io.BytesIO()
        with h5py.File(image, "w") as file:
            _fill(file, [burst], {})
        unfinished.write_bytes(image.getbuffer())


def write_bursts(path: Path, bursts: Iterable[Burst], attrs: dict[str, Any] | None = None) -> None:
    """Write bursts to one file, which appears complete or not at all.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    bursts
        May be an iterator: one burst is in memory at a time.
    attrs
        Attributes of the whole file.

    Raises
    ------
    DataError
        If a burst's arrays do not fit together or hold a value that is not finite.
    """
    with replacing(path) as unfinished, h5py.File(unfinished, "w") as file:
        _fill(file, bursts, attrs or {})


def merge(path: Path, sources: Iterable[Path], attrs: dict[str, Any] | None = None) -> int:
    """Write all bursts of some files and folders to one file, in the order of their keys.

    The target may be among the sources. The first burst of a key wins.

    Returns
    -------
    The number of bursts in the merged file.

    Raises
    ------
    OSError
        If the disk has no room for it.
    """
    where: dict[str, Path] = {}
    for source in sources:
        for file in _files(source):
            for key in keys(file):
                where.setdefault(key, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(file.stat().st_size for file in set(where.values()))
    if shutil.disk_usage(path.parent).free < 1.05 * needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    write_bursts(path, (read_burst(where[key], key) for key in sorted(where)), attrs)
    return len(where)


def keys(path: Path) -> list[str]:
    """Return the keys of the bursts in one file, sorted.

    Raises
    ------
    DataError
        If the file is missing, damaged or of another kind.
    """
    with _open(path) as file:
        return file.keys()


def file_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a whole file."""
    with _open(path) as file:
        return file.attributes()


def read_burst(path: Path, key: str | None = None) -> Burst:
    """Read one burst, by default the only one of the file, and verify its checksum.

    Raises
    ------
    DataError
        If the file is missing, damaged or altered, or has no such burst.
    """
    if key is None:
        present = keys(path)
        if len(present) != 1:
            raise DataError(f"{path}: holds {len(present)} bursts, not one: name it by its key")
        key = present[0]
    with _open(path) as file:
        if key not in file:
            raise DataError(f"{path}: has no burst {key}")
        with reading(path, DataError, what=f"is damaged: burst {key}"):
            return _read(file, key)


def iterate_bursts(path: str | Path) -> Iterator[Burst]:
    """Yield the bursts of a merged file or of a folder of files, in the order of their keys.

    Raises
    ------
    DataError
        If there is nothing at the path, or something damaged.
    """
    where: dict[str, Path] = {}
    for file in _files(Path(path)):
        for key in keys(file):
            if key in where:
                raise DataError(f"{where[key]} and {file} both hold a burst {key}: rename one")
            where[key] = file
    if not where:
        raise DataError(f"{path}: holds no bursts")
    for key in sorted(where):
        yield read_burst(where[key], key)


def iterate_collection(path: Path) -> Iterator[Burst]:
    """Yield the bursts of a file, a folder of files, or a collection, finished or not.

    A collection that is still being made has whole files, and folders of single bursts. While one
    is merged its bursts are in both, and a moment later in the file alone.
    """
    parts = sorted(path.glob("[!.]*.bursts")) if path.is_dir() else []
    if not parts:
        yield from iterate_bursts(path)
        return
    seen = set()
    for file in [*sorted(path.glob("[!.]*.h5")), *parts]:
        if file.is_dir() and not any(file.glob("[!.]*.h5")):
            # Empty, or merged since it was listed.
            file = file.with_suffix(".h5")
            if not file.exists():
                continue
        for burst in iterate_bursts(file):
            if burst.key not in seen:
                seen.add(burst.key)
                yield burst


def read_bursts(path: str | Path) -> list[Burst]:
    """Read all bursts of a merged file or of a folder of files; see `iterate_bursts`."""
    return list(iterate_bursts(path))


def fingerprint(path: str | Path) -> str:
    """Return the SHA-256 of the bursts' keys and contents, whichever files they lie in."""
    return fingerprint_of((burst.key, burst.checksum()) for burst in iterate_bursts(path))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("[!.]*.h5"))
    return [path]


@contextmanager
def _open(path: Path) -> Iterator[BurstFile]:
    if not Path(path).is_file():
        raise DataError(f"{path}: there is no such file")
    with (
        reading(path, DataError, what="is truncated, damaged or no HDF5 file"),
        BurstFile(path) as file,
    ):
        yield file


def _fill(file: h5py.File, bursts: Iterable[Burst], attrs: dict[str, Any]) -> None:
    file.attrs["format"] = FORMAT
    file.attrs.update(attrs)
    for burst in bursts:
        _write_group(file, burst)


def _write_group(file: h5py.File, burst: Burst) -> None:
    burst.check()
    group = file.create_group(burst.key)
    for name, array in burst.arrays().items():
        group.create_dataset(name, data=array)
    group.attrs.update(burst.attributes())
    group.attrs["checksum"] = burst.checksum()


def _read(file: BurstFile, key: str) -> Burst:
    arrays, attrs = file.arrays(key, ARRAYS, EXTRAS), file.attributes(key)
    checksum = attrs.pop("checksum")
    own = {name: attrs.pop(name) for name in SCALARS} | {"charge": attrs.pop("charge", 0)}
    burst = Burst(key=key, **own, **arrays, attrs=attrs)
    if burst.checksum() != checksum:
        raise ValueError("its checksum does not fit its contents")
    return burst
