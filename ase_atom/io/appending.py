"""Formats whose files are a header, if any, and frames one after the other."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.frames import FrameBlock
from ase_atom.io.reader import TrajectoryReader


def parts_of(frame: np.dtype[Any]) -> tuple[str, ...]:
    """Return the names of what a frame consists of."""
    return frame.names or ()


class AppendingWriter(TrajectoryWriter):
    """A format whose frames are bytes one after the other; each is written at one go."""

    _torn = False  # whether a frame that is not whole may lie behind the last whole one

    def _open(self, reader: TrajectoryReader | None) -> None:
        # Unbuffered: a frame is either with the operating system or not yet written at all.
        self._file = self._output
        if reader is None:
            self._file.truncate(0)
            self._end = self._start()
        else:
            self._end = reader.whole_size
            self._resume(reader)
            self._file.truncate(self._end)
        self._file.seek(self._end)

    def _append(self, block: FrameBlock) -> None:
        data, ends = self._encode(block)
        begin, done, rest = self._end, 0, memoryview(data)
        self._torn = True
        try:
            while done < len(data):
                done += self._file.write(rest[done:])
        finally:  # also where something breaks in
            whole = int(np.searchsorted(ends, done, side="right"))
            if whole:
                self.frames += whole
                self._end = begin + int(ends[whole - 1])
                self._count()
        self._torn = False

    def _close(self) -> None:
        if self._torn:
            self._file.truncate(self._end)
            if self.frames:
                self._count()

    def _start(self) -> int:
        """Write what comes before the first frame, and return how long it is."""
        return 0

    def _resume(self, reader: TrajectoryReader) -> None:
        """Take over what the header of an existing file says."""

    @abstractmethod
    def _encode(self, block: FrameBlock) -> tuple[bytes, np.ndarray]:
        """Return frames as bytes, and where each of them ends."""

    def _count(self) -> None:
        """Tell the header how many frames there are, leaving the file at its end."""
