"""MDTraj's HDF5 format through mdtraj: positions, velocities, times, and the topology inside."""

from __future__ import annotations

import os
import warnings

import mdtraj
import numpy as np
from mdtraj.formats import HDF5TrajectoryFile
from tables import EArray, Float32Atom

from ase_atom.errors import TrajectoryError
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.cells import cells_from, lengths_and_angles
from ase_atom.io.frames import FrameBlock
from ase_atom.io.reader import TrajectoryReader, meant
from ase_atom.io.topology import openmm_topology
from ase_atom.units import PS, angstrom_to_nm, fs_to_ps, nm_to_angstrom, ps_to_fs

_CHUNK = 2**16  # bytes of coordinates in a chunk of a small molecule
_METADATA = 2**16  # bytes that HDF5 may take for itself, at most


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
        if "coordinates" not in root:
            raise self._not_one("it holds no coordinates as mdtraj writes them")
        self.atom_count = root.coordinates.shape[1]
        lengths = [
            len(root[name]) for name in ("coordinates", "time", "velocities") if name in root
        ]
        # After a kill at the wrong moment the last block of frames is counted but not there.
        low, high = 0, min(lengths)
        if high and not self._is_there(high - 1):
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self._is_there(middle) else (low, middle)
        self._frames = high
        self._report_lost(self._frames, max(lengths) - self._frames)

    def _is_there(self, frame: int) -> bool:
        try:
            self._file.seek(frame)
            self._file.read(1)
        except Exception:  # HDF5's own
            return False
        return True

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

    For the sake of processes that are killed, the arrays are made here as mdtraj makes them but for
    two things. They are not compressed: a compressed chunk that grows moves within the file. And
    their chunks hold equally many frames: so a frame whose chunk HDF5 has not yet entered into its
    tables has no coordinates either, and is known not to be whole.
    """

    holds_velocities = True

    def _open(self, reader: HDF5Reader | None) -> None:
        # Frames of one chunk: adding chunks is what a kill can spoil, so not of a few frames each.
        self._rows = max(_CHUNK // (12 * len(self.numbers)), 16)
        if reader is not None and reader.lost:
            raise TrajectoryError(
                f"{self.path} is damaged behind its {len(reader)} whole frames and cannot be "
                "appended to: copy these into another file first (ase-atom convert)"
            )
        if reader is not None:
            reader.close()  # HDF5 does not open a file to read and to write at once
        else:
            self.path.write_bytes(b"")  # an OSError says more than HDF5's
            self.path.unlink()
        try:
            self._file = HDF5TrajectoryFile(str(self.path), "a", compression=None)
            if reader is None:
                self._file.topology = openmm_topology(self.atoms)
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

    def _make_arrays(self, block: FrameBlock) -> None:
        file = self._file.root._v_file
        attributes = file.root._v_attrs
        attributes.conventions, attributes.conventionVersion = "Pande", "1.1"
        attributes.program, attributes.programVersion = "MDTraj", mdtraj.__version__
        attributes.application = attributes.title = "ase-atom"
        atoms = len(self.numbers)
        shapes = {"coordinates": ("nanometers", (atoms, 3)), "time": ("picoseconds", ())}
        if block.velocities is not None:
            shapes["velocities"] = ("nanometers/picosecond", (atoms, 3))
        if block.cells is not None:
            shapes |= {"cell_lengths": ("nanometers", (3,)), "cell_angles": ("degrees", (3,))}
        rows = self._rows
        for name, (units, shape) in shapes.items():
            array = file.create_earray(
                file.root, name, Float32Atom(), (0, *shape), chunkshape=(rows, *shape)
            )
            array.attrs["units"] = units

    def _append(self, block: FrameBlock) -> None:
        self._reserve(len(block))
        lengths = angles = None
        if block.cells is not None:
            lengths, angles = lengths_and_angles(block.cells)
            lengths = angstrom_to_nm(lengths)
        velocities = block.velocities
        try:
            if "coordinates" not in self._file.root:
                self._make_arrays(block)
                self._file.close()  # mdtraj looks for arrays when it opens a file
                self._file = HDF5TrajectoryFile(str(self.path), "a", compression=None)
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
        atoms = len(self.numbers)
        numbers = 6 * atoms + 7
        needed = 4 * (frames + self._rows) * numbers + _METADATA
        used, size = self._file.root._v_file.get_filesize(), os.path.getsize(self.path)
        if used + needed > size:
            with self.path.open("r+b", buffering=0) as file:
                file.seek(size)
                rest = used + 2 * needed - size
                while rest > 0:
                    rest -= file.write(bytes(min(rest, 2**20)))

    def _close(self) -> None:
        for array in self._file.root:  # an interrupt may leave some longer than others
            if isinstance(array, EArray) and len(array) > self.frames:
                array.truncate(self.frames)
        self._file.flush()
        used = self._file.root._v_file.get_filesize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._file.close()
        os.truncate(self.path, used)
