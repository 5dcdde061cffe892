"""DCD and XTC through OpenMM, whose writers carry times and can be flushed."""

from __future__ import annotations

import errno
import os
import struct

import numpy as np
from openmm import unit
from openmm.app import DCDFile, XTCFile

from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.topology import openmm_topology
from ase_atom.units import angstrom_to_nm, fs_to_ps

_DCD_COUNT = 8  # offset of the number of frames in a DCD header; the last step is at 20
_DCD_LAST_STEP = 20
_XTC_HEADER = 56  # magic, atoms, step, time, box, atoms again; each number four bytes, big-endian
_XTC_PLAIN = 9  # up to so many atoms, positions follow as they are
_XTC_LENGTH = 88  # of more atoms, where the length of the packed positions stands


class DCDWriter(TrajectoryWriter):
    """CHARMM/NAMD DCD: positions in single precision; times from the header.

    A step of the file is one frame: the header starts at step 0, has an interval of 1, and a time
    step of the frame interval (stored in AKMA units of 48.88821 fs), so that every reader's time
    axis is right without a detour over the length of jumps.
    """

    endings = (".dcd",)
    has_topology = False

    def _open(self) -> None:
        self._file = self.path.open("w+b")
        step = fs_to_ps(self.frame_interval) * unit.picoseconds
        self._dcd = DCDFile(self._file, openmm_topology(self.atoms), step)
        self._file.flush()

    def _write_frame(self, positions: np.ndarray, velocities: np.ndarray, time: float) -> None:
        self._dcd.writeModel(angstrom_to_nm(positions))

    def _flush(self) -> None:
        self._file.flush()

    def _close(self) -> None:
        self._file.close()

    def _repair(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(_DCD_COUNT)
            file.write(struct.pack("<i", self.frames))
            file.seek(_DCD_LAST_STEP)
            file.write(struct.pack("<i", max(self.frames - 1, 0)))


class XTCWriter(TrajectoryWriter):
    """GROMACS XTC: positions to 0.001 nm, and each frame's own time."""

    endings = (".xtc",)
    has_topology = False

    def _open(self) -> None:
        self.path.write_bytes(b"")
        step = fs_to_ps(self.frame_interval) * unit.picoseconds
        self._xtc = XTCFile(str(self.path), openmm_topology(self.atoms), step)

    def _write_frame(self, positions: np.ndarray, velocities: np.ndarray, time: float) -> None:
        begin = self._size()
        self._xtc.writeModel(angstrom_to_nm(positions))
        # OpenMM says nothing when the disk takes only part of a frame.
        if self._size() < begin + _XTC_HEADER or self._size() != begin + self._frame_size(begin):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _frame_size(self, begin: int) -> int:
        """Return how long the frame that begins there says that it is."""
        if len(self.atoms) <= _XTC_PLAIN:
            return _XTC_HEADER + 12 * len(self.atoms)
        with self.path.open("rb") as file:
            file.seek(begin + _XTC_LENGTH)
            packed = file.read(4)
        if len(packed) < 4:
            return -1
        (length,) = struct.unpack(">i", packed)
        return _XTC_LENGTH + 4 + -(-length // 4) * 4

    def _flush(self) -> None:
        """Do nothing: OpenMM opens and closes an XTC file for every frame."""

    def _close(self) -> None:
        """Do nothing: OpenMM opens and closes an XTC file for every frame."""
