"""The two functions that open trajectories, and checks of where one is to be written."""

from __future__ import annotations

import shutil
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_atom.errors import TrajectoryError
from ase_atom.errors.keywords import known_keywords
from ase_atom.errors.values import file_path
from ase_atom.files import is_same_file
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.checks import check_same_atoms, positive
from ase_atom.io.formats import Format, format_of
from ase_atom.io.guard import check_file
from ase_atom.io.output import KEPT, check_no_special, check_unlocked, lock_output
from ase_atom.io.reader import TrajectoryReader
from ase_atom.io.topology import find_topology, pdb_fits, read_elements, write_pdb


@known_keywords()
def output_files(path: str | Path) -> list[Path]:
    """Return the files that a trajectory makes: itself and, if it has none inside, its topology."""
    path = Path(path)
    return [path] if format_of(path, write=True).has_topology else [path, path.with_suffix(".pdb")]


@known_keywords()
def check_output(
    path: str | Path,
    overwrite: bool = False,
    inputs: tuple[str | Path, ...] = (),
    atoms: Atoms | None = None,
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
    atoms
        What will be written: a topology of it that lies there already stays and is in nobody's
        way, an input among them.

    Raises
    ------
    TrajectoryError
        For an unknown ending, a missing folder, a file that exists, or one that is an input or is
        being written.
    """
    trajectory, *beside = output_files(path)
    if atoms is not None:
        beside = [file for file in beside if not _same_topology(file, atoms, None)]
    for file in (trajectory, *beside):
        if any(is_same_file(file, source) for source in inputs):
            raise TrajectoryError(
                f"the output {file} would replace the input structure; choose another name"
            )
        check_free(file, overwrite)
    check_unlocked(trajectory)


def check_topology_beside(path: str | Path, atoms: Atoms) -> None:
    """Check that a trajectory's topology replaces no PDB file of other atoms.

    Raises
    ------
    TrajectoryError
        If one lies where it would be.
    """
    for beside in output_files(path)[1:]:
        if beside.is_file() and not pdb_fits(beside, atoms):
            raise TrajectoryError(
                f"{beside}, where the topology of {Path(path).name} would be, describes other "
                "atoms: move it, or write under another name"
            )


@known_keywords()
def read_trajectory(
    path: str | Path, topology: Atoms | str | Path | None = None
) -> TrajectoryReader:
    """Open a trajectory for reading, in the format that the ending says.

    Parameters
    ----------
    path
        The trajectory file.
    topology
        What its atoms are, for formats that do not say: atoms, or a structure or PSF file; by
        default the ``.pdb`` or ``.psf`` file beside it. Positions are read without, too.

    Returns
    -------
    A reader; iterating gives blocks of frames (`FrameBlock`), one of them in memory at a time.

    Raises
    ------
    TrajectoryError
        If the file or the topology cannot be read, or they do not fit.

    Warns
    -----
    TrajectoryWarning
        If the file is truncated: what is whole is read.
    """
    path = file_path("a trajectory", path)
    kind = format_of(path)
    check_file(path, "trajectory")
    find = partial(find_topology, path, topology)
    reader = kind.reader_class()
    if not issubclass(reader, TrajectoryReader):
        raise kind.broken(f"{kind.reader} is no TrajectoryReader")
    return reader(path, find, given=topology is not None)


@known_keywords()
def open_trajectory(
    path: str | Path,
    atoms: Atoms,
    mode: str = "x",
    *,
    frame_interval: float | None = None,
    start_time: float | None = None,
    topology: str | Path | None = None,
) -> TrajectoryWriter:
    """Open a trajectory for writing, in the format that the ending says.

    Beside formats without elements and bonds a PDB file of the atoms is put, unless one with the
    same elements and bonds is there.

    Parameters
    ----------
    path
        The trajectory file.
    atoms
        The molecule, at its start. What is observed: `TrajectoryWriter.write` without an argument
        writes these atoms as they then are.
    mode
        ``"x"`` makes a new file and refuses to replace one, ``"w"`` replaces, ``"a"`` appends, to
        a new file if there is none.
    frame_interval
        Time between frames in fs, for frames that come without their times. A file that is
        appended to tells, if it holds more than one frame.
    start_time
        Time of the first frame in fs, by default zero, or one interval after the last frame of a
        file that is appended to.
    topology
        A PDB file to put beside instead.

    Raises
    ------
    TrajectoryError
        As `check_output`, for other atoms than those of the file that is appended to, or if the
        files cannot be made; no new file is left then.
    """
    path = file_path("a trajectory", path)
    kind = format_of(path, write=True)
    writer_class = _writer_class(kind)
    if mode not in ("x", "w", "a"):
        raise TrajectoryError(f"the mode of a new trajectory is 'x', 'w' or 'a', not {mode!r}")
    if len(atoms) == 0:
        raise TrajectoryError(f"there are no atoms to write to {path}")
    if not np.isfinite(atoms.positions).all():
        raise TrajectoryError(f"positions of the atoms for {path} are not finite")
    if frame_interval is not None:
        positive(frame_interval, "the frame interval")
    append = mode == "a" and path.is_file() and path.stat().st_size > 0
    beside = output_files(path)[1:]
    if append:
        made = [there for there in beside if not there.exists()]
    else:
        made = [there for there in beside if not _same_topology(there, atoms, topology)]
        for there in (path, *made):
            check_free(there, replace=mode != "x")
    new = [] if append else [there for there in (path, *made) if not there.exists()]
    reader: TrajectoryReader | None = None
    writer: TrajectoryWriter | None = None
    file: FileIO | None = None
    try:
        file = lock_output(path, new=mode == "x")
        reader = read_trajectory(path) if append else None
        if reader is not None:
            check_same_atoms(reader, atoms)
            _check_elements([there for there in beside if there not in made], atoms)
        writer = writer_class(path, atoms, reader, frame_interval, start_time, file)
        for other in made:
            if topology is None:
                write_pdb(other, atoms)
            else:
                shutil.copyfile(topology, other)
    except BaseException as error:
        if writer is not None:
            writer.close()
        if file is not None:
            for other in new:
                other.unlink(missing_ok=True)
            file.close()
        if not isinstance(error, OSError):
            raise
        failed = path if writer is None else made[0]
        raise TrajectoryError(f"cannot write {failed}: {error.strerror}") from error
    finally:
        if reader is not None:
            reader.close()
    writer.beside = made
    return writer


def _writer_class(kind: Format) -> type[TrajectoryWriter]:
    found = kind.writer_class()
    if not issubclass(found, TrajectoryWriter):
        raise kind.broken(f"{kind.writer} is no TrajectoryWriter")
    return found


def _check_elements(topologies: list[Path], atoms: Atoms) -> None:
    """Check that topologies are of the atoms; bonds may by now look different."""
    for path in topologies:
        if not np.array_equal(read_elements(path), atoms.numbers):
            raise TrajectoryError(f"{path} describes other atoms than are to be appended")


def _same_topology(file: Path, atoms: Atoms, topology: str | Path | None) -> bool:
    if not file.is_file():
        return False
    return pdb_fits(file, atoms) or (topology is not None and file.samefile(topology))


def check_free(file: Path, replace: bool) -> None:
    """Check that a file can be made, without making it.

    Raises
    ------
    TrajectoryError
        If its folder is missing, it is a folder, or it exists and is not to be replaced.
    """
    if not file.parent.is_dir():
        raise TrajectoryError(f"the folder {file.parent} of the output {file} does not exist")
    check_no_special(file)
    if file.exists() and not replace:
        raise TrajectoryError(KEPT.format(file))
