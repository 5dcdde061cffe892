"""Frames as text through ASE: extended XYZ, read and written, and the models of a PDB file."""

from __future__ import annotations

import io
import re
from abc import abstractmethod
from collections.abc import Sequence
from itertools import islice
from typing import BinaryIO

import numpy as np
from ase import Atoms
from ase.io import extxyz, proteindatabank

from ase_atom.io.appending import AppendingWriter
from ase_atom.io.ase_frames import isotope_masses, stated_masses, to_atoms, to_block
from ase_atom.io.frames import FrameBlock
from ase_atom.io.guard import reading
from ase_atom.io.reader import TrajectoryReader

END = b""
"""Stands for a frame where a file ends after a whole one."""

_LONGEST_COUNT = 18  # digits


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
        """Masses of the first frame, if it has a column of them."""
        return None if self._first is None else stated_masses(self._first)

    def frame_interval(self) -> float | None:
        """Return the time between the first two frames in fs, which text keeps exactly."""
        times = self.early_times()
        even = times is not None and len(times) == 2 and times[1] > times[0]
        return float(times[1] - times[0]) if even else None

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
                self._check_frame(atoms, self._first, self._next)
                frames.append(atoms)
            self._next += 1
        return to_block(frames, self.atom_count)

    def _close(self) -> None:
        self._file.close()

    def _parse(self, text: bytes, index: int) -> Atoms:
        with reading(self.path, what=f"cannot be read: frame {index + 1} is damaged"):
            return self._build(io.StringIO(text.decode("utf-8", "replace")))

    @abstractmethod
    def _frame(self, file: BinaryIO, index: int) -> bytes | None:
        """Return the text of the next frame; `END` after the last, None if it is not whole."""

    @abstractmethod
    def _build(self, text: io.StringIO) -> Atoms:
        """Make atoms of the text of one frame."""


class XYZReader(TextReader):
    """Read XYZ and extended XYZ."""

    def _frame(self, file: BinaryIO, index: int) -> bytes | None:
        head = file.readline()
        while head and not head.strip():
            head = file.readline()
        if not head:
            return END
        digits = head.strip()
        if not digits.isdigit() or len(digits) > _LONGEST_COUNT:
            raise self._not_one(f"frame {index + 1} does not begin with its number of atoms")
        size = int(digits) + 2
        lines = [head, *islice(file, size - 1)]  # ends with the file, whatever the number
        if len(lines) < size or not (lines[-1].endswith(b"\n") or _is_whole(lines[1], lines[2:])):
            return None
        return b"".join(lines)

    def _build(self, text: io.StringIO) -> Atoms:
        return next(extxyz.read_extxyz(text, 0))


def _is_whole(comment: bytes, atoms: Sequence[bytes]) -> bool:
    """Say whether the last of a frame's lines, which no newline ends, is there to its end.

    It must have all columns, and its last field as many decimals as the fewest above it: writers
    give a column a fixed number of them, and where they vary no more can be told. In a column of
    integers the line must be as long as those above, if these are all of one length.
    """
    if not atoms:
        return True
    rows = [line.split() for line in atoms]
    above, last = rows[:-1], rows[-1]
    properties = re.search(rb'Properties="?([^\s"]+)', comment)
    if above:
        columns = len(above[-1])
    elif properties:
        columns = sum(int(part) for part in properties[1].split(b":")[2::3] if part.isdigit())
    else:
        columns = 4
    if len(last) != columns or not all(above):
        return False
    if columns == 4 or not above:  # nothing but an element and numbers of one kind
        others = [field for row in above for field in row[1:]] + last[1:-1]
    else:
        others = [row[-1] for row in above]
    if not all(_is_number(field) for field in others):
        return len(last[-1]) >= min(map(len, others), default=1)
    if not _is_number(last[-1]):
        return False
    lengths = {len(line.rstrip()) for line in atoms[:-1]}
    if len(lengths) == 1 and not any(b"." in field for field in others):
        return len(atoms[-1].rstrip()) >= lengths.pop()
    return _decimals(last[-1]) >= min(map(_decimals, others), default=0)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _decimals(field: bytes) -> int:
    return len(field.partition(b".")[2])


class PDBReader(TextReader):
    """Read the models of a PDB file; it has no times."""

    def _frame(self, file: BinaryIO, index: int) -> bytes | None:
        if file.tell() == 0:
            self._cell = b""
        lines: list[bytes] = []
        inside = False
        for line in iter(file.readline, b""):
            record = line[:6].strip()
            if record == b"CRYST1":
                self._cell = line
            elif record in (b"ATOM", b"HETATM"):
                lines.append(line)
            elif record == b"MODEL":
                inside = True
            elif record in (b"ENDMDL", b"END") and lines:
                break
        else:
            if not lines:
                return END
            if inside:
                return None
        return b"".join([self._cell, *lines])

    def _build(self, text: io.StringIO) -> Atoms:
        return next(iter(proteindatabank.read_proteindatabank(text, slice(0, 1))))


class XYZWriter(AppendingWriter):
    """Extended XYZ: positions, momenta (in ASE's unit), energy, forces, and ``time_fs``.

    Masses have a column where they are not the standard ones.
    """

    holds_masses = True
    holds_velocities = True
    holds_energies = True
    holds_forces = True
    holds_any_cell = True
    holds_later_cells = True
    holds_missing_cells = True
    holds_later_velocities = True

    def _resume(self, reader: TrajectoryReader) -> None:
        self._file.seek(max(0, self._end - 1))
        if self._end and self._file.read(1) != b"\n":
            self._file.write(b"\n")
            self._end = self._file.tell()

    def _encode(self, block: FrameBlock) -> tuple[bytes, np.ndarray]:
        data, ends = bytearray(), []
        columns = ["symbols", "positions"]
        if block.velocities is not None:
            columns.append("momenta")
        if isotope_masses(self.numbers, self.masses) is not None:
            columns.append("masses")  # without them, momenta would be read as other velocities
        for frame in range(len(block)):
            atoms = to_atoms(self.numbers, block, frame, self.masses)
            forces = atoms.calc is not None and "forces" in atoms.calc.results
            text = io.StringIO()
            extxyz.write_extxyz(text, [atoms], columns=columns + ["forces"] * forces)
            data += text.getvalue().encode()
            ends.append(len(data))
        return bytes(data), np.array(ends)
