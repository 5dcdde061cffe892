"""Structures and trajectories as files.

A format is an `ase_atom.io.formats.Format`, a reader and a writer. The names below are
loaded on first use: ASE imports this package whenever it is imported itself, to learn of the
formats in `ase_atom.ase.ioformats`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_atom.errors import TrajectoryWarning
    from ase_atom.io.base import TrajectoryWriter
    from ase_atom.io.convert import convert_trajectory
    from ase_atom.io.formats import Format
    from ase_atom.io.frames import FrameBlock
    from ase_atom.io.reader import TrajectoryReader
    from ase_atom.io.registry import (
        check_output,
        open_trajectory,
        output_files,
        read_trajectory,
    )
    from ase_atom.io.structure import read_structure
    from ase_atom.io.topology import openmm_topology, write_pdb

    FORMATS: tuple[Format, ...]

_HOMES = {
    "check_output": "registry",
    "open_trajectory": "registry",
    "output_files": "registry",
    "read_trajectory": "registry",
    "TrajectoryWriter": "base",
    "TrajectoryReader": "reader",
    "TrajectoryWarning": "reader",
    "FrameBlock": "frames",
    "convert_trajectory": "convert",
    "read_structure": "structure",
    "openmm_topology": "topology",
    "write_pdb": "topology",
}

__all__ = [
    "FORMATS",
    "FrameBlock",
    "TrajectoryReader",
    "TrajectoryWarning",
    "TrajectoryWriter",
    "check_output",
    "convert_trajectory",
    "open_trajectory",
    "openmm_topology",
    "output_files",
    "read_structure",
    "read_trajectory",
    "write_pdb",
]


def __getattr__(name: str) -> Any:
    if name == "FORMATS":
        from ase_atom.io.formats import formats

        return formats()
    if name in _HOMES:
        return getattr(import_module(f"ase_atom.io.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
