"""Structures and trajectories as files.

A format is one subclass of `TrajectoryWriter` on the list `WRITERS`.
"""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from ase_atom.errors import TrajectoryError
from ase_atom.io.ase_formats import ASEWriter, XYZWriter
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.openmm_formats import DCDWriter, XTCWriter
from ase_atom.io.structure import read_structure
from ase_atom.io.topology import openmm_topology, write_pdb

WRITERS: list[type[TrajectoryWriter]] = [DCDWriter, XTCWriter, XYZWriter, ASEWriter]

__all__ = [
    "WRITERS",
    "TrajectoryWriter",
    "check_output",
    "open_trajectory",
    "openmm_topology",
    "output_files",
    "read_structure",
    "write_pdb",
]


def writer_for(path: str | Path) -> type[TrajectoryWriter]:
    """Return the writer that a file name's ending stands for.

    Raises
    ------
    TrajectoryError
        If none does, with the endings that there are.
    """
    ending = Path(path).suffix.lower()
    for writer in WRITERS:
        if ending in writer.endings:
            return writer
    known = ", ".join(ending for writer in WRITERS for ending in writer.endings)
    raise TrajectoryError(f"no writer for {str(path)!r}: the ending must be one of {known}")


def output_files(path: str | Path) -> list[Path]:
    """Return the files that a trajectory makes: itself and, if it has none inside, its topology."""
    path = Path(path)
    return [path] if writer_for(path).has_topology else [path, path.with_suffix(".pdb")]


def check_output(
    path: str | Path, overwrite: bool = False, inputs: tuple[str | Path, ...] = ()
) -> None:
    """Check that a trajectory can be written there, without writing anything.

    Parameters
    ----------
    path
        The trajectory file.
    overwrite
        Allow files that exist to be replaced.
    inputs
        Files that must not be replaced even so.

    Raises
    ------
    TrajectoryError
        For an unknown ending, a missing folder, a file that exists, or one that is an input.
    """
    sources = [Path(source).resolve() for source in inputs]
    for file in output_files(path):
        if not file.parent.is_dir():
            raise TrajectoryError(f"the folder {file.parent} of the output {file} does not exist")
        if file.resolve() in sources:
            raise TrajectoryError(
                f"the output {file} would replace the input structure; choose another name"
            )
        if file.is_dir():
            raise TrajectoryError(f"the output {file} is a folder; name a file")
        if file.exists() and not overwrite:
            raise TrajectoryError(f"{file} exists and is kept; --overwrite replaces it")


def open_trajectory(
    path: str | Path, atoms: Atoms, frame_interval: float, overwrite: bool = False
) -> TrajectoryWriter:
    """Open a trajectory for writing, in the format that the ending says.

    Beside formats without elements and bonds a PDB file of the given positions is written.

    Parameters
    ----------
    path
        The trajectory file.
    atoms
        The molecule, at its start.
    frame_interval
        Time between frames in fs.
    overwrite
        Replace files that exist; otherwise they are kept and the call refused.

    Raises
    ------
    TrajectoryError
        As `check_output`, or if the files cannot be made; no file is left then.
    """
    check_output(path, overwrite)
    made = output_files(path)
    try:
        if len(made) > 1:
            write_pdb(made[1], atoms)
        writer = writer_for(path)(made[0], atoms, frame_interval)
    except (TrajectoryError, OSError) as error:
        for file in made:
            file.unlink(missing_ok=True)
        if isinstance(error, TrajectoryError):
            raise
        raise TrajectoryError(f"cannot write {made[1]}: {error.strerror}") from error
    writer.beside = made[1:]
    return writer
