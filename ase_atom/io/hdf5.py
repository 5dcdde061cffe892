"""MDTraj's HDF5 format: positions, velocities, times, and the topology inside.

Read and written by h5py, since mdtraj's own class goes through PyTables, which runs the code that a
file may hold in its attributes. The layout is that of mdtraj's "HDF5 Trajectory Format
Specification", convention Pande 1.1.
"""

from __future__ import annotations

import io
import os

import h5py
import numpy as np

from ase_atom.errors import TrajectoryError
from ase_atom.io.base import TrajectoryWriter
from ase_atom.io.cells import cells_from, lengths_and_angles
from ase_atom.io.frames import FrameBlock, stated
from ase_atom.io.guard import reading
from ase_atom.io.hdf5_topology import read_numbers, topology_text
from ase_atom.io.plain_hdf5 import attribute, dataset, open_plain, whole_rows, write_text
from ase_atom.io.reader import TrajectoryReader, meant
from ase_atom.io.stated_units import unit_factor

_CHUNK = 2**16  # bytes of coordinates in a chunk of a small molecule
_CHARGE = "charge"  # of the molecule, in e; the format itself has no place for it
_METADATA = 2**16  # bytes that HDF5 may take for itself, at most

_UNITS = {
    "coordinates": ("length", "nanometers"),
    "velocities": ("velocity", "nanometers/picosecond"),
    "time": ("time", "picoseconds"),
    "cell_lengths": ("length", "nanometers"),
    "cell_angles": ("angle", "degrees"),
    "potentialEnergy": ("energy", "kilojoules_per_mole"),
}
"""What of each frame is read and written, and its unit where a file states none."""

# What mdtraj's format holds of each frame beside.
_NOT_WRITTEN = ("kineticEnergy", "potentialEnergy", "temperature", "alchemicalLambda")


class HDF5Reader(TrajectoryReader):
    """Read MDTraj's HDF5 trajectories."""

    def _open(self) -> None:
        reason = "is no HDF5 file, or one that was cut short: such cannot be read in part"
        with reading(self.path, what=reason):
            self._file = open_plain(self.path)
        if "coordinates" not in self._file:
            raise self._not_one("it holds no coordinates as mdtraj writes them")
        coordinates = dataset(self._file, "coordinates", (None, None, 3))
        self.atom_count = atoms = coordinates.shape[1]
        shapes = {
            "coordinates": (None, atoms, 3),
            "velocities": (None, atoms, 3),
            "time": (None,),
            "cell_lengths": (None, 3),
            "cell_angles": (None, 3),
            "potentialEnergy": (None,),
        }
        others = [name for name in _NOT_WRITTEN if name in self._file and name not in shapes]
        self._report_left_out(others)
        self._arrays = {
            name: dataset(self._file, name, shape)
            for name, shape in shapes.items()
            if name in self._file
        }
        self._factors = {name: _factor(array, name) for name, array in self._arrays.items()}
        if ("cell_lengths" in self._arrays) != ("cell_angles" in self._arrays):
            raise self._not_one("it holds lengths or angles of cells, but not both")
        # After a kill at the wrong moment the last block of frames is counted but not there.
        low, high = 0, min(whole_rows(array) for array in self._arrays.values())
        if high and not self._is_there(high - 1):
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self._is_there(middle) else (low, middle)
        self._frames = high
        longest = max(array.shape[0] for array in self._arrays.values())
        self._report_lost(self._frames, longest - self._frames)

    def _is_there(self, frame: int) -> bool:
        try:
            for array in self._arrays.values():
                _ = array[frame]
        except (OSError, RuntimeError):  # HDF5's own
            return False
        return True

    def __len__(self) -> int:
        return self._frames

    @property
    def own_numbers(self) -> np.ndarray | None:
        """Atomic numbers from the topology inside, None if there is none."""
        return read_numbers(self._file, self.atom_count) if "topology" in self._file else None

    @property
    def own_charge(self) -> int | None:
        """Total charge in e, where this package wrote it."""
        found = attribute(self._file, _CHARGE)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def _read(self, first: int, count: int) -> FrameBlock:
        count = max(0, min(count, self._frames - first))
        if not count:
            return self._empty()
        found = {name: array[first : first + count] for name, array in self._arrays.items()}
        if "time" in found:
            found["time"] = meant(found["time"])
        found = {
            name: array.astype(np.float64) * self._factors[name] for name, array in found.items()
        }
        cells = None
        if "cell_lengths" in found:
            cells = cells_from(found["cell_lengths"], found["cell_angles"])
        return FrameBlock(
            found["coordinates"],
            stated(found["velocities"]) if "velocities" in found else None,
            found.get("time"),
            cells,
            found.get("potentialEnergy"),
        )

    def _close(self) -> None:
        self._file.close()


def _factor(array: h5py.Dataset, name: str) -> float:
    """Return what makes an array's unit the package's own."""
    kind, usual = _UNITS[name]
    stated = attribute(array, "units")
    try:
        return unit_factor(usual if stated is None else str(stated), kind)
    except ValueError as error:
        raise ValueError(f"its {name}: {error}") from error


