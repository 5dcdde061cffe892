"""From one trajectory format to another, a block of frames at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_atom.errors import TrajectoryError, TrajectoryWarning
from ase_atom.errors.keywords import known_keywords
from ase_atom.errors.warning import warn
from ase_atom.files import is_same_file
from ase_atom.io.ase_frames import isotope_masses
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.checks import positive
from ase_atom.io.formats import format_of
from ase_atom.io.frames import FrameBlock
from ase_atom.io.guard import reading
from ase_atom.io.reader import TrajectoryReader
from ase_atom.io.registry import open_trajectory, output_files, read_trajectory
from ase_atom.io.topology import topology_beside


@dataclass(frozen=True)
class Conversion:
    """What a conversion amounted to.

    Parameters
    ----------
    atoms
        The molecule as in the first frame.
    frames
        Number of frames written.
    lost
        Frames that the source should have held.
    first_time, last_time
        Times of the first and last frame written, in fs.
    """

    atoms: Atoms
    frames: int
    lost: int
    first_time: float
    last_time: float


@known_keywords()
def convert_trajectory(
    source: str | Path,
    target: str | Path,
    every: int = 1,
    align: bool = False,
    topology: Atoms | str | Path | None = None,
    overwrite: bool = False,
    frame_interval: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> Conversion:
    """Copy a trajectory into another format, in memory that does not grow with its length.

    Positions, velocities, times, cells, energies, forces and masses are carried over as far as
    both formats hold them; a warning says what the target leaves out.

    Parameters
    ----------
    source, target
        Files; their endings choose the formats.
    every
        Take the first frame and every n-th after it.
    align
        Superpose every frame on the first.
    topology
        As in `read_trajectory`.
    overwrite
        Replace a target that exists.
    frame_interval
        Time between frames of the source in fs, if it has no times; 1 fs otherwise, with a
        warning.
    progress
        Called with the time of the last frame written, in fs, after each block.

    Raises
    ------
    TrajectoryError
        If something cannot be read or written; for bad input before anything is written.
    """
    source, target = Path(source), Path(target)
    if every < 1:
        raise TrajectoryError(f"every must be at least 1, not {every}")
    if frame_interval is not None:
        positive(frame_interval, "the frame interval")
    if any(is_same_file(source, file) for file in output_files(target)):
        raise TrajectoryError(f"the output {target} would replace {source}; choose another name")
    with read_trajectory(source, topology) as reader:
        atoms = reader.atoms
        if align and atoms.pbc.any():
            raise TrajectoryError(f"{source} is periodic: frames with a cell cannot be aligned")
        has_times, interval = _spacing(reader, frame_interval)
        even = reader.frame_interval() if interval is None else interval
        writer = open_trajectory(
            target,
            atoms,
            "w" if overwrite else "x",
            frame_interval=None if even is None else every * even,
            topology=_pdb_of(source, topology),
        )
        first = last = float("nan")
        warned: set[str] = set()
        reference = atoms.positions
        with writer:
            try:
                for block in reader.blocks(step=every):
                    if has_times is not (block.times is not None):
                        raise _some_times(source, every * writer.frames, has_times)
                    if interval is not None:
                        times = interval * every * (writer.frames + np.arange(len(block)))
                        block = replace(block, times=times)
                    if align and block.cells is not None:
                        raise TrajectoryError(f"{source} is periodic: its frames cannot be aligned")
                    warned = _warn_of_losses(block, writer, source, warned)
                    if not writer.frames:
                        first = float(block.known_times[0])
                    for part in _aligned(block, reference, source) if align else [block]:
                        writer.write_block(part)
                    last = float(block.known_times[-1])
                    if progress is not None:
                        progress(last)
            except BaseException:
                if not writer.frames:  # an empty file would be in the way of the next try
                    writer.remove()
                raise
    return Conversion(atoms, writer.frames, reader.lost, first, last)


def _some_times(source: Path, frame: int, has_times: bool) -> TrajectoryError:
    return TrajectoryError(
        f"only some frames of {source} have times, and frame {frame + 1} has "
        f"{'none' if has_times else 'one'}: give all of them times, or none"
    )


def _aligned(block: FrameBlock, reference: np.ndarray, source: Path) -> list[FrameBlock]:
    """Return frames turned onto a reference, and apart from them those from a bad one on."""
    good = block.finite()
    with reading(source, what="cannot be superposed"):
        turned = block[:good].aligned(reference)
    return [part for part in (turned, block[good:]) if len(part)]


def _spacing(reader: TrajectoryReader, given: float | None) -> tuple[bool, float | None]:
    """Return whether frames of a source have times, and an interval in fs to take in their place.

    That is what is given, for a source whose times do not increase, and 1 fs without times.
    """
    if next(reader.blocks(stop=1)).times is not None:
        if given is None:
            return True, None
        times = reader.early_times()
        if times is None or len(times) < 2 or times[1] > times[0]:
            raise TrajectoryError(f"{reader.path} has times of its own: give no frame interval")
        warn(
            f"the times of {reader.path} do not increase: its frames are taken to be {given:g} fs "
            "apart, as given",
            TrajectoryWarning,
        )
        return True, given
    if given is None:
        given = 1.0
        warn(
            f"{reader.path} has no times: its frames are taken to be 1 fs apart",
            TrajectoryWarning,
        )
    return False, given


def _pdb_of(source: Path, topology: Atoms | str | Path | None) -> Path | None:
    """Return the PDB file that describes a source, names and residues included, if one does."""
    if format_of(source).has_topology or isinstance(topology, Atoms):
        return None
    file = topology_beside(source) if topology is None else Path(topology)
    return file if file is not None and file.suffix.lower() == ".pdb" else None


def _warn_of_losses(
    block: FrameBlock, writer: TrajectoryWriter, source: Path, warned: set[str]
) -> set[str]:
    """Warn of what frames hold and the target does not, each once; return all that was named."""
    lost = [
        name
        for name, held in (
            ("velocities", writer.holds_velocities),
            ("energies", writer.holds_energies),
            ("forces", writer.holds_forces),
        )
        if getattr(block, name) is not None and not held
    ]
    if not writer.holds_masses and isotope_masses(writer.numbers, writer.masses) is not None:
        lost.append("isotope masses")
    if block.pbc is not None and not block.pbc.all() and not writer.holds_any_cell:
        lost.append("directions without periodicity")
    lost = [name for name in lost if name not in warned]
    if lost:
        warn(
            f"{writer.path} cannot hold the {' and '.join(lost)} of {source}: left out",
            TrajectoryWarning,
        )
    return warned.union(lost)
