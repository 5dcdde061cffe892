"""Frames to write, readers other than the package's own, and disks that are full."""

from __future__ import annotations

import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import chemfiles
import MDAnalysis
import mdtraj
import numpy as np
from ase import Atoms
from ase.io import read
from ase.io.cp2k import read_cp2k_dcd
from openmm.app.internal.xtc_utils import read_xtc

from ase_atom import units
from ase_atom.io import TrajectoryWriter, open_trajectory

ENDINGS = [".dcd", ".xtc", ".trr", ".nc", ".h5", ".xyz", ".extxyz", ".traj"]
BINARY = [".dcd", ".xtc", ".trr", ".nc"]
WITH_VELOCITIES = [".trr", ".nc", ".h5", ".xyz", ".extxyz", ".traj"]
INTERVAL = 2.5  # fs

# What formats keep of a coordinate in Å.
TOLERANCE = dict.fromkeys(ENDINGS, 1e-06) | {
    ".xtc": 0.0051,
    ".xyz": 1e-8,
    ".extxyz": 1e-8,
    ".traj": 1e-12,
}


def make_frames(atoms: Atoms, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions in Å, velocities in Å/fs and times in fs, the same ones every time."""
    rng = np.random.default_rng(5)
    positions = atoms.positions + rng.normal(scale=0.05, size=(count, len(atoms), 3))
    velocities = rng.normal(scale=0.01, size=(count, len(atoms), 3))
    return positions, velocities, INTERVAL * np.arange(count)


def write(path: Path, atoms: Atoms, count: int = 20, mode: str = "x"):
    """Write frames in two parts, and return them."""
    frames = make_frames(atoms, count)
    with open_trajectory(path, atoms, mode, frame_interval=INTERVAL) as writer:
        writer.write_frames(*(part[:7] for part in frames))
        writer.write_frames(*(part[7:] for part in frames))
    assert writer.frames == count
    return frames


def write_all(writer: TrajectoryWriter, frames: tuple[np.ndarray, ...], start: int = 0) -> None:
    """Write frames from one on, one at a time."""
    for frame in range(start, len(frames[0])):
        writer.write_frames(*(part[frame : frame + 1] for part in frames))


def read_back(path: Path) -> np.ndarray:
    """Return positions in Å, ``[T, N, 3]``, by mdtraj or ASE."""
    if path.suffix in (*BINARY, ".h5"):
        return by_mdtraj(path)[0]
    return np.array([frame.positions for frame in read(path, ":")])


def by_mdtraj(path: Path) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return positions in Å, times in fs (a DCD has none here), and whether there is a cell."""
    top = {} if path.suffix == ".h5" else {"top": str(path.with_suffix(".pdb"))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of netCDF4, which would be faster
        found = mdtraj.load(str(path), **top)
    times = None if path.suffix == ".dcd" else 1000.0 * found.time
    return 10.0 * found.xyz, times, found.unitcell_vectors is not None


def by_mdanalysis(path: Path) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return positions in Å, times in fs, and whether there is a cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of offsets kept for a file now replaced
        universe = MDAnalysis.Universe(str(path.with_suffix(".pdb")), str(path))
    steps = [(step.positions.copy(), step.time, step.dimensions) for step in universe.trajectory]
    cell = any(box is not None and box[:3].any() for _, _, box in steps)
    positions = np.array([x for x, _, _ in steps])
    universe.trajectory.close()
    return positions, np.array([1000.0 * time for _, time, _ in steps]), cell


def by_chemfiles(path: Path) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return positions in Å, no times, and whether there is a cell."""
    with chemfiles.Trajectory(str(path)) as file:
        frames = [file.read() for _ in range(file.nsteps)]
    cell = any(frame.cell.volume > 0 for frame in frames)
    return np.array([frame.positions for frame in frames]), None, cell


def by_ase(path: Path) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return positions in Å, times in fs, and whether there is a cell."""
    frames = read(path, ":")
    times = np.array([frame.info["time_fs"] for frame in frames])
    return np.array([f.positions for f in frames]), times, any(f.pbc.any() for f in frames)


def by_openmm(path: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return positions in Å, times in fs, and whether there is a cell, of an XTC file."""
    positions, boxes, times, _ = read_xtc(str(path).encode())  # [N, 3, T], [3, 3, T]
    return 10.0 * positions.transpose(2, 0, 1), 1000.0 * times, bool(boxes.any())


def by_cp2k_reader(path: Path) -> np.ndarray:
    """Return positions in Å of a DCD file with a cell, by ASE's own reader for files of CP2K."""
    data = bytearray(path.read_bytes())
    data[100:180] = b"REMARK CP2K".ljust(80)
    path.with_suffix(".cp2k").write_bytes(data)
    with path.with_suffix(".cp2k").open("rb") as file:
        return np.array([frame.positions for frame in read_cp2k_dcd(file, slice(None))])


def velocities_of(path: Path) -> np.ndarray:
    """Return velocities in Å/fs, by a reader other than the package's own."""
    if path.suffix == ".h5":
        with mdtraj.formats.HDF5TrajectoryFile(str(path)) as file:
            return file.read().velocities * 10.0 / 1000.0
    if path.suffix in (".trr", ".nc"):
        universe = MDAnalysis.Universe(str(path.with_suffix(".pdb")), str(path))
        return np.array([step.velocities.copy() for step in universe.trajectory]) / 1000.0
    frames = read(path, ":")
    return units.velocities_from_ase(np.array([frame.get_velocities() for frame in frames]))


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond a size in bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
