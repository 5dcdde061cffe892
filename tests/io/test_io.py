"""Trajectory writers: what they write, what they refuse, and full disks."""

import struct

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.io import read
from io_files import (
    ENDINGS,
    INTERVAL,
    TOLERANCE,
    WITH_VELOCITIES,
    full_disk,
    make_frames,
    read_back,
    velocities_of,
    write,
)

from ase_atom.errors import TrajectoryError
from ase_atom.io import FORMATS, check_output, open_trajectory, read_structure, read_trajectory


@pytest.fixture(params=["ethanol", "benzene"])
def atoms(request, ethanol) -> Atoms:
    """Nine atoms and more: XTC packs the positions of larger molecules only."""
    return ethanol if request.param == "ethanol" else molecule("C6H6")


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_come_back(tmp_path, atoms, ending):
    path = tmp_path / f"t{ending}"
    positions, velocities, times = write(path, atoms)
    np.testing.assert_allclose(read_back(path), positions, rtol=0, atol=TOLERANCE[ending])
    with read_trajectory(path) as reader:
        assert len(reader) == 20
        assert reader.lost == 0
        assert reader.frame_interval() == pytest.approx(INTERVAL, rel=1e-6)
        assert list(reader.atoms.symbols) == list(atoms.symbols)
        blocks = list(reader)
    found = np.concatenate([block.positions for block in blocks])
    np.testing.assert_allclose(found, positions, rtol=0, atol=TOLERANCE[ending])
    np.testing.assert_allclose(np.concatenate([block.times for block in blocks]), times, rtol=1e-6)
    assert all(block.cells is None for block in blocks)
    if ending in WITH_VELOCITIES:
        found = np.concatenate([block.velocities for block in blocks])
        np.testing.assert_allclose(found, velocities, rtol=0, atol=1e-8)
        np.testing.assert_allclose(velocities_of(path), velocities, rtol=0, atol=1e-8)
    else:
        assert blocks[0].velocities is None


