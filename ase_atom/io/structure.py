"""Reading a molecule from whatever ASE reads."""

from __future__ import annotations

from pathlib import Path

import ase.io
from ase import Atoms

from ase_atom.errors import FileFormatError, TrajectoryError
from ase_atom.io.guard import reading


def read_structure(path: str | Path) -> Atoms:
    """Read one molecule; of a file with several frames the last, as ASE does.

    Raises
    ------
    TrajectoryError
        If there is no such file, or the operating system does not give it.
    FileFormatError
        If ASE finds no structure in it.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a structure file" if path.is_dir() else "does not exist"
        raise TrajectoryError(f"the structure file {path} {what}")
    advice = "an .xyz, .extxyz, .pdb, .sdf or .traj file would do"
    with reading(path, what="is no structure that ASE can read", advice=advice):
        atoms = ase.io.read(path, do_not_split_by_at_sign=True)
    if not isinstance(atoms, Atoms) or len(atoms) == 0:
        raise FileFormatError(f"{path} holds no atoms")
    return atoms
