"""XTC through OpenMM's frame writer and mdtraj's reader."""

from __future__ import annotations

import errno
import os
import struct
from typing import BinaryIO

import numpy as np
from mdtraj.formats import XTCTrajectoryFile
from openmm.app.internal.xtc_utils import xtc_write_frame

from ase_atom.errors import TrajectoryError
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.frames import FrameBlock
from ase_atom.io.reader import TrajectoryReader, meant
from ase_atom.units import angstrom_to_nm, fs_to_ps, nm_to_angstrom, ps_to_fs

_MAGIC = 1995
_HEADER = struct.Struct(">iiif36xi")  # magic, atoms, step, time, box, atoms again
_PLAIN = 9  # up to so many atoms, positions follow as they are
_LENGTH = 88  # of more atoms, where the length of the packed positions stands
_MAX_POSITION = (2**31 - 1) / 1000  # nm


def frame_ends(file: BinaryIO) -> tuple[int, int, int, list[float]]:
    """Walk through the frames of an XTC file from where it stands.

    Returns
    -------
    Number of whole frames, where the last of them ends, number of atoms, and the times in fs of
    the first, the second and the last.

    Raises
    ------
    ValueError
        If it does not begin with a frame, or frames differ in their number of atoms.
    """
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    end, frames, atoms, times = 0, 0, 0, []
    while end < size:
        file.seek(end)
        head = file.read(_LENGTH + 4)
        if len(head) < _HEADER.size:
            break
        magic, count, _, time, again = _HEADER.unpack_from(head)
        if magic != _MAGIC or count != again or (frames and count != atoms):
            raise ValueError(
                f"frame {frames + 1} is damaged" if frames else "it does not begin with a frame"
            )
        atoms = count
        length = _frame_length(head, count)
        if length is None or end + length > size:
            break
        times = [*times[:2], time] if len(times) > 1 else [*times, time]
        frames, end = frames + 1, end + length
    return frames, end, atoms, ps_to_fs(meant(np.array(times, np.float32))).tolist()


def _frame_length(head: bytes, atoms: int) -> int | None:
    """Return how long a frame says that it is, None if its head is not whole."""
    if atoms <= _PLAIN:
        return _HEADER.size + 12 * atoms
    if len(head) < _LENGTH + 4:
        return None
    (packed,) = struct.unpack_from(">i", head, _LENGTH)
    return _LENGTH + 4 + -(-packed // 4) * 4


class XTCReader(TrajectoryReader):
    """Read XTC files; each frame has its own time."""

    def _open(self) -> None:
        with self.path.open("rb") as file:
            try:
                self._frames, self.whole_size, self.atom_count, self._times = frame_ends(file)
            except ValueError as error:
                raise self._not_one(str(error)) from error
        if not self.atom_count and os.path.getsize(self.path):
            raise self._not_one("it does not begin with a frame")
        self._report_lost(self._frames, int(os.path.getsize(self.path) > self.whole_size))
        self._file: XTCTrajectoryFile | None = None
        self._next = 0

    def __len__(self) -> int:
        return self._frames

    def last_time(self) -> float | None:
        """Return the time of the last whole frame in fs."""
        return self._times[-1] if self._times else None

    def _read(self, first: int, count: int) -> FrameBlock:
        count = max(0, min(count, self._frames - first))
        if not count:
            return self._empty()
        if self._file is None or first < self._next:
            self._close()
            self._file = XTCTrajectoryFile(str(self.path))
            self._next = 0
        while self._next < first:  # mdtraj cannot find frames in a truncated file
            skipped = min(first - self._next, max(1, 2**20 // self.atom_count))
            self._file.read(skipped)
            self._next += skipped
        positions, times, _, boxes = self._file.read(count)
        self._next += count
        return FrameBlock(
            nm_to_angstrom(positions.astype(np.float64)),
            times=ps_to_fs(meant(times)),
            cells=nm_to_angstrom(boxes.astype(np.float64)) if boxes is not None else None,
        )

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class XTCWriter(TrajectoryWriter):
    """GROMACS XTC: positions to 0.001 nm, and each frame's own time.

    OpenMM's `XTCFile` knows evenly spaced times only, so its function for one frame is called.
    """

    holds_later_cells = True
    holds_missing_cells = True

    def _open(self, reader: XTCReader | None) -> None:
        self._end = 0 if reader is None else reader.whole_size
        self._output.truncate(self._end)
        self._name = os.fsencode(self.path)

    def _check(self, block: FrameBlock) -> None:
        if angstrom_to_nm(np.abs(block.positions).max()) > _MAX_POSITION:
            raise TrajectoryError(f"a position for {self.path} is too far out for XTC")

    def _append(self, block: FrameBlock) -> None:
        positions = angstrom_to_nm(block.positions).astype(np.float32)
        boxes = np.zeros((len(block), 3, 3), np.float32)
        if block.cells is not None:
            boxes[:] = angstrom_to_nm(block.cells)
        times = fs_to_ps(block.times).astype(np.float32)
        for position, box, time in zip(positions, boxes, times, strict=True):
            xtc_write_frame(self._name, position, box, time, np.int32(self.frames))
            # OpenMM says nothing when the disk takes only part of a frame.
            end = self._output.seek(0, os.SEEK_END)
            self._output.seek(self._end)
            length = _frame_length(self._output.read(_LENGTH + 4), len(self.numbers))
            if length is None or end != self._end + length:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.frames, self._end = self.frames + 1, end

    def _close(self) -> None:
        # OpenMM opens and closes the file for every frame.
        self._output.truncate(self._end)
