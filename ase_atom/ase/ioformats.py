"""DCD, XTC and TRR for `ase.io`, through its entry points ``ase.ioformats``.

ASE imports this module while it is being imported itself, so nothing but the standard library and
ASE's plugin class is imported at the top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.utils.plugins import ExternalIOFormat

if TYPE_CHECKING:
    from ase import Atoms

# ASE has a reader of its own for DCD files of CP2K and has given it the ending, but looks at
# patterns first; `read_dcd` hands files of CP2K on.
dcd = ExternalIOFormat(
    "DCD trajectory (CHARMM, NAMD, OpenMM)", "+S", __name__, glob=["*.dcd", "*.DCD"]
)
xtc = ExternalIOFormat("GROMACS XTC trajectory", "+S", __name__, ext="xtc")
trr = ExternalIOFormat("GROMACS TRR trajectory", "+S", __name__, ext="trr")


def read_dcd(
    filename: str,
    index: int | slice = -1,
    topology: Atoms | str | Path | None = None,
    **cp2k: Any,
) -> Iterator[Atoms]:
    """Read DCD files, those of CP2K by ASE's own reader and with its options.

    Parameters
    ----------
    filename
        The trajectory; elements come from the ``.pdb`` or ``.psf`` file beside it.
    index
        Which frames.
    topology
        Atoms or a file with the elements instead.
    cp2k
        ``ref_atoms`` and ``aligned``, for files of CP2K.
    """
    from ase_atom.errors import FileFormatError
    from ase_atom.io.dcd import read_header
    from ase_atom.io.guard import reading

    with Path(filename).open("rb") as file:
        try:
            with reading(filename):
                title = read_header(file).title
        except FileFormatError:  # which the reader below says better
            title = b""
        if b"CP2K" in title:
            from ase.io.cp2k import read_cp2k_dcd

            yield from read_cp2k_dcd(file, index, **cp2k)
            return
    if cp2k:
        raise TypeError(f"only DCD files of CP2K are read with {', '.join(cp2k)}")
    yield from _read(filename, index, topology)


def read_xtc(
    filename: str, index: int | slice = -1, topology: Atoms | str | Path | None = None
) -> Iterator[Atoms]:
    """Read XTC files; parameters as `read_dcd`."""
    yield from _read(filename, index, topology)


def read_trr(
    filename: str, index: int | slice = -1, topology: Atoms | str | Path | None = None
) -> Iterator[Atoms]:
    """Read TRR files; parameters as `read_dcd`."""
    yield from _read(filename, index, topology)


def write_dcd(
    filename: str,
    images: Sequence[Atoms],
    append: bool = False,
    frame_interval: float | None = None,
    start_time: float | None = None,
) -> None:
    """Write DCD files, and a PDB file beside.

    Parameters
    ----------
    filename
        The trajectory.
    images
        Frames of the same atoms.
    append
        Append to a file that exists.
    frame_interval
        Time between frames in fs; by default as ``info["time_fs"]`` of the frames says, or else
        1 fs.
    start_time
        Time of the first frame in fs.
    """
    _write(filename, images, append, frame_interval, start_time)


def write_xtc(
    filename: str,
    images: Sequence[Atoms],
    append: bool = False,
    frame_interval: float | None = None,
    start_time: float | None = None,
) -> None:
    """Write XTC files, and a PDB file beside; parameters as `write_dcd`."""
    _write(filename, images, append, frame_interval, start_time)


def write_trr(
    filename: str,
    images: Sequence[Atoms],
    append: bool = False,
    frame_interval: float | None = None,
    start_time: float | None = None,
) -> None:
    """Write TRR files, and a PDB file beside; parameters as `write_dcd`."""
    _write(filename, images, append, frame_interval, start_time)


def _read(
    filename: str, index: int | slice, topology: Atoms | str | Path | None
) -> Iterator[Atoms]:
    from ase_atom.io.ase_frames import isotope_masses, to_atoms
    from ase_atom.io.registry import read_trajectory

    with read_trajectory(filename, topology) as reader:
        numbers = reader.numbers
        masses = isotope_masses(numbers, reader.masses)
        if not isinstance(index, slice):
            index = slice(index, index + 1 or None)
        chosen = range(len(reader))[index]
        backwards = chosen.step < 0
        ascending = chosen[::-1] if backwards else chosen
        frames = (
            to_atoms(numbers, block, frame, masses, reader.charge)
            for block in reader.blocks(ascending.start, ascending.stop, ascending.step)
            for frame in range(len(block))
        )
        yield from reversed(list(frames)) if backwards else frames


def _write(
    filename: str,
    images: Sequence[Atoms],
    append: bool,
    frame_interval: float | None,
    start_time: float | None,
) -> None:
    from ase_atom.errors import TrajectoryWarning
    from ase_atom.errors.warning import warn
    from ase_atom.io.ase_frames import time_of
    from ase_atom.io.registry import check_topology_beside, open_trajectory, read_trajectory

    if not len(images):
        raise ValueError(f"there are no frames to write to {filename}")
    times: list[Any] = [None] * len(images)
    if frame_interval is None and start_time is None:
        found = [time_of(atoms) for atoms in images]
        known = [time for time in found if time is not None]
        if 0 < len(known) < len(found):
            warn(
                f"only some frames for {filename} have a time, and frame {found.index(None) + 1} "
                "has none: their times are left out and the frames counted",
                TrajectoryWarning,
            )
        # Copies of one frame carry the time of that frame.
        elif known and all(a < b for a, b in pairwise(known)):
            times = found
    path = Path(filename)
    if frame_interval is None and times[0] is None:
        told = None
        if append and path.is_file() and path.stat().st_size:
            with read_trajectory(path) as reader:
                told = reader.frame_interval()
        frame_interval = 1.0 if told is None else None
    if not append:
        check_topology_beside(path, images[0])
    mode = "a" if append else "w"
    with open_trajectory(
        filename, images[0], mode, frame_interval=frame_interval, start_time=start_time
    ) as writer:
        for atoms, time in zip(images, times, strict=True):
            writer.write(atoms, time=time)
