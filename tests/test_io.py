"""Trajectory writers, read back by independent readers."""

import resource
import struct
from contextlib import contextmanager

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from ase_atom import io, units
from ase_atom.errors import TrajectoryError
from ase_atom.io import check_output, open_trajectory, read_structure
from ase_atom.topology import perceive_bonds

ENDINGS = [".dcd", ".xtc", ".xyz", ".extxyz", ".traj"]
INTERVAL = 2.5  # fs


@contextmanager
def full_disk(size: int):
    """Let no file grow beyond a size in bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=["ethanol", "benzene"])
def atoms(request, ethanol) -> Atoms:
    """Nine atoms and more: XTC packs the positions of larger molecules only."""
    return ethanol if request.param == "ethanol" else molecule("C6H6")


def make_frames(atoms: Atoms, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    positions = atoms.positions + rng.normal(scale=0.05, size=(count, len(atoms), 3))
    velocities = rng.normal(scale=0.01, size=(count, len(atoms), 3))
    return positions, velocities, INTERVAL * np.arange(count)


def write(path, atoms, count=20, **options):
    frames = make_frames(atoms, count)
    with open_trajectory(path, atoms, INTERVAL, **options) as writer:
        writer.write(*(part[:7] for part in frames))
        writer.write(*(part[7:] for part in frames))
    assert writer.frames == count
    return frames


def read_back(path) -> np.ndarray:
    """Return positions in Å, ``[T, N, 3]``."""
    if path.suffix in (".dcd", ".xtc"):
        return 10.0 * mdtraj.load(path, top=path.with_suffix(".pdb")).xyz
    return np.array([frame.positions for frame in read(path, ":")])


TOLERANCE = {".dcd": 1e-6, ".xtc": 0.0051, ".xyz": 1e-8, ".extxyz": 1e-8, ".traj": 0.0}


@pytest.mark.parametrize("ending", ENDINGS)
def test_positions_come_back(tmp_path, atoms, ending):
    path = tmp_path / f"t{ending}"
    positions, _, _ = write(path, atoms)
    np.testing.assert_allclose(read_back(path), positions, rtol=0, atol=TOLERANCE[ending] + 1e-12)


@pytest.mark.parametrize("ending", [".dcd", ".xtc"])
def test_mdanalysis_reads_positions_times_and_bonds(tmp_path, atoms, ending):
    path = tmp_path / f"t{ending}"
    positions, _, times = write(path, atoms)
    universe = MDAnalysis.Universe(path.with_suffix(".pdb"), path)
    found = [(step.time, step.positions.copy()) for step in universe.trajectory]
    np.testing.assert_allclose([1000 * time for time, _ in found], times, rtol=1e-5)
    np.testing.assert_allclose([x for _, x in found], positions, rtol=0, atol=TOLERANCE[ending])
    assert universe.trajectory.dt == pytest.approx(INTERVAL / 1000, rel=1e-5)
    bonds = sorted(tuple(sorted(map(int, bond.indices))) for bond in universe.atoms.bonds)
    assert bonds == perceive_bonds(atoms)
    assert list(universe.atoms.elements) == atoms.get_chemical_symbols()


def test_mdtraj_reads_xtc_times(tmp_path, atoms):
    _, _, times = write(tmp_path / "t.xtc", atoms)
    found = mdtraj.load(tmp_path / "t.xtc", top=tmp_path / "t.pdb").time
    np.testing.assert_allclose(1000 * found, times, rtol=1e-5)


def test_dcd_header(tmp_path, atoms):
    write(tmp_path / "t.dcd", atoms)
    header = (tmp_path / "t.dcd").read_bytes()[:48]
    count, first, interval, last = struct.unpack("<4i", header[8:24])
    (step,) = struct.unpack("<f", header[44:48])
    assert (count, first, interval, last) == (20, 0, 1, 19)
    assert step * 48.88821 == pytest.approx(INTERVAL, rel=1e-6)  # one AKMA unit in fs


@pytest.mark.parametrize("ending", [".xyz", ".extxyz", ".traj"])
def test_ase_formats_keep_velocities_times_and_masses(tmp_path, atoms, ending):
    path = tmp_path / f"t{ending}"
    _, velocities, times = write(path, atoms)
    for frame, velocity, time in zip(read(path, ":"), velocities, times, strict=True):
        found = units.velocities_from_ase(frame.get_velocities())
        np.testing.assert_allclose(found, velocity, rtol=0, atol=1e-9)
        assert frame.info["time_fs"] == pytest.approx(time)


def test_every_frame_is_on_the_disk_at_once(tmp_path, atoms):
    for ending in ENDINGS:
        path = tmp_path / f"open{ending}"
        positions, velocities, times = make_frames(atoms, 3)
        writer = open_trajectory(path, atoms, INTERVAL, overwrite=True)
        writer.write(positions, velocities, times)
        assert len(read_back(path)) == 3, ending
        writer.close()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_full_disk_keeps_the_whole_frames(tmp_path, atoms, ending):
    path = tmp_path / f"t{ending}"
    frames = make_frames(atoms, 200)
    writer = open_trajectory(path, atoms, INTERVAL)
    with (
        full_disk(9001),
        pytest.raises(TrajectoryError, match=r"cannot write .*; its first \d+ frames are kept"),
    ):
        writer.write(*frames)
    assert 2 < writer.frames < 200
    found = read_back(path)
    np.testing.assert_allclose(
        found, frames[0][: writer.frames], rtol=0, atol=TOLERANCE[ending] + 1e-12
    )
    with pytest.raises(TrajectoryError, match="closed"):
        writer.write(*frames)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("size", [0, 400])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_disk_that_was_full_before_is_left_as_it_was(tmp_path, ethanol, ending, size):
    def attempt() -> None:
        with open_trajectory(tmp_path / f"t{ending}", ethanol, INTERVAL) as writer:
            writer.write(*make_frames(ethanol, 2))

    with full_disk(size), pytest.raises(TrajectoryError, match="cannot write"):
        attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_existing_files_are_kept_unless_told(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    write(path, ethanol, 20)
    before = path.read_bytes()
    with pytest.raises(TrajectoryError, match="exists and is kept; --overwrite"):
        open_trajectory(path, ethanol, INTERVAL)
    assert path.read_bytes() == before
    write(path, ethanol, 10, overwrite=True)
    assert len(read_back(path)) == 10


def test_an_existing_topology_is_kept_too(tmp_path, ethanol):
    (tmp_path / "t.pdb").write_text("mine")
    with pytest.raises(TrajectoryError, match=r"t\.pdb exists"):
        open_trajectory(tmp_path / "t.dcd", ethanol, INTERVAL)
    assert [file.name for file in tmp_path.iterdir()] == ["t.pdb"]


def test_inputs_are_never_replaced(tmp_path):
    (tmp_path / "t.pdb").write_text("input")
    with pytest.raises(TrajectoryError, match="would replace the input"):
        check_output(tmp_path / "t.dcd", overwrite=True, inputs=(tmp_path / "t.pdb",))


def test_unknown_endings_name_the_known_ones(tmp_path, ethanol):
    with pytest.raises(TrajectoryError, match=r"one of \.dcd, \.xtc, \.xyz, \.extxyz, \.traj"):
        open_trajectory(tmp_path / "t.trr", ethanol, INTERVAL)


def test_frames_that_do_not_fit_are_refused(tmp_path, ethanol):
    positions, velocities, times = make_frames(ethanol, 3)
    with open_trajectory(tmp_path / "t.dcd", ethanol, INTERVAL) as writer:
        with pytest.raises(TrajectoryError, match=r"is \[9, 3\], not \[8, 3\]"):
            writer.write(positions[:, :8], velocities[:, :8], times)
        positions[1, 0, 0] = np.nan
        with pytest.raises(TrajectoryError, match=r"frame at 2\.5 fs .* not finite"):
            writer.write(positions, velocities, times)
    assert writer.frames == 1
    with pytest.raises(TrajectoryError, match="closed"):
        writer.write(positions[:1], velocities[:1], times[:1])


def test_structures_are_read(tmp_path, ethanol):
    odd = tmp_path / "name@2.xyz"  # ASE would take what follows the @ for an index
    ethanol.write(tmp_path / "a.xyz")
    odd.write_bytes((tmp_path / "a.xyz").read_bytes())
    np.testing.assert_allclose(read_structure(odd).positions, ethanol.positions)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xyz", b"9\n\nC 0 0", "no structure that ASE can read"),
        ("a.xyz", b"", "no structure that ASE can read"),
        ("a.txt", b"dear diary", "no structure that ASE can read"),
        ("a.png", bytes(range(256)), "no structure that ASE can read"),
        ("a.pdb", b"REMARK nothing here\nEND\n", "no structure|no atoms"),
    ],
)
def test_files_that_are_no_structures(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrajectoryError, match=message):
        read_structure(tmp_path / name)


def test_missing_structures(tmp_path):
    with pytest.raises(TrajectoryError, match="does not exist"):
        read_structure(tmp_path / "a.xyz")
    with pytest.raises(TrajectoryError, match="is a folder"):
        read_structure(tmp_path)


def test_the_list_of_writers_has_no_ending_twice():
    endings = [ending for writer in io.WRITERS for ending in writer.endings]
    assert len(endings) == len(set(endings))
