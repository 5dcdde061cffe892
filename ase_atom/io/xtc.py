"""XTC through OpenMM's frame writer and mdtraj's reader."""

from __future__ import annotations

import errno
import os

import numpy as np
from mdtraj.formats import XTCTrajectoryFile
from openmm.app.internal.xtc_utils import xtc_write_frame

from ase_atom.errors import TrajectoryError
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.frames import FrameBlock
from ase_atom.io.reader import TrajectoryReader, meant
from ase_atom.io.xtc_frames import HEAD, PLAIN, check_frames, frame_ends, frame_length
from ase_atom.units import angstrom_to_nm, fs_to_ps, nm_to_angstrom, ps_to_fs

_MAX_POSITION = (2**31 - 1) / 1000  # nm
# nm: of atoms that are further apart, each from the one before, OpenMM makes what cannot be read.
_MAX_STEP = 2642.0


class XTCReader(TrajectoryReader):
    """Read XTC files; each frame has its own time."""

    def _open(self) -> None:
        with self.path.open("rb") as file:
            self._frames, self.whole_size, self.atom_count, self._times = frame_ends(file)
        if not self.atom_count and os.path.getsize(self.path):
            raise self._not_one("it does not begin with a frame")
        self._report_lost(self._frames, int(os.path.getsize(self.path) > self.whole_size))
        self._file: XTCTrajectoryFile | None = None
        self._next = 0
        self._checked, self._checked_end = 0, 0  # frames, and where the last of them ends

    def __len__(self) -> int:
        return self._frames

    def last_time(self) -> float | None:
        """Return the time of the last whole frame in fs."""
        return self._times[-1] if self._times else None

    def _read(self, first: int, count: int) -> FrameBlock:
        count = max(0, min(count, self._frames - first))
        if not count:
            return self._empty()
        self._check(first + count)
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

    def _check(self, frames: int) -> None:
        """Look at so many frames before mdtraj does, unless it was done."""
        if frames > self._checked:
            begin, first = self._checked_end, self._checked
            with self.path.open("rb") as file:
                end = check_frames(file, begin, first, frames - first, self.atom_count)
            self._checked, self._checked_end = frames, end

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class XTCWriter(TrajectoryWriter):
    """GROMACS XTC: positions to 0.001 nm, and each frame's own time.

    OpenMM's `XTCFile` knows evenly spaced times only, so its function for one frame is called.
    """

    bytes_per_atom = 2
    holds_later_cells = True
    holds_missing_cells = True

    def _open(self, reader: TrajectoryReader | None) -> None:
        self._end = 0 if reader is None else reader.whole_size
        self._output.truncate(self._end)
        self._name = os.fsencode(self.path)

    def _check(self, block: FrameBlock) -> None:
        furthest = angstrom_to_nm(np.abs(block.positions).max())
        if furthest > _MAX_POSITION:
            raise TrajectoryError(f"a position for {self.path} is too far out for XTC")
        if furthest > _MAX_STEP / 6 and len(self.numbers) > PLAIN:
            steps = angstrom_to_nm(np.abs(np.diff(block.positions, axis=1)).sum(axis=2))
            if steps.min(axis=1).max() >= _MAX_STEP:
                raise TrajectoryError(f"the atoms of a frame for {self.path} are too far apart")

    def _append(self, block: FrameBlock) -> None:
        positions = angstrom_to_nm(block.positions).astype(np.float32)
        boxes = np.zeros((len(block), 3, 3), np.float32)
        if block.cells is not None:
            boxes[:] = angstrom_to_nm(block.cells)
        times = fs_to_ps(block.known_times).astype(np.float32)
        for position, box, time in zip(positions, boxes, times, strict=True):
            xtc_write_frame(self._name, position, box, time, np.int32(self.frames))
            # OpenMM says nothing when the disk takes only part of a frame.
            end = self._output.seek(0, os.SEEK_END)
            self._output.seek(self._end)
            length = frame_length(self._output.read(HEAD), len(self.numbers))
            if length is None or end != self._end + length:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.frames, self._end = self.frames + 1, end

    def _close(self) -> None:
        # OpenMM opens and closes the file for every frame.
        self._output.truncate(self._end)
