"""Which ending means which format.

Those of this package are listed here. A package adds its own as an entry point of the group
``ase_atom.formats`` whose value is a `Format`; a script calls `register`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ase_atom.errors import ConfigError, TrajectoryError
from ase_atom.plugins import cannot_load, installed, load

GROUP = "ase_atom.formats"
"""Group of entry points under which other packages name their formats."""


@dataclass(frozen=True)
class Format:
    """A trajectory format.

    Parameters
    ----------
    endings
        File name endings, lower case with their dots.
    module
        The module that holds it, imported on first use.
    reader, writer
        Names of its classes, a `TrajectoryReader` and a `TrajectoryWriter`; no writer where it is
        only read.
    has_topology
        Whether the format itself says which elements its atoms are.
    """

    endings: tuple[str, ...]
    module: str
    reader: str
    writer: str | None
    has_topology: bool

    def reader_class(self) -> type[Any]:
        """Import and return the reader.

        Raises
        ------
        ConfigError
            If there is none.
        """
        return self._load(self.reader)

    def writer_class(self) -> type[Any]:
        """Import and return the writer.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if self.writer is None:
            raise self.broken("it is only read")
        return self._load(self.writer)

    def broken(self, reason: str) -> ConfigError:
        """Return the error for a format whose classes cannot be used."""
        return ConfigError(
            f"the format {self.endings[0]} of {self.module} cannot be used: {reason}"
        )

    def _load(self, name: str) -> type[Any]:
        try:
            found = getattr(import_module(self.module), name)
        except Exception as error:
            raise self.broken(str(error)) from error
        if not isinstance(found, type):
            raise self.broken(f"{name} is no class")
        return found


def _own(
    ending: str, module: str, name: str, *others: str, topology: bool, written: bool = True
) -> Format:
    return Format(
        (ending, *others),
        f"ase_atom.io.{module}",
        f"{name}Reader",
        f"{name}Writer" if written else None,
        topology,
    )


_KNOWN = [
    _own(".dcd", "dcd", "DCD", topology=False),
    _own(".xtc", "xtc", "XTC", topology=False),
    _own(".trr", "trr", "TRR", topology=False),
    _own(".nc", "netcdf", "NetCDF", topology=False),
    _own(".h5", "hdf5", "HDF5", topology=True),
    _own(".xyz", "xyz", "XYZ", ".extxyz", topology=True),
    _own(".traj", "traj", "ASE", topology=True),
    _own(".pdb", "pdb", "PDB", topology=True, written=False),
]


def register(one: Format) -> None:
    """Make a format known in this process.

    Raises
    ------
    ConfigError
        If it has no endings, they are not lower case with their dots, or another has one.
    """
    if one in _KNOWN:
        return
    for ending in one.endings:
        if not ending.startswith(".") or ending != ending.lower() or Path(f"a{ending}").stem != "a":
            raise ConfigError(f"{ending!r} is no ending: one is like '.dcd', in lower case")
        if any(ending in other.endings for other in _KNOWN):
            raise ConfigError(f"there is a format of the ending {ending} already")
    if not one.endings:
        raise ConfigError("a format needs an ending")
    _KNOWN.append(one)


def formats() -> tuple[Format, ...]:
    """Return all formats.

    Raises
    ------
    ConfigError
        If one of another package cannot be loaded.
    """
    _find_all()
    return tuple(_KNOWN)


@cache
def _find_all() -> None:
    for entry in installed(GROUP, "format").values():
        found = load(entry, "format")
        if not isinstance(found, Format):
            reason = f"it is a {type(found).__name__}, and no ase_atom.io.formats.Format"
            raise cannot_load(entry, "format", reason)
        try:
            register(found)
        except ConfigError as error:
            raise cannot_load(entry, "format", error) from error


def format_of(path: str | Path, write: bool = False) -> Format:
    """Return the format that a file name's ending stands for.

    Raises
    ------
    TrajectoryError
        If none does, with the endings that there are.
    ConfigError
        If a format of another package cannot be loaded.
    """
    ending = Path(path).suffix.lower()
    usable = [one for one in formats() if one.writer or not write]
    for one in usable:
        if ending in one.endings:
            return one
    known = ", ".join(ending for one in usable for ending in one.endings)
    raise TrajectoryError(
        f"no {'writer' if write else 'reader'} for {str(path)!r}: the ending must be one of {known}"
    )
