"""Which ending means which format."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ase_atom.errors import TrajectoryError


@dataclass(frozen=True)
class Format:
    """A trajectory format.

    Parameters
    ----------
    endings
        File name endings, lower case with their dots.
    module
        The module of `ase_atom.io` that holds it, imported on first use.
    reader, writer
        Names of its classes; no writer where it is only read.
    has_topology
        Whether the format itself says which elements its atoms are.
    """

    endings: tuple[str, ...]
    module: str
    reader: str
    writer: str | None
    has_topology: bool

    def reader_class(self) -> type[Any]:
        """Import and return the reader, a `TrajectoryReader`."""
        return getattr(import_module(f"ase_atom.io.{self.module}"), self.reader)

    def writer_class(self) -> type[Any]:
        """Import and return the writer, a `TrajectoryWriter`."""
        return getattr(import_module(f"ase_atom.io.{self.module}"), self.writer)


FORMATS = (
    Format((".dcd",), "dcd", "DCDReader", "DCDWriter", has_topology=False),
    Format((".xtc",), "xtc", "XTCReader", "XTCWriter", has_topology=False),
    Format((".trr",), "trr", "TRRReader", "TRRWriter", has_topology=False),
    Format((".nc",), "netcdf", "NetCDFReader", "NetCDFWriter", has_topology=False),
    Format((".h5",), "hdf5", "HDF5Reader", "HDF5Writer", has_topology=True),
    Format((".xyz", ".extxyz"), "xyz", "XYZReader", "XYZWriter", has_topology=True),
    Format((".traj",), "traj", "ASEReader", "ASEWriter", has_topology=True),
    Format((".pdb",), "pdb", "PDBReader", None, has_topology=True),
)


def format_of(path: str | Path, write: bool = False) -> Format:
    """Return the format that a file name's ending stands for.

    Raises
    ------
    TrajectoryError
        If none does, with the endings that there are.
    """
    ending = Path(path).suffix.lower()
    usable = [one for one in FORMATS if one.writer or not write]
    for one in usable:
        if ending in one.endings:
            return one
    known = ", ".join(ending for one in usable for ending in one.endings)
    raise TrajectoryError(
        f"no {'writer' if write else 'reader'} for {str(path)!r}: the ending must be one of {known}"
    )
