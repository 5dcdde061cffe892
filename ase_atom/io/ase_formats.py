"""Extended XYZ and ASE trajectories through ASE, with velocities."""

from __future__ import annotations

import numpy as np
from ase.io import extxyz
from ase.io.trajectory import Trajectory

from ase_atom.io.base import TrajectoryWriter
from ase_atom.units import velocities_to_ase


class XYZWriter(TrajectoryWriter):
    """Extended XYZ: positions, momenta (in ASE's unit), and ``time_fs`` in the comment line."""

    endings = (".xyz", ".extxyz")
    has_topology = True

    def _open(self) -> None:
        self._file = self.path.open("w")

    def _write_frame(self, positions: np.ndarray, velocities: np.ndarray, time: float) -> None:
        atoms = self.atoms.copy()
        atoms.positions = positions
        atoms.set_velocities(velocities_to_ase(velocities))
        atoms.info["time_fs"] = time
        extxyz.write_extxyz(self._file, [atoms], columns=["symbols", "positions", "momenta"])

    def _flush(self) -> None:
        self._file.flush()

    def _close(self) -> None:
        self._file.close()


class ASEWriter(TrajectoryWriter):
    """ASE's own ``.traj``: positions, momenta, and ``time_fs`` in each frame's info."""

    endings = (".traj",)
    has_topology = True

    def _open(self) -> None:
        self._trajectory = Trajectory(self.path, "w")

    def _write_frame(self, positions: np.ndarray, velocities: np.ndarray, time: float) -> None:
        atoms = self.atoms.copy()
        atoms.positions = positions
        atoms.set_velocities(velocities_to_ase(velocities))
        atoms.info["time_fs"] = time
        self._trajectory.write(atoms)

    def _flush(self) -> None:
        """Do nothing: ASE writes a frame whole."""

    def _close(self) -> None:
        self._trajectory.close()
