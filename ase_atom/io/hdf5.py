"""MDTraj's HDF5 format through mdtraj: positions, velocities, times, and the topology inside."""

from __future__ import annotations

import os
import warnings

import numpy as np
from mdtraj.formats import HDF5TrajectoryFile

from ase_atom.errors import TrajectoryError
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.cells import cells_from, lengths_and_angles
from ase_atom.io.frames import FrameBlock
from ase_atom.io.reader import TrajectoryReader, meant
from ase_atom.io.topology import openmm_topology
from ase_atom.units import PS, angstrom_to_nm, fs_to_ps, nm_to_angstrom, ps_to_fs

_FIRST = 2**20  # bytes that the arrays take before their first frame is full, at most
_METADATA = 2**16


class HDF5Reader(TrajectoryReader):
    """Read MDTraj's HDF5 trajectories."""

    def _open(self) -> None:
        if not self.path.is_file():
            raise TrajectoryError(f"cannot read {self.path}: no such file")
        try:
            self._file = HDF5TrajectoryFile(str(self.path))
        except Exception as error:  # HDF5's errors are a page long
            reason = "it is no HDF5 file, or one that was cut short: such cannot be read in part"
            raise self._not_one(reason) from error
        root = self._file.root
        arrays = [getattr(root, n) for n in ("coordinates", "time", "velocities") if n in root]
        if "coordinates" not in root:
            raise self._not_one("it holds no coordinates as mdtraj writes them")
        self.atom_count = root.coordinates.shape[1]
        lengths = [len(array) for array in arrays]
        self._frames = min(lengths)
        self._report_lost(self._frames, max(lengths) - self._frames)

    def __len__(self) -> int:
        return self._frames

    @property
    def own_numbers(self) -> np.ndarray | None:
        """Atomic numbers from the topology inside, None if there is none."""
        if "topology" not in self._file.root:
            return None
        found = [atom.element for atom in self._file.topology.atoms]
        return np.array([0 if e is None else e.atomic_number for e in found])

    def _read(self, first: int, count: int) -> FrameBlock:
        count = max(0, min(count, self._frames - first))
        if not count:
            return self._empty()
        self._file.seek(first)
        data = self._file.read(count)
        cells = None
        if data.cell_lengths is not None:
            lengths = nm_to_angstrom(data.cell_lengths.astype(np.float64))
            cells = cells_from(lengths, data.cell_angles)
        return FrameBlock(
            nm_to_angstrom(data.coordinates.astype(np.float64)),
            None
            if data.velocities is None
            else nm_to_angstrom(data.velocities.astype(np.float64)) / PS,
            None if data.time is None else ps_to_fs(meant(data.time)),
            cells,
        )

    def _close(self) -> None:
        self._file.close()


class HDF5Writer(TrajectoryWriter):
    """MDTraj's HDF5 format, with velocities if the first frame has them.

    Not compressed: a compressed block that grows moves within the file, and a process that is
    killed meanwhile leaves it damaged.
    """

    holds_velocities = True

    def _open(self, reader: HDF5Reader | None) -> None:
        self._chunks: int | None = None
        if reader is not None:
            reader.close()  # HDF5 does not open a file to read and to write at once
        else:
            self.path.write_bytes(b"")  # an OSError says more than HDF5's
            self.path.unlink()
        try:
            self._file = HDF5TrajectoryFile(str(self.path), "a", compression=None)
            if reader is None:
                self._file.topology = openmm_topology(self.atoms)
            elif reader.lost:  # some arrays are longer than others
                for array in self._file.root:
                    if hasattr(array, "truncate"):
                        array.truncate(self.frames)
                self._file.flush()
        except Exception as error:
            raise OSError(f"HDF5 cannot make it ({type(error).__name__})") from error

    def _check(self, block: FrameBlock) -> None:
        root = self._file.root
        for name, given in (
            ("velocities", block.velocities is not None),
            ("cell_lengths", block.cells is not None),
        ):
            if self.frames and (name in root) != given:
                has, has_not = ("holds", "has none") if name in root else ("holds no", "has some")
                what = name.replace("cell_lengths", "cell")
                raise TrajectoryError(f"{self.path} {has} {what}, and this frame {has_not}")

    def _append(self, block: FrameBlock) -> None:
        self._reserve(len(block))
        lengths = angles = None
        if block.cells is not None:
            lengths, angles = lengths_and_angles(block.cells)
            lengths = angstrom_to_nm(lengths)
        velocities = block.velocities
        try:
            self._file.write(
                angstrom_to_nm(block.positions),
                fs_to_ps(block.times),
                cell_lengths=lengths,
                cell_angles=angles,
                velocities=None if velocities is None else angstrom_to_nm(velocities) * PS,
            )
        except Exception as error:
            raise OSError(f"HDF5 cannot write ({type(error).__name__})") from error
        self.frames += len(block)

    def _reserve(self, frames: int) -> None:
        """Take disk space for frames in advance.

        A full disk is nothing that HDF5 reports when it writes, and it damages the file. What is
        too much is given back when the file is closed.
        """
        root = self._file.root
        if self._chunks is None and "coordinates" in root:
            arrays = [array for array in root if hasattr(array, "chunkshape")]
            self._chunks = sum(4 * int(np.prod(array.chunkshape or 0)) for array in arrays)
        new = self._chunks or _FIRST
        needed = 4 * frames * (6 * len(self.numbers) + 7) + new + _METADATA
        used, size = root._v_file.get_filesize(), os.path.getsize(self.path)
        if used + needed > size:
            with self.path.open("r+b", buffering=0) as file:
                file.seek(size)
                rest = used + 2 * needed - size
                while rest > 0:
                    rest -= file.write(bytes(min(rest, 2**20)))

    def _close(self) -> None:
        self._file.flush()
        used = self._file.root._v_file.get_filesize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._file.close()
        os.truncate(self.path, used)
