"""Trajectories that a run goes on with after its process has ended, perhaps in mid-frame."""

from __future__ import annotations

import warnings
from pathlib import Path

from ase import Atoms

from ase_atom.errors import TrajectoryError, TrajectoryWarning
from ase_atom.files import replacing
from ase_atom.io.formats import format_of
from ase_atom.io.registry import read_trajectory


def cut_to_whole_frames(file: Path, atoms: Atoms, done: int) -> None:
    """Check a file of a run to be continued, and copy its whole frames where it cannot be cut.

    Parameters
    ----------
    file
        The trajectory.
    atoms
        What it is of.
    done
        Frames that the run had given it.

    Raises
    ------
    TrajectoryError
        If it is gone, or holds fewer frames than the run had given it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrajectoryWarning)  # a kill may cut a frame: that is why
        with read_trajectory(file) as reader:
            whole, damaged = len(reader), bool(reader.lost)
            if whole < done:
                raise TrajectoryError(
                    f"{file} holds {whole} whole frames of the {done} that the run had given it: "
                    "the run cannot go on"
                )
            if not damaged or format_of(file).writer_class().cuts_damaged_files:
                return
            with replacing(file) as copy, format_of(file).writer_class()(copy, atoms) as writer:
                for block in reader[:whole]:
                    writer.write_block(block)
