"""Frames as text, one after the other: what the readers of XYZ and PDB files share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from ase import Atoms

from ase_atom.io.ase_frames import stated_masses, time_of, to_block
from ase_atom.io.frames import FrameBlock
from ase_atom.io.guard import reading
from ase_atom.io.reader import TrajectoryReader
from ase_atom.molecules.atoms import stated_charge

END = b""
"""Stands for a frame where a file ends after a whole one."""


class TextReader(TrajectoryReader):
    """Read frames of text; that the last is not whole shows at the end only."""

    def _open(self) -> None:
        self._file = self.path.open("rb")
        self._next = 0
        self._length: int | None = None
        self._first: Atoms | None = None
        self.atom_count = 0
        text = self._frame(self._file, 0)
        if text is None:
            raise self._not_one("it holds no whole frame")
        if text != END:
            self._first = self._parse(text, 0)
            self.atom_count = len(self._first)
        self._file.seek(0)

    def __len__(self) -> int:
        if self._length is None:
            count, self.whole_size = 0, 0
            with self.path.open("rb") as file:
                while text := self._frame(file, count):
                    count, self.whole_size = count + 1, file.tell()
            self._length = count
            self._report_lost(count, int(text is None))
        return self._length

    @property
    def own_numbers(self) -> np.ndarray | None:
        """Atomic numbers of the first frame."""
        return None if self._first is None else self._first.numbers

    @property
    def own_masses(self) -> np.ndarray | None:
        """Masses of the first frame, if it states any."""
        return None if self._first is None else stated_masses(self._first)

    @property
    def own_charge(self) -> int | None:
        """Total charge of the first frame in e, if it states any."""
        return None if self._first is None else stated_charge(self._first)

    def frame_interval(self) -> float | None:
        """Return the time between the first two frames in fs, which text keeps exactly."""
        times = self.early_times()
        if times is None or len(times) != 2 or times[1] <= times[0]:
            return None
        return float(times[1] - times[0])

    def images(self) -> Iterator[Atoms]:
        """Return the frames with all that ASE finds in them.

        Raises
        ------
        FileFormatError
            If a frame cannot be read, or is of other atoms than the first.
        """
        index = 0
        self._file.seek(0)
        while text := self._frame(self._file, index):
            atoms = self._parse(text, index)
            self._check_frame(atoms, self._first or atoms, index)
            yield atoms
            index += 1
        self._next = index
        if text is None and self._length is None:
            self._report_lost(index, 1)

    def last_atoms(self) -> Atoms:
        """Return the last frame with all that ASE finds in it.

        Raises
        ------
        FileFormatError
            If the file holds no frame, or ends in part of one.
        """
        text, index = END, 0
        self._file.seek(0)
        while following := self._frame(self._file, index):
            text, index = following, index + 1
        self._file.seek(0)
        self._next = 0
        if following is None:
            raise self._not_one("it ends in a frame that is not whole")
        if text == END:
            raise self._not_one("it holds no atoms")
        return self._parse(text, index - 1)

    def _read(self, first: int, count: int) -> FrameBlock:
        if first < self._next:
            self._file.seek(0)
            self._next = 0
        frames: list[Atoms] = []
        while len(frames) < count:
            text = self._frame(self._file, self._next)
            if not text:
                if self._length is None and text is None:
                    self._report_lost(self._next, 1)
                break
            if self._next >= first:
                atoms = self._parse(text, self._next)
                self._check_frame(atoms, self._first or atoms, self._next)
                frames.append(atoms)
            self._next += 1
        return to_block(frames, self.atom_count)

    def _close(self) -> None:
        self._file.close()

    def _parse(self, text: bytes, index: int) -> Atoms:
        with reading(self.path, what=f"cannot be read: frame {index + 1} is damaged"):
            try:
                atoms = self._build(text.decode("utf-8", "replace").splitlines())
            except NotReadError as error:
                raise self._not_one(f"frame {index + 1}: {error}") from error
            time_of(atoms)
        return atoms

    @abstractmethod
    def _frame(self, file: BinaryIO, index: int) -> bytes | None:
        """Return the text of the next frame; `END` after the last, None if it is not whole."""

    @abstractmethod
    def _build(self, lines: list[str]) -> Atoms:
        """Make atoms of the text of one frame."""


class NotReadError(ValueError):
    """What a frame says is clear, or could mean two things, but is not read."""