@pytest.mark.parametrize("ending", ENDINGS)
def test_arrays_are_written_whatever_their_order_in_memory(tmp_path, atoms, ending):
    path = tmp_path / f"t{ending}"
    frames = make_frames(atoms, 20)
    with open_trajectory(path, atoms) as writer:
        writer.write_frames(*(np.asfortranarray(part) for part in frames))
    np.testing.assert_allclose(read_back(path), frames[0], rtol=0, atol=TOLERANCE[ending])
    if ending in WITH_VELOCITIES:
        np.testing.assert_allclose(velocities_of(path), frames[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("ending", [".xyz", ".extxyz", ".traj"])
def test_ase_formats_keep_times_energies_and_forces(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    ethanol.calc = LennardJones()
    forces, energy = ethanol.get_forces(), ethanol.get_potential_energy()
    with open_trajectory(path, ethanol, frame_interval=INTERVAL) as writer:
        writer.write()
        ethanol.rattle(0.1)  # now nothing is known of these positions
        writer.write()
    first, second = read(path, ":")
    assert first.get_potential_energy() == pytest.approx(energy, abs=1e-7)
    np.testing.assert_allclose(first.get_forces(), forces, rtol=1e-6, atol=1e-7)
    assert second.calc is None
    assert [frame.info["time_fs"] for frame in (first, second)] == [0.0, INTERVAL]
    with read_trajectory(path) as reader:
        (block,) = reader
    np.testing.assert_allclose(block.energies, [energy, np.nan], rtol=1e-7)
    np.testing.assert_allclose(block.forces[0], forces, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ending", WITH_VELOCITIES)
def test_velocities_of_other_masses_come_back(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    masses = ethanol.get_masses()
    masses[ethanol.numbers == 1] = 2.014
    ethanol.set_masses(masses)
    _, velocities, _ = write(path, ethanol)
    np.testing.assert_allclose(velocities_of(path), velocities, rtol=0, atol=1e-8)


def test_without_velocities(tmp_path, ethanol):
    positions, _, times = make_frames(ethanol, 3)
    for ending in WITH_VELOCITIES:
        path = tmp_path / f"t{ending}"
        with open_trajectory(path, ethanol) as writer:
            writer.write_frames(positions, times=times)
        with read_trajectory(path) as reader:
            assert next(iter(reader)).velocities is None, ending
        path.with_suffix(".pdb").unlink(missing_ok=True)


@pytest.mark.parametrize("ending", [".nc", ".h5"])
def test_velocities_that_not_all_frames_have(tmp_path, ethanol, ending):
    positions, velocities, times = make_frames(ethanol, 2)
    with open_trajectory(tmp_path / f"t{ending}", ethanol) as writer:
        writer.write_frames(positions[:1], velocities[:1], times[:1])
        with pytest.raises(TrajectoryError, match="holds velocities"):
            writer.write_frames(positions[1:], None, times[1:])
    assert len(read_back(writer.path)) == 1


def test_dcd_header(tmp_path, atoms):
    write(tmp_path / "t.dcd", atoms)
    assert dcd_times(tmp_path / "t.dcd") == (20, 0, 1, 19, pytest.approx(INTERVAL, rel=1e-6))


@pytest.mark.parametrize(
    ("start", "interval", "first", "steps"),
    [
        (10.0, 2.5, 4, 1),
        (1.0, 2.5, 2, 5),
        (0.5, 16.0, 1, 32),
        (1e6, 0.5, 2_000_000, 1),
        (1.0, 3.0, 1, 3),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_dcd_header_of_a_later_start(tmp_path, ethanol, start, interval, first, steps, given):
    path = tmp_path / "t.dcd"
    options = {"frame_interval": interval, "start_time": start} if given else {}
    with open_trajectory(path, ethanol, **options) as writer:
        for frame in range(4):
            writer.write(time=None if given else start + frame * interval)
    found = dcd_times(path)
    assert found[:4] == (4, first, steps, first + 3 * steps)
    assert found[4] == pytest.approx(interval / steps, rel=1e-6)
    with read_trajectory(path) as reader:
        times = next(iter(reader)).times
    np.testing.assert_allclose(times, start + interval * np.arange(4), rtol=1e-7)


def dcd_times(path) -> tuple[int, int, int, int, float]:
    """Return frames, first step, interval, last step, and time step in fs."""
    header = path.read_bytes()[:48]
    return (*struct.unpack("<4i", header[8:24]), struct.unpack("<f", header[44:48])[0] * 48.88821)


def test_a_dcd_wants_even_times(tmp_path, ethanol):
    positions, _, _ = make_frames(ethanol, 3)
    with open_trajectory(tmp_path / "t.dcd", ethanol) as writer:
        with pytest.raises(TrajectoryError, match=r"at 5 fs .* should be at 4 fs: a DCD"):
            writer.write_frames(positions, times=[0.0, 2.0, 5.0])
        writer.write_frames(positions, times=[0.0, 2.0, 4.0])
    with (
        open_trajectory(tmp_path / "u.dcd", ethanol, frame_interval=1.0, start_time=1e10) as writer,
        pytest.raises(TrajectoryError, match=r"cannot start at 1e\+10 fs .* up to 2147483647"),
    ):
        writer.write()


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending != ".dcd"])
def test_uneven_times(tmp_path, ethanol, ending):
    positions, _, _ = make_frames(ethanol, 3)
    path = tmp_path / f"t{ending}"
    with open_trajectory(path, ethanol) as writer:
        writer.write_frames(positions, times=[1.0, 2.0, 5.0])
    with read_trajectory(path) as reader:
        np.testing.assert_allclose(next(iter(reader)).times, [1, 2, 5], rtol=1e-6)


def test_a_time_that_nobody_knows(tmp_path, ethanol):
    for ending in ENDINGS:
        with (
            open_trajectory(tmp_path / f"t{ending}", ethanol, "w") as writer,
            pytest.raises(TrajectoryError, match=r"time of a frame .* unknown: .*frame_interval"),
        ):
            writer.write()
    with pytest.raises(TrajectoryError, match="interval must be above zero, not -1 fs"):
        open_trajectory(tmp_path / "u.dcd", ethanol, frame_interval=-1.0)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_full_disk_keeps_the_whole_frames(tmp_path, atoms, ending):
    path = tmp_path / f"t{ending}"
    count, size = (16_000, 3_000_000) if ending == ".h5" else (200, 9001)
    frames = make_frames(atoms, count)
    writer = open_trajectory(path, atoms, frame_interval=INTERVAL)
    with (
        full_disk(size),
        pytest.raises(TrajectoryError, match=r"cannot write .*; its first \d+ frames are kept"),
    ):
        for part in range(0, count, 200):
            writer.write_frames(*(array[part : part + 200] for array in frames))
    assert 2 < writer.frames < count
    found = read_back(path)
    np.testing.assert_allclose(
        found, frames[0][: writer.frames], rtol=0, atol=TOLERANCE[ending] + 1e-12
    )
    with pytest.raises(TrajectoryError, match="closed"):
        writer.write_frames(*frames)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("size", [0, 400])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_disk_that_was_full_before_is_left_as_it_was(tmp_path, ethanol, ending, size):
    def attempt() -> None:
        with open_trajectory(tmp_path / f"t{ending}", ethanol, frame_interval=INTERVAL) as writer:
            writer.write_frames(*make_frames(ethanol, 2))

    with full_disk(size), pytest.raises(TrajectoryError, match="cannot write"):
        attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_existing_files_are_kept_unless_told(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    write(path, ethanol, 20)
    before = path.read_bytes()
    with pytest.raises(TrajectoryError, match=r"is kept; --overwrite \(mode='w'\) replaces it"):
        open_trajectory(path, ethanol)
    assert path.read_bytes() == before
    write(path, ethanol, 10, mode="w")
    assert len(read_back(path)) == 10


def test_an_existing_topology_is_kept_if_it_fits(tmp_path, ethanol):
    topology = tmp_path / "t.pdb"
    ethanol.write(topology)  # without bonds: not what would be written
    before = topology.read_bytes()
    for mode in "xwa":
        open_trajectory(tmp_path / "t.dcd", ethanol, mode).close()
        assert topology.read_bytes() == before
    topology.write_text("mine")
    with pytest.raises(TrajectoryError, match=r"t\.pdb exists"):
        open_trajectory(tmp_path / "t.xtc", ethanol)
    assert not (tmp_path / "t.xtc").exists()
    other = molecule("CH3OCH3")
    other.write(topology)
    open_trajectory(tmp_path / "t.dcd", ethanol, "w").close()
    assert b"CONECT" in topology.read_bytes()


def test_inputs_are_never_replaced(tmp_path):
    (tmp_path / "t.pdb").write_text("input")
    with pytest.raises(TrajectoryError, match="would replace the input"):
        check_output(tmp_path / "t.dcd", overwrite=True, inputs=(tmp_path / "t.pdb",))
    with pytest.raises(TrajectoryError, match="exists and is kept; --overwrite"):
        check_output(tmp_path / "t.dcd")


def test_unknown_endings_name_the_known_ones(tmp_path, ethanol):
    known = ", ".join(rf"\{ending}" for ending in ENDINGS)
    with pytest.raises(TrajectoryError, match=f"no writer .* one of {known}$"):
        open_trajectory(tmp_path / "t.pdb", ethanol)
    with pytest.raises(TrajectoryError, match=rf"no reader .* one of {known}, \.pdb$"):
        read_trajectory(tmp_path / "t.lammpstrj")
    with pytest.raises(TrajectoryError, match="'x', 'w' or 'a', not 'r'"):
        open_trajectory(tmp_path / "t.dcd", ethanol, "r")


def test_no_ending_stands_for_two_formats():
    endings = [ending for one in FORMATS for ending in one.endings]
    assert len(endings) == len(set(endings))
    for one in FORMATS:
        assert one.reader_class()
        assert one.writer is None or one.writer_class()


def test_frames_that_do_not_fit_are_refused(tmp_path, ethanol):
    positions, velocities, times = make_frames(ethanol, 3)
    with open_trajectory(tmp_path / "t.dcd", ethanol, frame_interval=INTERVAL) as writer:
        with pytest.raises(TrajectoryError, match=r"positions .* \[3, 9, 3\], not \[3, 8, 3\]"):
            writer.write_frames(positions[:, :8], velocities[:, :8], times)
        with pytest.raises(TrajectoryError, match=r"times .* \[3\], not \[2\]"):
            writer.write_frames(positions, velocities, times[:2])
        with pytest.raises(TrajectoryError, match="atoms without a cell"):
            writer.write_frames(positions, cells=np.zeros((3, 3, 3)))
        positions[1, 0, 0] = np.nan
        with pytest.raises(TrajectoryError, match=r"frame at 2\.5 fs .* not finite"):
            writer.write_frames(positions, velocities, times)
        positions[1, 0, 0], velocities[0, 0, 0] = 0.0, np.inf
        with pytest.raises(TrajectoryError, match=r"frame at 2\.5 fs .* not finite"):
            writer.write_frames(positions, velocities, times + INTERVAL)
        with pytest.raises(TrajectoryError, match="holds 9 atoms, C2H6O; these are 3, H2O"):
            writer.write(molecule("H2O"))
        with pytest.raises(TrajectoryError, match="in another order"):
            writer.write(ethanol[::-1])
    assert writer.frames == 1
    for again in (writer.write, lambda: writer.write_frames(positions[:1])):
        with pytest.raises(TrajectoryError, match=r"t\.dcd is closed: no frame can be added"):
            again()


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