class HDF5Writer(TrajectoryWriter):
    """MDTraj's HDF5 format, with velocities if the first frame has them.

    For the sake of processes that are killed, the arrays are made as mdtraj makes them but for two
    things. They are not compressed: a compressed chunk that grows moves within the file. And their
    chunks hold equally many frames: so a frame whose chunk HDF5 has not yet entered into its tables
    has no coordinates either, and is known not to be whole.
    """

    bytes_per_atom = 12
    holds_velocities = True
    cuts_damaged_files = False

    def _open(self, reader: TrajectoryReader | None) -> None:
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
            # HDF5 can take the process down where a plain write reports a full disk.
            self.path.write_bytes(self._header())
        self._arrays: dict[str, h5py.Dataset] = {}
        try:
            self._file = h5py.File(self.path, "r+", locking=False)
        except Exception as error:
            raise OSError(f"HDF5 cannot make it ({type(error).__name__})") from error
        if reader is not None:
            self._take_arrays()

    def _take_arrays(self) -> None:
        """Find the arrays that frames are appended to, and none that would fall behind."""
        with reading(self.path):
            here = [name for name in (*_UNITS, *_NOT_WRITTEN) if name in self._file]
            self._arrays = {name: dataset(self._file, name) for name in here}
        for name, array in self._arrays.items():
            if name in _NOT_WRITTEN or array.maxshape[0] is not None:
                raise TrajectoryError(
                    f"cannot append to {self.path}: its {name} cannot be continued"
                )
        if "time" not in self._arrays:
            raise TrajectoryError(f"cannot append to {self.path}: it holds no times")

    def _check(self, block: FrameBlock) -> None:
        for name, given in (
            ("velocities", block.velocities is not None),
            ("cell_lengths", block.cells is not None),
        ):
            if self._arrays and (name in self._arrays) != given:
                has, has_not = ("holds", "has none") if not given else ("holds no", "has some")
                what = name.replace("cell_lengths", "cell")
                raise TrajectoryError(f"{self.path} {has} {what}, and this frame {has_not}")

    def _header(self) -> memoryview:
        """Return a file without frames."""
        from ase_atom import __version__

        facts = {
            "conventions": "Pande",
            "conventionVersion": "1.1",
            "program": "ase-atom",
            "programVersion": __version__,
            "application": "ase-atom",
            "title": "ase-atom",
        }
        made = io.BytesIO()
        with h5py.File(made, "w") as file:
            for name, value in facts.items():
                write_text(file, name, value)
            if self.charge is not None:
                file.attrs[_CHARGE] = self.charge
            file.create_dataset("topology", data=np.array([topology_text(self.atoms)]))
        return made.getbuffer()

    def _make_arrays(self, block: FrameBlock) -> None:
        atoms = len(self.numbers)
        shapes: dict[str, tuple[int, ...]] = {"coordinates": (atoms, 3), "time": ()}
        if block.velocities is not None:
            shapes["velocities"] = (atoms, 3)
        if block.cells is not None:
            shapes |= {"cell_lengths": (3,), "cell_angles": (3,)}
        for name, shape in shapes.items():
            array = self._file.create_dataset(
                name, (0, *shape), np.float32, chunks=(self._rows, *shape), maxshape=(None, *shape)
            )
            write_text(array, "units", _UNITS[name][1])
            self._arrays[name] = array

    def _append(self, block: FrameBlock) -> None:
        self._reserve(len(block))
        found = {"coordinates": block.positions, "time": block.known_times}
        if block.cells is not None:
            found["cell_lengths"], found["cell_angles"] = lengths_and_angles(block.cells)
        if block.velocities is not None:
            found["velocities"] = block.velocities
        end = self.frames + len(block)
        try:
            if not self._arrays:
                self._make_arrays(block)
            for name, array in self._arrays.items():
                array.resize(end, axis=0)
                array[self.frames : end] = found[name] / _factor(array, name)
            self._file.flush()
        except Exception as error:
            raise OSError(f"HDF5 cannot write ({type(error).__name__})") from error
        self.frames = end

    def _reserve(self, frames: int) -> None:
        """Take disk space for frames in advance.

        A full disk is nothing that HDF5 reports when it writes, and it damages the file. What is
        too much is given back when the file is closed.
        """
        atoms = len(self.numbers)
        numbers = 6 * atoms + 7
        needed = 4 * (frames + self._rows) * numbers + _METADATA
        used, size = self._file.id.get_filesize(), self._output.seek(0, os.SEEK_END)
        if used + needed > size:
            rest = used + 2 * needed - size
            while rest > 0:
                rest -= self._output.write(bytes(min(rest, 2**20)))

    def _close(self) -> None:
        for array in self._arrays.values():  # an interrupt may leave some longer than others
            if len(array) > self.frames:
                array.resize(self.frames, axis=0)
        self._file.flush()
        used = self._file.id.get_filesize()
        self._file.close()
        self._output.truncate(used)
