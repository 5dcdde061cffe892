"""DCD as CHARMM, NAMD and OpenMM write it: positions in single precision, times in the header.

OpenMM's `DCDFile` makes the header. Frames are written and read as arrays: `DCDFile` packs their
numbers one by one, and the readers of other libraries talk on standard output.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from openmm.app import DCDFile

from ase_atom.errors import TrajectoryError
from ase_atom.io.appending import AppendingWriter, parts_of
from ase_atom.io.cells import each_cell, lengths_and_angles, vectors_of
from ase_atom.io.frames import FrameBlock
from ase_atom.io.reader import TrajectoryReader
from ase_atom.io.topology import openmm_topology
from ase_atom.units import fs_to_ps

AKMA = 48.88821
"""The unit of time in DCD headers, in fs, as OpenMM, NAMD and MDAnalysis have it."""

_COUNT = 8  # where the header has number of frames, first step, interval and last step
_STEP = 44  # and where the time step
_MAX_STEP = 2**31 - 1
_LAST_ANGLES = 25  # the last version of CHARMM's header with lengths and angles
_PLUGIN_TITLE = b"Created by DCD plugin"
_SECOND_TITLE = 180  # where the second line of the title begins in a file as OpenMM writes it


@dataclass(frozen=True)
class DCDHeader:
    """What the header of a DCD file says.

    Parameters
    ----------
    count
        Number of frames.
    first, interval
        Step of the first frame, and steps between frames.
    step
        Time step in fs.
    atoms
        Number of atoms.
    frame
        One frame as it lies in the file.
    size
        Length of the header in bytes.
    title
        Remarks of the program that wrote it.
    version
        Of CHARMM, whose convention it follows; 0 for X-PLOR's.
    """

    count: int
    first: int
    interval: int
    step: float
    atoms: int
    frame: np.dtype
    size: int
    title: bytes
    version: int

    @property
    def start_time(self) -> float:
        """Time of the first frame in fs."""
        return self.first * self.step

    @property
    def frame_interval(self) -> float:
        """Time between frames in fs."""
        return self.interval * self.step

    @property
    def has_times(self) -> bool:
        """False for what VMD's plugin and mdtraj write: always a step of one unit, 48.9 fs."""
        return not self.title.startswith(_PLUGIN_TITLE) and self.frame_interval > 0


def frame_type(atoms: int, cell: bool, order: str = "<", fourth: bool = False) -> np.dtype:
    """Return one frame of a DCD file: Fortran records, each between two copies of its length."""
    records = [("cell", "f8", 6)] if cell else []
    records += [(axis, "f4", atoms) for axis in ("xyzw" if fourth else "xyz")]
    parts = []
    for name, kind, count in records:
        mark = f"{order}i4"
        parts += [(f"{name}<", mark), (name, f"{order}{kind}", (count,)), (f"{name}>", mark)]
    return np.dtype(parts)


def read_header(file: BinaryIO) -> DCDHeader:
    """Read the header of a DCD file.

    Raises
    ------
    ValueError
        If it is none, or of a kind that is not read.
    """
    head = file.read(92)
    if len(head) == 92 and head[4:8] == b"VELD":
        raise ValueError("it holds velocities, not positions")
    if len(head) < 92 or head[4:8] != b"CORD":
        raise ValueError("it has no DCD header")
    order = "<" if head[:4] == struct.pack("<i", 84) else ">"
    if head[:4] != struct.pack(f"{order}i", 84):
        raise ValueError("its DCD header has markers of 64 bits, which are not read")
    numbers = struct.unpack(f"{order}20i", head[8:88])
    charmm = numbers[19] != 0
    if numbers[8]:
        raise ValueError("it holds fixed atoms once only, which is not read")
    if charmm:
        (step,) = struct.unpack(f"{order}f", head[44:48])
    else:
        (step,) = struct.unpack(f"{order}d", head[44:52])
    (title_length,) = struct.unpack(f"{order}i", file.read(4))
    title = file.read(max(0, title_length))[4:]
    tail = file.read(16)
    if len(tail) < 16:
        raise ValueError("it ends within its header")
    if b".veldcd" in title.lower():  # as NAMD has it, whose header says nothing else
        raise ValueError("by its title it holds velocities of NAMD, not positions")
    title_again, begin, atoms, end = struct.unpack(f"{order}4i", tail)
    if title_again != title_length or begin != 4 or end != 4 or atoms < 1:
        raise ValueError("its header is damaged")
    frame = frame_type(
        atoms, charmm and bool(numbers[10]), order, fourth=charmm and bool(numbers[11])
    )
    # The number of fs that was meant, where it is a short one.
    step = step * AKMA
    short = float(f"{step:.6g}")
    step = short if abs(short - step) <= 1e-7 * abs(step) else step
    count, first, interval = numbers[:3]
    return DCDHeader(count, first, interval, step, atoms, frame, file.tell(), title, numbers[19])


