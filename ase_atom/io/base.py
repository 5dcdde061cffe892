"""What every trajectory writer shares: whole frames on disk, whatever happens."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase import Atoms

from ase_atom.errors import TrajectoryError


class TrajectoryWriter(ABC):
    """Write the frames of one molecule to one file.

    Every frame is on the disk when `write` returns. If a frame cannot be written, the file is cut
    back to the whole frames before it, or removed if there is none. Also a context manager.

    Parameters
    ----------
    path
        File to write; replaced if it exists (see `ase_atom.io.open_trajectory`).
    atoms
        The molecule; its elements and masses.
    frame_interval
        Time between frames in fs.

    Attributes
    ----------
    frames
        Number of frames written.
    beside
        Files that go with the trajectory, and go if not even its first frame can be written.
    """

    endings: ClassVar[tuple[str, ...]]
    """File name endings, lower case with their dots."""

    has_topology: ClassVar[bool]
    """Whether the format itself says which elements its atoms are."""

    def __init__(self, path: Path, atoms: Atoms, frame_interval: float) -> None:
        self.path = path
        self.atoms = Atoms(atoms.numbers, positions=atoms.positions, masses=atoms.get_masses())
        self.frame_interval = frame_interval
        self.frames = 0
        self.beside: list[Path] = []
        self._closed = False
        try:
            self._open()
        except OSError as error:
            raise self._failed(error) from error

    def write(self, positions: np.ndarray, velocities: np.ndarray, times: Iterable[float]) -> None:
        """Append frames.

        Parameters
        ----------
        positions, velocities
            Å and Å/fs, ``[T, N, 3]``.
        times
            fs, ``[T]``.

        Raises
        ------
        TrajectoryError
            If the writer is closed, shapes do not fit, a number is not finite, or the disk does
            not take the frames. Those before the first bad one are kept.
        """
        if self._closed:
            raise TrajectoryError(f"{self.path} is closed: no frame can be added")
        for x, v, time in zip(positions, velocities, times, strict=True):
            if x.shape != (len(self.atoms), 3) or v.shape != x.shape:
                raise TrajectoryError(
                    f"a frame of {self.path} is [{len(self.atoms)}, 3], not {list(x.shape)}"
                )
            if not (np.isfinite(x).all() and np.isfinite(v).all()):
                raise TrajectoryError(f"the frame at {time:g} fs for {self.path} is not finite")
            whole = self._size()
            try:
                self._write_frame(x, v, float(time))
                self._flush()
            except (OSError, RuntimeError) as error:
                self._cut_back(whole)
                raise self._failed(error) from error
            self.frames += 1

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _open(self) -> None:
        """Create the file with whatever comes before the first frame."""

    @abstractmethod
    def _write_frame(self, positions: np.ndarray, velocities: np.ndarray, time: float) -> None:
        """Append one frame in Å, Å/fs and fs."""

    @abstractmethod
    def _flush(self) -> None:
        """Hand what is written to the operating system."""

    @abstractmethod
    def _close(self) -> None:
        """Close the file; may raise OSError if something is left to write."""

    def _repair(self) -> None:  # noqa: B027 - most formats have nothing to mend
        """Mend a header that counts a frame which is no longer there."""

    def _size(self) -> int:
        return os.path.getsize(self.path)

    def _cut_back(self, size: int) -> None:
        """Close, and undo a frame that was written in part."""
        self._closed = True
        # What could not be written before cannot be written at closing either.
        with contextlib.suppress(OSError, RuntimeError):
            self._close()
        if self.frames:
            os.truncate(self.path, size)
            self._repair()
        else:
            for file in (self.path, *self.beside):
                file.unlink(missing_ok=True)

    def _failed(self, error: Exception) -> TrajectoryError:
        reason = getattr(error, "strerror", None) or str(error)
        kept = f"; its first {self.frames} frames are kept" if self.frames else ""
        return TrajectoryError(f"cannot write {self.path}: {reason}{kept}")
