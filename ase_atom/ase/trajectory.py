"""Trajectory files that are named to an integrator, in the format that their ending says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ase import Atoms
from ase.md.md import MolecularDynamics

from ase_atom.errors.values import file_path
from ase_atom.io import open_trajectory
from ase_atom.io.continuing import cut_to_whole_frames
from ase_atom.io.formats import format_of
from ase_atom.io.registry import check_topology_beside
from ase_atom.units import FS

if TYPE_CHECKING:
    from ase_atom.io import TrajectoryWriter


def is_for_ase(trajectory: Any) -> bool:
    """Return whether ASE deals with what is given as ``trajectory=``: objects and ``.traj`` files.

    Also names without an ending, which ASE gives its own format.

    Raises
    ------
    TrajectoryError
        For an ending that no format has that is written frame by frame.
    """
    if trajectory is None or hasattr(trajectory, "write"):
        return True
    if file_path("trajectory", trajectory).suffix.lower() in ("", ".traj"):
        return True
    format_of(trajectory, write=True)
    return False


_WRITERS: WeakValueDictionary[str, TrajectoryWriter] = WeakValueDictionary()


class ObservedTrajectory:
    """A file in one of the package's formats in the place of an ASE trajectory.

    The first frame of a new file has the time of the step at which it is written. A file that is
    appended to already holds the state of step 0, which is not written once more. Of two
    integrators in one process with the same file, the first writes no more.

    Parameters
    ----------
    path
        The file; it is replaced if it exists.
    atoms
        What moves.
    dynamics
        What moves it.
    timestep
        In ASE's unit.
    interval
        Steps between frames, as ASE's ``loginterval``.
    append
        Append to the file if it exists.
    saved
        What `state_dict` said in a run that goes on: the file is appended to, and frames that it
        holds already are not written once more.

    Raises
    ------
    TrajectoryError
        As `ase_atom.io.open_trajectory`, or if a PDB file of other atoms lies where the topology
        would be. Or for a file of a run that goes on which is gone, or shorter than the run left
        it.
    """

    def __init__(
        self,
        path: str | Path,
        atoms: Atoms,
        dynamics: MolecularDynamics,
        timestep: float,
        interval: int = 1,
        append: bool = False,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        path, done = Path(path), 0
        if saved is not None:
            done = int(saved["frames"])
            append = done > 0  # else what is there is of no frame that the restart file knows
        if done:
            cut_to_whole_frames(path, atoms, done)
        if not append:
            check_topology_beside(path, atoms)
        # In a notebook, the integrator of a cell that is run again is still there.
        if (before := _WRITERS.get(os.path.realpath(path))) is not None:
            before.close()
        self.writer: TrajectoryWriter = open_trajectory(
            path, atoms, "a" if append else "w", frame_interval=max(interval, 1) * timestep / FS
        )
        _WRITERS[os.path.realpath(path)] = self.writer
        self._dynamics = dynamics
        self._there = self.writer.frames
        self._given = done or self._there
        # Times are counted from the run's first frame, or from the last one of a file before.
        last = self.writer.last_time
        self._origin, self._since_origin = last, int(last is not None)
        if saved is not None and done:
            self._origin, self._since_origin = saved["origin"], int(saved["since_origin"])

    def write(self, atoms: Atoms | None = None, **_: Any) -> None:
        """Write a frame, with the errors of `ase_atom.io.TrajectoryWriter.write`."""
        if self._given and self._dynamics.nsteps == 0:
            return
        if self._origin is None:
            self._origin = 0.0 if self._given else self._dynamics.get_time() / FS
        if self._given >= self._there:
            interval = self.writer.frame_interval or 0.0
            error, stride = getattr(self._dynamics, "told", (None, None))
            time = self._origin + interval * self._since_origin
            self.writer.write(atoms, time=time, expected_error=error, stride=stride)
        self._given += 1
        self._since_origin += 1

    def state_dict(self) -> dict[str, Any]:
        """Return how far the run is with its file, as plain values."""
        return {
            "frames": self._given,
            "origin": self._origin,
            "since_origin": self._since_origin,
        }

    def set_description(self, description: dict[str, Any]) -> None:
        """Hand on ASE's description of the run."""
        self.writer.set_description(description)

    def __len__(self) -> int:
        """Return the number of whole frames in the file."""
        return self.writer.frames