def unpacked_cell(box: np.ndarray, version: int) -> np.ndarray:
    """Return the cell vectors in Å, ``[3, 3]``, of one frame; zero if it has none.

    Up to version 25 of CHARMM, and so with the 24 of NAMD, VMD and OpenMM, its six numbers are
    a, γ, b, β, α, c, with angles in degrees or their cosines. Since version 26 they are the lower
    triangle xx, xy, yy, xz, yz, zz of the symmetric shape matrix, whose rows are the vectors.
    Numbers that can only be the other are taken so.

    Raises
    ------
    ValueError
        If they are neither.
    """
    lengths, angles = box[[0, 2, 5]], box[[4, 3, 1]]
    if not lengths.any():
        return np.zeros((3, 3))
    shape = box[[[0, 1, 3], [1, 2, 4], [3, 4, 5]]]
    is_shape = bool(np.isfinite(box).all() and (np.linalg.eigvalsh(shape) > 0).all())
    if is_shape and version > _LAST_ANGLES and (angles != 90).any():
        return shape
    if (np.abs(angles) <= 1).all():
        angles = np.degrees(np.arccos(angles))
    try:
        return vectors_of(np.concatenate([lengths, angles]))
    except ValueError:
        if is_shape:
            return shape
        raise


class DCDReader(TrajectoryReader):
    """Read DCD files of either byte order, with or without a cell."""

    def _open(self) -> None:
        self._file = self.path.open("rb", buffering=0)
        self.header = read_header(self._file)
        self.atom_count = self.header.atoms
        body = os.path.getsize(self.path) - self.header.size
        self._frames, rest = divmod(body, self.header.frame.itemsize)
        self.whole_size = self.header.size + self._frames * self.header.frame.itemsize
        missing = max(self.header.count - self._frames, 1 if rest else 0)
        for frame in {0, self._frames - 1} if self._frames else ():
            self._records(frame, 1)
        self._report_lost(self._frames, missing)

    def __len__(self) -> int:
        return self._frames

    def frame_interval(self) -> float | None:
        """Return the time between frames in fs, as the header says; None for a single frame."""
        known = self.header.has_times and self._frames > 1
        return self.header.frame_interval if known else None

    def _records(self, first: int, count: int) -> np.ndarray:
        """Return frames as they lie in the file, whose records have the lengths that they should.

        A header with another number of atoms would give other frames, and more or fewer of them.
        """
        kind = self.header.frame
        self._file.seek(self.header.size + first * kind.itemsize)
        data = np.fromfile(self._file, kind, count)
        for name in parts_of(kind):
            if name[-1] in "<>":
                off = data[name] != kind[name[:-1]].itemsize
                if off.any():
                    raise self._not_one(
                        f"frame {first + int(off.argmax()) + 1} is damaged, or of another number "
                        f"of atoms than the {self.atom_count} of the header"
                    )
        return data

    def _read(self, first: int, count: int) -> FrameBlock:
        header = self.header
        count = max(0, min(count, self._frames - first))
        data = self._records(first, count)
        positions = np.empty((count, self.atom_count, 3))
        for axis, name in enumerate("xyz"):
            positions[:, :, axis] = data[name]
        cells = None
        if "cell" in parts_of(header.frame):
            boxes = data["cell"].astype(np.float64)
            cells = each_cell(boxes, lambda box: unpacked_cell(box, header.version), first)
        times = None
        if header.has_times:
            times = (header.first + header.interval * np.arange(first, first + count)) * header.step
        return FrameBlock(positions, times=times, cells=cells)

    def _close(self) -> None:
        self._file.close()


