"""Reading a molecule from whatever ASE reads."""

from __future__ import annotations

from pathlib import Path

import ase.io
from ase import Atoms

from ase_atom.errors import TrajectoryError


def read_structure(path: str | Path) -> Atoms:
    """Read one molecule; of a file with several frames the last, as ASE does.

    Raises
    ------
    TrajectoryError
        If there is no such file, or ASE finds no structure in it.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a structure file" if path.is_dir() else "does not exist"
        raise TrajectoryError(f"the structure file {path} {what}")
    try:
        atoms = ase.io.read(path, do_not_split_by_at_sign=True)
    except OSError as error:
        if error.errno is not None:
            raise TrajectoryError(f"cannot read {path}: {error.strerror}") from error
        raise _unreadable(path, error) from error
    except Exception as error:  # ASE's some eighty readers raise whatever their parsing hits
        raise _unreadable(path, error) from error
    if not isinstance(atoms, Atoms) or len(atoms) == 0:
        raise TrajectoryError(f"{path} holds no atoms")
    return atoms


def _unreadable(path: Path, error: Exception) -> TrajectoryError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return TrajectoryError(
        f"{path} is no structure that ASE can read ({reason[:120]}); "
        "an .xyz, .extxyz, .pdb, .sdf or .traj file would do"
    )
