"""AMBER's NetCDF convention: positions and velocities in single precision, each frame's time.

SciPy writes the header. Frames are written and read as arrays: SciPy's and with it mdtraj's NetCDF
files keep all frames in memory until they are closed, and mdtraj's leave velocities out.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from scipy.io import netcdf_file

from ase_atom.errors import TrajectoryError
from ase_atom.io.appending import AppendingWriter, parts_of
from ase_atom.io.cells import cells_from, lengths_and_angles
from ase_atom.io.frames import FrameBlock, stated
from ase_atom.io.reader import TrajectoryReader, meant
from ase_atom.io.stated_units import unit_factor
from ase_atom.units import PS, fs_to_ps

_COUNT = 4  # where the header has the number of frames
_UNITS = {
    "time": ("time", "picosecond"),
    "coordinates": ("length", "angstrom"),
    "velocities": ("velocity", "angstrom/picosecond"),
    "forces": ("force", "kilocalorie/mole/angstrom"),
    "cell_lengths": ("length", "angstrom"),
    "cell_angles": ("angle", "degree"),
}
"""What AMBER's convention calls its variables, and their units where a file states none."""

_KINDS = {1: ">i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8"}


@dataclass(frozen=True)
class NetCDFHeader:
    """What the header of a NetCDF file in the classic format says about its frames.

    Parameters
    ----------
    count
        Number of frames, −1 where it is left open.
    dimensions
        Their names and lengths.
    frame
        One frame (record) as it lies in the file.
    begin
        Where the first of them begins.
    scales
        What the numbers of each variable are multiplied by to be in Å, Å/fs, fs, degrees or eV/Å:
        its unit and its ``scale_factor``.
    is_scaled
        Whether any variable has a ``scale_factor``, or a unit other than AMBER's.
    """

    count: int
    dimensions: dict[str, int]
    frame: np.dtype
    begin: int
    scales: dict[str, float]
    is_scaled: bool