class DCDWriter(AppendingWriter):
    """CHARMM's DCD as OpenMM writes it.

    A step of the file is one frame interval, or the largest part of it that the time of the first
    frame is a multiple of; so every reader's time axis is right. Frames must be evenly spaced.
    """

    bytes_per_atom = 12
    holds_missing_cells = True

    def _start(self) -> int:
        DCDFile(
            self._file,
            openmm_topology(self.atoms, bonds=False),
            fs_to_ps(self.frame_interval or 1.0),
        )
        end = self._file.tell()
        # In place of the date, so that the same run makes the same file.
        self._file.seek(_SECOND_TITLE)
        self._file.write(b"through ase-atom".ljust(80, b"\0"))
        self._file.seek(end)
        self._dtype = frame_type(len(self.numbers), self.periodic)
        self._first_time: float | None = None
        self._interval = self.frame_interval
        self._settled = False
        return end

    def _resume(self, reader: TrajectoryReader) -> None:
        assert isinstance(reader, DCDReader)  # what appends is of the reader's format
        self._dtype = frame_type(len(self.numbers), self.periodic)
        header = reader.header
        if header.frame != self._dtype:
            cell = "a cell" if "cell" in parts_of(header.frame) else "no cell"
            raise TrajectoryError(
                f"cannot append to {self.path}: its frames have {cell} or another byte order, "
                "these have not"
            )
        if len(reader) and not header.has_times:
            raise TrajectoryError(f"cannot append to {self.path}: its header has no times")
        self._first_time = header.start_time if len(reader) else None
        # The interval of a single frame means nothing.
        self._settled = len(reader) > 1
        self._interval = header.frame_interval if self._settled else self.frame_interval
        self._steps = (header.first, header.interval)

    def _check(self, block: FrameBlock) -> None:
        times = block.known_times
        first = float(times[0]) if self._first_time is None else self._first_time
        interval = self._interval
        if interval is None and self.frames + len(times) > 1:
            interval = float(times[1 - self.frames]) - first  # the second frame's
        expected = first + (interval or 0.0) * (self.frames + np.arange(len(times)))
        # Single precision, in which many formats have their times, is allowed for.
        off = np.abs(times - expected) > 1e-3 * (interval or 1.0) + 2e-7 * np.abs(times)
        if off.any():
            bad = int(off.argmax())
            raise TrajectoryError(
                f"the frame at {times[bad]:g} fs for {self.path} should be at {expected[bad]:g} "
                "fs: a DCD file holds evenly spaced frames only; .xtc, .trr, .nc, .h5, .xyz and "
                ".traj hold the time of each"
            )
        if not self._settled:
            # One frame has no interval: any will do until the second.
            self._write_times(first, abs(first) or 1.0 if interval is None else interval)
            self._settled = interval is not None
        self._first_time, self._interval = first, interval

    def _write_times(self, start: float, interval: float) -> None:
        """Write first step, interval and time step so that the times come out."""
        if interval <= 0:
            raise TrajectoryError(
                f"times of frames for {self.path} must increase, and the second frame's does not: "
                "give the time between frames (--frame-interval)"
            )
        for limit in (1, 10, 100, 1000):
            steps = Fraction(start / interval).limit_denominator(limit)
            if abs(float(steps) - start / interval) <= 1e-4 + 2e-7 * abs(start / interval):
                break
        if abs(steps.numerator) > _MAX_STEP:
            raise TrajectoryError(
                f"a DCD file cannot start at {start:g} fs with frames every {interval:g} fs: its "
                f"steps are counted up to {_MAX_STEP}"
            )
        self._steps = (steps.numerator, steps.denominator)
        step = interval / steps.denominator / AKMA
        self._patch(_STEP, struct.pack("<f", step))

    def _encode(self, block: FrameBlock) -> tuple[bytes, np.ndarray]:
        frames = np.empty(len(block), self._dtype)
        for axis, name in enumerate("xyz"):
            frames[f"{name}<"] = frames[f"{name}>"] = 4 * len(self.numbers)
            frames[name] = block.positions[:, :, axis]
        if self.periodic:
            frames["cell<"] = frames["cell>"] = 48
            frames["cell"] = 0.0  # as VMD has it for frames without a cell
        if block.cells is not None:
            lengths, angles = lengths_and_angles(block.cells)
            frames["cell"][:, [0, 2, 5]] = lengths
            frames["cell"][:, [4, 3, 1]] = np.cos(np.radians(angles))
        return frames.tobytes(), self._dtype.itemsize * np.arange(1, len(block) + 1)

    def _count(self) -> None:
        first, interval = self._steps
        last = min(first + (self.frames - 1) * interval, _MAX_STEP)
        numbers = struct.pack("<4i", self.frames, first, interval, last)
        self._patch(_COUNT, numbers)

    def _patch(self, where: int, data: bytes) -> None:
        self._file.seek(where)
        self._file.write(data)
        self._file.seek(self._end)
