"""Whether a disk has room for what a run is to write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ase_atom.errors import TrajectoryError
from ase_atom.io.bounds import readable
from ase_atom.io.formats import format_of


def check_room(files: Sequence[Path], atom_counts: Sequence[int], frames: int) -> None:
    """Check that trajectories can be as long as they are to be, before the first frame.

    What frames take at the very least is compared with what is free, files that are to be replaced
    included. A run that passes may still fill the disk.

    Parameters
    ----------
    files, atom_counts
        The trajectories, and the number of atoms in a frame of each.
    frames
        How many frames each of them gets.

    Raises
    ------
    TrajectoryError
        If a file system has less free space than its trajectories take.
    """
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for file, atoms in zip(files, atom_counts, strict=True):
        folder = Path(os.path.realpath(file)).parent
        device = folder.stat().st_dev
        folders.setdefault(device, folder)
        size = frames * atoms * format_of(file, write=True).writer_class().bytes_per_atom
        needed[device] = needed.get(device, 0) + size
        if file.is_file():
            needed[device] -= file.stat().st_size
    for device, folder in folders.items():
        free = shutil.disk_usage(folder).free
        if needed[device] > free:
            one = files[0].name if len(files) == 1 else f"{len(files)} trajectories"
            raise TrajectoryError(
                f"{frames} frames of {one} take {readable(needed[device])} or more, and {folder} "
                f"has {readable(free)} free: write fewer frames, or elsewhere"
            )