def read_header(file: BinaryIO) -> NetCDFHeader:
    """Read the header (NetCDF User's Guide, "File Format Specification", classic).

    Raises
    ------
    ValueError
        If it is none, or of another NetCDF format.
    """
    magic = file.read(4)
    if magic not in (b"CDF\x01", b"CDF\x02"):
        raise ValueError("it is no NetCDF file of the classic format")
    offset = "i" if magic[3] == 1 else "q"

    def number(kind: str = "i") -> int:
        (found,) = struct.unpack(f">{kind}", file.read(struct.calcsize(kind)))
        return int(found)

    def text() -> str:
        length = number()
        return file.read(-(-length // 4) * 4)[:length].decode("ascii", "replace")

    def entries() -> range:
        number()  # a tag for the kind of list
        return range(number())

    def attributes() -> dict[str, np.ndarray]:
        found = {}
        for _ in entries():
            name, kind, count = text(), np.dtype(_KINDS[number()]), number()
            data = file.read(-(-count * kind.itemsize // 4) * 4)
            found[name] = np.frombuffer(data, kind, count)
        return found

    count = number()
    dimensions = [(text(), number()) for _ in entries()]
    attributes()
    parts, scales, is_scaled = [], {}, False
    for _ in entries():
        name = text()
        shape = [dimensions[number()][1] for _ in range(number())]
        notes = attributes()
        kind, _, begin = np.dtype(_KINDS[number()]), number(), number(offset)
        if shape and shape[0] == 0:  # the unlimited dimension
            parts.append((begin, name, kind, tuple(shape[1:])))
            if name in _UNITS:
                scales[name], plain = _scale(name, notes)
                is_scaled |= not plain
        elif name in _UNITS:
            raise ValueError(f"its {name} are not those of each frame")
    if not parts:
        raise ValueError("it holds no frames")
    if ("cell_lengths" in scales) != ("cell_angles" in scales):
        raise ValueError("it has cell lengths or angles without the other")
    parts.sort(key=lambda part: part[0])
    begin = parts[0][0]
    last = parts[-1]
    size = last[0] - begin + -(-np.dtype((last[2], last[3])).itemsize // 4) * 4
    if len(parts) == 1:
        size = np.dtype((last[2], last[3])).itemsize
    ends = [part[0] - begin + np.dtype((part[2], part[3])).itemsize for part in parts]
    if max(ends) > size:  # programs lay out no frames where there are none
        raise ValueError("its header is damaged" if count else "it holds no frames")
    frame = np.dtype(
        {
            "names": [part[1] for part in parts],
            "formats": [(part[2], part[3]) for part in parts],
            "offsets": [part[0] - begin for part in parts],
            "itemsize": size,
        }
    )
    return NetCDFHeader(count, dict(dimensions), frame, begin, scales, is_scaled)


def _scale(name: str, notes: dict[str, np.ndarray]) -> tuple[float, bool]:
    """Return what a variable is multiplied by, and whether it is as AMBER's convention has it.

    Raises
    ------
    ValueError
        For a unit that is not known, or an offset.
    """
    kind, unit = _UNITS[name]
    if "add_offset" in notes:
        raise ValueError(f"its {name} have an offset, which is not read")
    if "units" in notes:
        unit = notes["units"].tobytes().decode("utf-8", "replace").strip("\0 ")
    try:
        factor = unit_factor(unit, kind)
    except ValueError as error:
        raise ValueError(f"its {name}: {error}") from error
    scale = float(notes["scale_factor"][0]) if "scale_factor" in notes else 1.0
    return factor * scale, unit.lower() == _UNITS[name][1] and scale == 1.0


class NetCDFReader(TrajectoryReader):
    """Read AMBER NetCDF trajectories of the classic formats."""

    def _open(self) -> None:
        self._file = self.path.open("rb")
        self.header = read_header(self._file)
        self.atom_count = self.header.dimensions["atom"]
        if "coordinates" not in parts_of(self.header.frame):
            raise self._not_one("it holds no coordinates")
        self._report_left_out([name for name in parts_of(self.header.frame) if name not in _UNITS])
        body = max(0, os.path.getsize(self.path) - self.header.begin)
        whole = body // self.header.frame.itemsize
        # What lies beyond the frames that the header counts never got whole.
        count = whole if self.header.count < 0 else self.header.count
        self._frames = min(whole, count)
        self.whole_size = self.header.begin + self._frames * self.header.frame.itemsize
        self._report_lost(self._frames, count - self._frames)

    def __len__(self) -> int:
        return self._frames

    def _read(self, first: int, count: int) -> FrameBlock:
        kind = self.header.frame
        names = parts_of(kind)
        count = max(0, min(count, self._frames - first))
        self._file.seek(self.header.begin + first * kind.itemsize)
        data = np.frombuffer(self._file.read(count * kind.itemsize), kind, count)

        def part(name: str) -> np.ndarray:
            found: np.ndarray = data[name].astype(np.float64) * self.header.scales[name]
            return found

        times = cells = None
        if "time" in names:
            times = meant(data["time"]) * self.header.scales["time"]
        if "cell_lengths" in names:
            cells = cells_from(part("cell_lengths"), part("cell_angles"), first)
        return FrameBlock(
            part("coordinates"),
            stated(part("velocities")) if "velocities" in names else None,
            times,
            cells,
            forces=part("forces") if "forces" in names else None,
        )

    def _close(self) -> None:
        self._file.close()


class NetCDFWriter(AppendingWriter):
    """AMBER NetCDF with velocities, if the first frame has them.

    The header counts a frame only after it is whole on the disk.
    """

    bytes_per_atom = 12
    holds_velocities = True

    def _start(self) -> int:
        self._header: NetCDFHeader | None = None  # until the first frame tells about velocities
        return 0

    def _resume(self, reader: TrajectoryReader) -> None:
        assert isinstance(reader, NetCDFReader)  # what appends is of the reader's format
        self._header = reader.header
        expected = set(self._variables(True))
        held = set(parts_of(self._header.frame))
        strange, missing = held - expected, set(self._variables(False)) - held
        if strange or missing or self._header.is_scaled:
            wrong = ", ".join(sorted(strange | missing)) or "scaled numbers or their units"
            raise TrajectoryError(f"cannot append to {self.path}: it differs in {wrong}")
        self._count()

    def _variables(self, velocities: bool) -> dict[str, tuple[str, tuple[str, ...], str]]:
        variables: dict[str, tuple[str, tuple[str, ...], str]] = {
            "time": ("f", ("frame",), "picosecond"),
            "coordinates": ("f", ("frame", "atom", "spatial"), "angstrom"),
        }
        if velocities:
            variables["velocities"] = ("f", ("frame", "atom", "spatial"), "angstrom/picosecond")
        if self.periodic:
            variables["cell_lengths"] = ("d", ("frame", "cell_spatial"), "angstrom")
            variables["cell_angles"] = ("d", ("frame", "cell_angular"), "degree")
        return variables

    def _write_header(self, velocities: bool) -> None:
        from ase_atom import __version__

        made = io.BytesIO()
        file = netcdf_file(made, "w", version=2)
        file.Conventions, file.ConventionVersion = "AMBER", "1.0"
        file.program, file.programVersion = "ase-atom", __version__
        file.createDimension("frame", None)
        file.createDimension("spatial", 3)
        file.createDimension("atom", len(self.numbers))
        file.createVariable("spatial", "c", ("spatial",))[:] = np.array([*"xyz"], "S1")
        if self.periodic:
            file.createDimension("cell_spatial", 3)
            file.createDimension("cell_angular", 3)
            file.createDimension("label", 5)
            labels = file.createVariable("cell_spatial", "c", ("cell_spatial",))
            labels[:] = np.array([*"abc"], "S1")
            labels = file.createVariable("cell_angular", "c", ("cell_angular", "label"))
            labels[:] = np.array([[*"alpha"], [*"beta "], [*"gamma"]], "S1")
        for name, (kind, shape, units) in self._variables(velocities).items():
            variable = file.createVariable(name, kind, shape)
            variable.units = units
            variable[0] = 0  # SciPy lays out no frame unless there is one
        file.flush()
        self._header = read_header(io.BytesIO(made.getvalue()))
        self._end = self._header.begin
        self._file.write(made.getvalue()[: self._end])
        self._count()

    def _check(self, block: FrameBlock) -> None:
        if self._header is None:
            return
        expected = "velocities" in parts_of(self._header.frame)
        if expected != (block.velocities is not None):
            why = "has no velocities, and it holds velocities of each"
            if not expected:
                why = "has velocities, and it holds velocities of none"
            raise self._refused(block, why, "holds_later_velocities")

    def _encode(self, block: FrameBlock) -> tuple[bytes, np.ndarray]:
        assert self._header is not None  # `_append` has written it
        frames = np.zeros(len(block), self._header.frame)
        frames["time"] = fs_to_ps(block.known_times)
        frames["coordinates"] = block.positions
        if block.velocities is not None:
            frames["velocities"] = block.velocities * PS
        if block.cells is not None:
            frames["cell_lengths"], frames["cell_angles"] = lengths_and_angles(block.cells)
        return frames.tobytes(), frames.itemsize * np.arange(1, len(block) + 1)

    def _append(self, block: FrameBlock) -> None:
        if self._header is None:
            self._write_header(block.velocities is not None)
        super()._append(block)

    def _count(self) -> None:
        self._file.seek(_COUNT)
        self._file.write(struct.pack(">i", self.frames))
        self._file.seek(self._end)
