"""ASE's own trajectories, through ASE."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory

from ase_atom.io.ase_frames import left_out, stated_masses, to_atoms, to_block
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.frames import FrameBlock
from ase_atom.io.guard import reading
from ase_atom.io.reader import TrajectoryReader
from ase_atom.molecules.atoms import stated_charge

_COUNT = 32  # where ASE's file has the number of frames, and then the place of their table


class ASEReader(TrajectoryReader):
    """Read ASE trajectories of one set of atoms."""

    def _open(self) -> None:
        with reading(self.path, what="is no ASE trajectory, or one that was cut off"):
            self._trajectory = Trajectory(self.path)
            count = len(self._trajectory)
        # A frame's description comes last, so the whole frames come before those cut off.
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._is_whole(middle) else (low, middle)
        self._frames = low
        if count and not low:
            raise self._not_one("it holds no whole frame")
        self._first = self._trajectory[0] if low else Atoms()
        self.atom_count = len(self._first)
        self._report_lost(low, count - low)

    def _is_whole(self, frame: int) -> bool:
        try:
            self._trajectory[frame].get_positions()
        except Exception:  # ASE raises whatever it hits
            return False
        return True

    def __len__(self) -> int:
        return self._frames

    @property
    def own_numbers(self) -> np.ndarray | None:
        """Atomic numbers of the first frame."""
        return self._first.numbers if self._frames else None

    @property
    def own_masses(self) -> np.ndarray | None:
        """Masses of the first frame, if it has some of its own."""
        return stated_masses(self._first)

    @property
    def own_charge(self) -> int | None:
        """Total charge of the first frame in e, if it states any."""
        return stated_charge(self._first)

    def _read(self, first: int, count: int) -> FrameBlock:
        frames = []
        for index in range(first, min(first + count, self._frames)):
            atoms = self._trajectory[index]
            self._check_frame(atoms, self._first, index)
            self._report_left_out(left_out(atoms))
            frames.append(atoms)
        return to_block(frames, self.atom_count)

    def _close(self) -> None:
        self._trajectory.close()


class ASEWriter(TrajectoryWriter):
    """ASE's own ``.traj``: positions, momenta, masses, energy, forces, ``time_fs`` in the info."""

    bytes_per_atom = 24
    holds_masses = True
    holds_velocities = True
    holds_energies = True
    holds_forces = True
    holds_any_cell = True
    holds_later_cells = True
    holds_missing_cells = True
    holds_later_velocities = True

    def _open(self, reader: TrajectoryReader | None) -> None:
        if reader is not None and reader.lost:
            self._output.seek(_COUNT)
            self._output.write(struct.pack("<q", len(reader)))
        self._trajectory = Trajectory(self.path, "w" if reader is None else "a")
        self._whole = (self.frames, os.path.getsize(self.path))  # frames, and where the last ends
        self._torn = False

    def set_description(self, description: dict[str, Any]) -> None:
        """Store ASE's description of a run with the first frame."""
        self._trajectory.set_description(description)

    def _append(self, block: FrameBlock) -> None:
        for frame in range(len(block)):
            self._torn = True
            # ASE flushes every frame, and counts it last.
            self._trajectory.write(to_atoms(self.numbers, block, frame, self.masses, self.charge))
            self.frames += 1
            self._whole = (self.frames, os.path.getsize(self.path))
            self._torn = False

    def _close(self) -> None:
        if self._torn:
            # ASE would count what there is of a frame as a whole one.
            self._trajectory.backend.fd.close()
            self._cut()
        else:
            self._trajectory.close()

    def _cut(self) -> None:
        """Cut off what there is of a frame, unless ASE has counted it."""
        self._output.seek(_COUNT)
        numbers = self._output.read(16)
        self.frames, table = struct.unpack("<qq", numbers) if len(numbers) == 16 else (0, 0)
        frames, end = self._whole
        # Where ASE keeps the places of frames: it moves as they get more.
        if frames == self.frames and table < end:
            self._output.truncate(end)
