"""TRR: positions and velocities in single precision, and each frame's own time.

Frames are written and read as arrays: mdtraj's `TRRTrajectoryFile` cannot append or flush, and
leaves velocities out.
"""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np

from ase_atom.io.appending import AppendingWriter, parts_of
from ase_atom.io.frames import FrameBlock, stated
from ase_atom.io.reader import TrajectoryReader, meant
from ase_atom.units import KJ_MOL, NM, PS, angstrom_to_nm, fs_to_ps, nm_to_angstrom, ps_to_fs

_FORCE = KJ_MOL / NM  # kJ/mol/nm in eV/Å
_MAGIC = 1993
_VERSION = b"GMX_trn_file"
_START = struct.pack(">iii", _MAGIC, len(_VERSION) + 1, len(_VERSION)) + _VERSION
_SIZES = ("ir", "e", "box", "vir", "pres", "top", "sym", "x", "v", "f")
_FIXED = len(_START) + 4 * len(_SIZES) + 4  # the part that frames of one kind share
_HEAD = len(_START) + 4 * len(_SIZES) + 12  # up to the time, whose precision is that of the rest


def frame_type(atoms: int, sizes: dict[str, int]) -> np.dtype[Any]:
    """Return one frame as it lies in the file (GROMACS manual, "trr"; numbers are big-endian).

    Parameters
    ----------
    atoms
        Number of atoms.
    sizes
        Length in bytes of each part that is there.

    Raises
    ------
    ValueError
        If the lengths fit neither single nor double precision.
    """
    if atoms < 1 or min(sizes.values()) < 0:
        raise ValueError("sizes of its parts are damaged")
    part = next((name for name in ("x", "v", "f") if sizes[name]), None)
    width = sizes[part] // (3 * atoms) if part and atoms else 4
    parts = sizes["box"], sizes["x"], sizes["v"], sizes["f"]
    lengths = 9 * width, 3 * atoms * width, 3 * atoms * width, 3 * atoms * width
    if width not in (4, 8) or any(a not in (0, b) for a, b in zip(parts, lengths, strict=True)):
        raise ValueError("sizes of its parts do not fit its atoms")
    real = f">f{width}"
    fields: list[tuple[Any, ...]] = [("start", f"V{len(_START)}"), ("sizes", ">i4", (len(_SIZES),))]
    fields += [("atoms", ">i4"), ("step", ">i4"), ("nre", ">i4"), ("time", real), ("lambda", real)]
    shapes = {"box": (3, 3), "x": (atoms, 3), "v": (atoms, 3), "f": (atoms, 3)}
    for name in filter(sizes.get, _SIZES):
        fields.append((name, real, shapes[name]) if name in shapes else (name, f"V{sizes[name]}"))
    return np.dtype(fields)


def read_type(file: BinaryIO) -> np.dtype[Any] | None:
    """Return the kind of frame that begins where the file stands; None if its head is not whole.

    Raises
    ------
    ValueError
        If none begins there.
    """
    head = file.read(_HEAD)
    if len(head) < _HEAD:
        return None
    if head[: len(_START)] != _START:
        raise ValueError("no TRR frame begins there")
    numbers = struct.unpack_from(f">{len(_SIZES) + 1}i", head, len(_START))
    return frame_type(numbers[-1], dict(zip(_SIZES, numbers, strict=False)))


class TRRReader(TrajectoryReader):
    """Read TRR files of either precision."""

    def _open(self) -> None:
        self._file = self.path.open("rb", buffering=0)
        size = os.path.getsize(self.path)
        # Stretches of frames of one kind: where they begin, the first's index, how many, kind.
        self._stretches: list[tuple[int, int, int, np.dtype[Any]]] = []
        frames = end = 0
        try:
            while end < size:
                self._file.seek(end)
                kind = read_type(self._file)
                count = 0 if kind is None else (size - end) // kind.itemsize
                if kind is None or not count:
                    break
                count = self._same(end, count, kind)
                self._stretches.append((end, frames, count, kind))
                frames, end = frames + count, end + count * kind.itemsize
        except ValueError as error:
            raise self._not_one(
                f"frame {frames + 1} is damaged" if frames else str(error)
            ) from error
        if size and not frames:
            raise self._not_one("it holds no whole frame")
        self._frames, self.whole_size = frames, end
        kinds = [kind for *_, kind in self._stretches]
        counts = [kind["x"].shape[0] if "x" in parts_of(kind) else None for kind in kinds]
        self.atom_count = (counts[0] or 0) if counts else 0
        if any(count != self.atom_count for count in counts):
            raise self._not_one("frames without positions or with other atoms are not read")
        self._report_lost(frames, int(size > end))

    def _same(self, begin: int, count: int, kind: np.dtype[Any]) -> int:
        """Return how many frames from there on are of the same kind."""
        want = None
        for index in range(count):
            self._file.seek(begin + index * kind.itemsize)
            found = self._file.read(_FIXED)
            want = want or found
            if found != want:
                return index
        return count

    def __len__(self) -> int:
        return self._frames

    def _read(self, first: int, count: int) -> FrameBlock:
        stretch = next((s for s in self._stretches if s[1] <= first < s[1] + s[2]), None)
        if stretch is None:
            return self._empty()
        begin, index, frames, kind = stretch
        self._file.seek(begin + (first - index) * kind.itemsize)
        data = np.fromfile(self._file, kind, min(count, index + frames - first))
        velocities = cells = None
        if "v" in parts_of(kind):
            velocities = stated(nm_to_angstrom(data["v"].astype(np.float64)) / PS)
        if "box" in parts_of(kind) and data["box"].any():
            cells = nm_to_angstrom(data["box"].astype(np.float64))
        return FrameBlock(
            nm_to_angstrom(data["x"].astype(np.float64)),
            velocities,
            ps_to_fs(meant(data["time"])),
            cells,
            forces=data["f"].astype(np.float64) * _FORCE if "f" in parts_of(kind) else None,
        )

    def _close(self) -> None:
        self._file.close()


class TRRWriter(AppendingWriter):
    """GROMACS TRR in single precision, with velocities and forces where the frames have them."""

    bytes_per_atom = 24
    holds_velocities = True
    holds_forces = True
    holds_later_cells = True
    holds_missing_cells = True
    holds_later_velocities = True

    def _append(self, block: FrameBlock) -> None:
        if block.forces is None:
            super()._append(block)
            return
        there = np.isfinite(block.forces).all(axis=(1, 2))
        cuts = np.flatnonzero(there[1:] != there[:-1]) + 1
        for first, last in pairwise([0, *cuts.tolist(), len(block)]):
            part = block[first:last]
            super()._append(part if there[first] else replace(part, forces=None))

    def _encode(self, block: FrameBlock) -> tuple[bytes, np.ndarray]:
        atoms = len(self.numbers)
        sizes = dict.fromkeys(_SIZES, 0) | {"box": 36, "x": 12 * atoms}
        if block.velocities is not None:
            sizes["v"] = 12 * atoms
        if block.forces is not None:
            sizes["f"] = 12 * atoms
        frames = np.zeros(len(block), frame_type(atoms, sizes))
        frames["start"] = np.void(_START)
        frames["sizes"] = list(sizes.values())
        frames["atoms"] = atoms
        frames["step"] = self.frames + np.arange(len(block))
        frames["time"] = fs_to_ps(block.known_times)
        frames["x"] = angstrom_to_nm(block.positions)
        if block.velocities is not None:
            frames["v"] = angstrom_to_nm(block.velocities) * PS
        if block.forces is not None:
            frames["f"] = block.forces / _FORCE
        if block.cells is not None:
            frames["box"] = angstrom_to_nm(block.cells)
        return frames.tobytes(), frames.itemsize * np.arange(1, len(block) + 1)
