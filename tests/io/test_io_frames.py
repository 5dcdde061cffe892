"""Frames that differ in what they hold: each has its own cell, velocities, time and forces."""

import struct

import h5py
import MDAnalysis
import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from ase.io import write as ase_write
from io_files import make_frames
from scipy.io import netcdf_file

from ase_atom.errors import TrajectoryError
from ase_atom.io import TrajectoryWarning, convert_trajectory, open_trajectory, read_trajectory
from ase_atom.io.frames import FrameBlock
from ase_atom.io.trr import _SIZES, _START, frame_type

EDGES = [20.0, 21.0, None, 23.0]  # Å, of cubic cells


def frames_of(path, topology=None):
    """Return the frames of a file as atoms, by the package's reader and one block at a time."""
    from ase_atom.io.ase_frames import to_atoms

    with read_trajectory(path, topology) as reader:
        return [
            to_atoms(reader.numbers, block, frame)
            for block in reader
            for frame in range(len(block))
        ]


def edges(frames) -> list[float | None]:
    """Return the first edge of each cell in Å, None for frames without one."""
    return [round(float(f.cell.lengths()[0]), 3) if f.pbc.any() else None for f in frames]


@pytest.fixture
def mixed(ethanol) -> list[Atoms]:
    """Frames with cells of `EDGES`."""
    positions, _, times = make_frames(ethanol, 4)
    frames = []
    for x, time, edge in zip(positions, times, EDGES, strict=True):
        cell = {} if edge is None else {"cell": [edge] * 3, "pbc": True}
        frames.append(Atoms(ethanol.numbers, x, info={"time_fs": time}, **cell))
    return frames


@pytest.mark.parametrize("source", [".extxyz", ".traj"])
@pytest.mark.parametrize("target", [".extxyz", ".traj", ".trr", ".xtc", ".dcd"])
def test_every_frame_has_its_own_cell_or_none(tmp_path, mixed, source, target):
    ase_write(tmp_path / f"in{source}", mixed)
    assert edges(frames_of(tmp_path / f"in{source}")) == EDGES
    for every, expected in ((1, EDGES), (2, EDGES[::2]), (3, EDGES[::3])):
        convert_trajectory(
            tmp_path / f"in{source}", tmp_path / f"out{target}", every, overwrite=True
        )
        assert edges(frames_of(tmp_path / f"out{target}")) == expected
    convert_trajectory(tmp_path / f"in{source}", tmp_path / f"out{target}", overwrite=True)
    if target in (".extxyz", ".traj"):
        assert edges(read(tmp_path / f"out{target}", ":")) == EDGES
    else:
        universe = MDAnalysis.Universe(str(tmp_path / "out.pdb"), str(tmp_path / f"out{target}"))
        boxes = [None if s.dimensions is None else s.dimensions.copy() for s in universe.trajectory]
        found = [None if box is None or not box.any() else round(float(box[0]), 3) for box in boxes]
        assert found == EDGES


@pytest.mark.parametrize("target", [".dcd", ".nc", ".h5"])
def test_a_cell_that_comes_too_late_is_refused_and_the_frames_before_stand(tmp_path, mixed, target):
    mixed[0].info["time_fs"] = 7.5
    ase_write(tmp_path / "in.extxyz", [mixed[2], mixed[0]])
    with pytest.raises(
        TrajectoryError,
        match=rf"out\{target} cannot hold frame 2, at 7\.5 fs, which has a cell.*"
        r"\.xtc, \.trr, \.xyz, \.extxyz, \.traj hold frames with and without",
    ):
        convert_trajectory(tmp_path / "in.extxyz", tmp_path / f"out{target}")
    assert edges(frames_of(tmp_path / f"out{target}")) == [None]


@pytest.mark.parametrize("target", [".nc", ".h5"])
def test_a_cell_that_ends_is_refused_where_other_readers_know_no_such_frames(
    tmp_path, mixed, target
):
    ase_write(tmp_path / "in.extxyz", mixed)
    with pytest.raises(TrajectoryError, match=r"cannot hold frame 3, at 5 fs, which has no cell"):
        convert_trajectory(tmp_path / "in.extxyz", tmp_path / f"out{target}")
    assert edges(frames_of(tmp_path / f"out{target}")) == EDGES[:2]


def test_every_frame_repeats_along_its_own_vectors(tmp_path, mixed):
    patterns = [[True] * 3, [True, True, False], [False] * 3, [False, False, True]]
    for frame, pattern in zip(mixed, patterns, strict=True):
        frame.pbc = pattern
    ase_write(tmp_path / "in.extxyz", mixed)
    for target in (".extxyz", ".traj"):
        convert_trajectory(tmp_path / "in.extxyz", tmp_path / f"out{target}")
        assert [f.pbc.tolist() for f in read(tmp_path / f"out{target}", ":")] == patterns
    with pytest.warns(TrajectoryWarning, match="cannot hold the directions without periodicity"):
        convert_trajectory(tmp_path / "in.extxyz", tmp_path / "out.xtc")


def test_atoms_are_written_with_the_cell_that_they_have(tmp_path, mixed):
    for ending in (".extxyz", ".traj", ".trr", ".xtc"):
        with open_trajectory(tmp_path / f"t{ending}", mixed[2], frame_interval=1.0) as writer:
            for frame in mixed:
                writer.write(frame)
        assert edges(frames_of(tmp_path / f"t{ending}")) == EDGES
        (tmp_path / "t.pdb").unlink(missing_ok=True)
    with open_trajectory(tmp_path / "t.dcd", mixed[2], frame_interval=1.0) as writer:
        writer.write(mixed[2])
        with pytest.raises(TrajectoryError, match=r"frame 2, .*has a cell"):
            writer.write(mixed[0])
    assert writer.frames == 1


@pytest.mark.parametrize(
    "cell", [np.zeros((3, 3)), np.eye(3), np.eye(3) * 1.0002], ids=["zeros", "one", "rounded"]
)
def test_placeholder_cells_are_none(tmp_path, ethanol, cell):
    atoms = Atoms(ethanol, cell=cell, pbc=True)
    atoms.info["time_fs"] = 0.0
    for ending in (".extxyz", ".traj"):
        ase_write(tmp_path / f"t{ending}", [atoms, atoms])
        assert edges(frames_of(tmp_path / f"t{ending}")) == [None, None]
        with read_trajectory(tmp_path / f"t{ending}") as reader:
            assert not reader.atoms.pbc.any()


# ---- velocities, times, forces -------------------------------------------------------------------


@pytest.mark.parametrize("source", [".trr", ".extxyz", ".traj"])
@pytest.mark.parametrize("late", [True, False])
def test_velocities_that_some_frames_have(tmp_path, ethanol, source, late):
    positions, velocities, times = make_frames(ethanol, 5)
    first, second = (None, velocities[3:]) if late else (velocities[:3], None)
    with open_trajectory(tmp_path / f"in{source}", ethanol) as writer:
        writer.write_frames(positions[:3], first, times[:3])
        writer.write_frames(positions[3:], second, times[3:])
    for target in (".trr", ".xyz", ".traj"):
        convert_trajectory(tmp_path / f"in{source}", tmp_path / f"out{target}", topology=ethanol)
        with read_trajectory(tmp_path / f"out{target}", ethanol) as reader:
            blocks = list(reader)
            assert reader.frame_interval() == pytest.approx(2.5)
        assert [len(block) for block in blocks] == [3, 2]
        assert [block.velocities is None for block in blocks] == [late, not late]
        moving = blocks[late].velocities
        np.testing.assert_allclose(moving, second if late else first, rtol=0, atol=1e-8)
        (tmp_path / "out.pdb").unlink(missing_ok=True)
    for target in (".nc", ".h5"):
        with pytest.raises(TrajectoryError, match=r"frame 4, at 7\.5 fs|holds (no )?velocities"):
            convert_trajectory(tmp_path / f"in{source}", tmp_path / f"out{target}")
        with read_trajectory(tmp_path / f"out{target}", ethanol) as reader:
            assert len(reader) == 3
            assert (next(iter(reader)).velocities is None) == late
        (tmp_path / "out.pdb").unlink(missing_ok=True)
    with pytest.warns(TrajectoryWarning, match="cannot hold the velocities"):
        convert_trajectory(tmp_path / f"in{source}", tmp_path / "out.dcd", topology=ethanol)


@pytest.mark.parametrize("source", [".extxyz", ".traj"])
@pytest.mark.parametrize("timeless", [0, 1, 3])
@pytest.mark.filterwarnings("ignore:.* has no times")
def test_times_that_some_frames_lack_are_not_filled_in(tmp_path, mixed, source, timeless):
    for frame in mixed:
        frame.pbc = False
    del mixed[timeless].info["time_fs"]
    ase_write(tmp_path / f"in{source}", mixed)
    with read_trajectory(tmp_path / f"in{source}") as reader:
        found = [time for b in reader for time in ([None] * len(b) if b.times is None else b.times)]
    assert found == [frame.info.get("time_fs") for frame in mixed]
    with pytest.raises(TrajectoryError, match=r"only some frames of .* have times, and frame"):
        convert_trajectory(tmp_path / f"in{source}", tmp_path / "out.xyz")


@pytest.mark.parametrize("time", [2, 2.0, np.float32(2), np.int64(2), "2", "2 fs", "0.002 ps"])
@pytest.mark.parametrize("ending", [".extxyz", ".traj"])
def test_times_of_any_type_are_read(tmp_path, ethanol, time, ending):
    frames = [ethanol.copy(), ethanol.copy()]
    frames[0].info["time_fs"] = type(time)(0)
    frames[1].info["time_fs"] = time
    ase_write(tmp_path / f"t{ending}", frames)
    with read_trajectory(tmp_path / f"t{ending}") as reader:
        assert [list(block.times) for block in reader] == [[0.0, 2.0]]


@pytest.mark.parametrize("time", ["soon", "nan", [1.0, 2.0], True])
def test_times_that_are_none_are_refused(tmp_path, ethanol, time):
    ethanol.info["time_fs"] = time
    ase_write(tmp_path / "t.extxyz", ethanol)
    with (
        pytest.raises(TrajectoryError, match=r"time_fs is .* should be a number of fs"),
        read_trajectory(tmp_path / "t.extxyz") as reader,
    ):
        list(reader)


@pytest.mark.parametrize("ending", [".trr", ".nc", ".xtc", ".xyz", ".traj", ".h5"])
def test_stored_times_that_do_not_increase_make_room_for_an_interval(tmp_path, ethanol, ending):
    positions, _, _ = make_frames(ethanol, 4)
    source = tmp_path / f"in{ending}"
    with open_trajectory(source, ethanol) as writer:
        writer.write_frames(positions, times=np.zeros(4))
    with pytest.raises(TrajectoryError, match=r"must increase.*--frame-interval"):
        convert_trajectory(source, tmp_path / "out.dcd")
    with pytest.warns(TrajectoryWarning, match="do not increase: its frames are taken to be 5 fs"):
        convert_trajectory(source, tmp_path / "out.xyz", every=2, frame_interval=5.0)
    assert [f.info["time_fs"] for f in read(tmp_path / "out.xyz", ":")] == [0.0, 10.0]
    convert_trajectory(source, tmp_path / "same.xyz")
    assert [f.info["time_fs"] for f in read(tmp_path / "same.xyz", ":")] == [0.0] * 4


def test_forces_of_a_trr_file(tmp_path, ethanol):
    positions, _, times = make_frames(ethanol, 4)
    forces = np.random.default_rng(3).normal(size=positions.shape)
    forces[2] = np.nan  # unknown
    with open_trajectory(tmp_path / "in.trr", ethanol) as writer:
        writer.write_frames(positions, times=times, forces=forces)
    universe = MDAnalysis.Universe(str(tmp_path / "in.pdb"), str(tmp_path / "in.trr"))
    for step, expected in zip(universe.trajectory, forces, strict=True):
        assert step.has_forces == np.isfinite(expected).all()
        if step.has_forces:  # kJ/mol/Å
            np.testing.assert_allclose(step.forces / 96.48533, expected, rtol=1e-5)
    convert_trajectory(tmp_path / "in.trr", tmp_path / "out.traj")
    found = read(tmp_path / "out.traj", ":")
    for frame, expected in zip(found, forces, strict=True):
        if np.isfinite(expected).all():
            np.testing.assert_allclose(frame.get_forces(), expected, rtol=1e-6, atol=1e-6)
        else:
            assert frame.calc is None


# ---- what other programs write -------------------------------------------------------------------


def test_trr_frames_of_other_programs_without_a_box(tmp_path, ethanol):
    """Where a frame has none, its part is missing altogether."""
    positions, _, _ = make_frames(ethanol, 4)
    data = b""
    for x, edge in zip(positions, EDGES, strict=True):
        sizes = dict.fromkeys(_SIZES, 0) | {"x": 12 * 9, "box": 0 if edge is None else 36}
        frame = np.zeros(1, frame_type(9, sizes))
        frame["start"], frame["sizes"], frame["atoms"] = np.void(_START), [*sizes.values()], 9
        frame["x"] = 0.1 * x
        if edge is not None:
            frame["box"] = 0.1 * edge * np.eye(3)
        data += frame.tobytes()
    (tmp_path / "t.trr").write_bytes(data)
    assert edges(frames_of(tmp_path / "t.trr", ethanol)) == EDGES


def dcd(path, positions, boxes, version=24, order="<", magic=b"CORD"):
    """Write a DCD file as other programs do."""
    numbers = np.zeros(20, f"{order}i4")
    numbers[[0, 2, 10, 19]] = len(positions), 1, 1, version
    step = struct.pack(f"{order}f", 1 / 48.88821)
    head = magic + numbers.tobytes()[:36] + step + numbers.tobytes()[40:]
    title = struct.pack(f"{order}i", 1) + b"made for a test".ljust(80)
    records = [head, title, struct.pack(f"{order}i", positions.shape[1])]
    for x, box in zip(positions, boxes, strict=True):
        records.append(np.asarray(box, f"{order}f8").tobytes())
        records += [axis.astype(f"{order}f4").tobytes() for axis in x.T]
    with path.open("wb") as file:
        for record in records:
            mark = struct.pack(f"{order}i", len(record))
            file.write(mark + record + mark)


VECTORS = np.array([[30.8, 14.6, 9.6], [14.6, 31.8, -2.6], [9.6, -2.6, 32.7]])
SMALL = np.array([[30.0, 0.5, 0.3], [0.5, 31.0, -0.2], [0.3, -0.2, 32.0]])
CELLPAR = np.array([20.0, 22.0, 24.0, 80.0, 95.0, 110.0])  # a, b, c, α, β, γ


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("version", "box", "expected"),
    [
        (36, VECTORS[[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]], VECTORS),
        (26, SMALL[[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]], SMALL),
        (24, VECTORS[[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]], VECTORS),  # no angles there
        (40, [20, 0, 21, 0, 0, 22], [20, 21, 22, 90, 90, 90]),
        (24, CELLPAR[[0, 5, 1, 4, 3, 2]], CELLPAR),
        (36, [20, 90, 21, 90, 90, 22], [20, 21, 22, 90, 90, 90]),  # not CHARMM's, by its angles
        (24, [20, 0, 21, 0, 0, 22], [20, 21, 22, 90, 90, 90]),  # cosines
        (24, [20, 0.5, 21, -0.25, 0.1, 22], [20, 21, 22, 84.26083, 104.47751, 60]),
        (24, np.zeros(6), None),
        (36, np.zeros(6), None),
        (24, [1, 90, 1, 90, 90, 1], None),
    ],
)
def test_cells_of_dcd_files(tmp_path, ethanol, order, version, box, expected):
    positions, _, _ = make_frames(ethanol, 2)
    dcd(tmp_path / "t.dcd", positions, [box] * 2, version, order)
    for frame, x in zip(frames_of(tmp_path / "t.dcd", ethanol), positions, strict=True):
        np.testing.assert_allclose(frame.positions, x, atol=1e-6)
        if expected is None:
            assert not frame.pbc.any()
        elif np.ndim(expected) == 2:  # vectors, as they lie to the atoms
            np.testing.assert_allclose(frame.cell.array, expected)
        else:
            np.testing.assert_allclose(frame.cell.cellpar(), expected, rtol=1e-6)


def test_mdanalysis_agrees_about_shape_matrices(tmp_path, ethanol):
    positions, _, _ = make_frames(ethanol, 1)
    dcd(tmp_path / "t.dcd", positions, [VECTORS[[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]]], 36)
    ethanol.write(tmp_path / "t.pdb")
    universe = MDAnalysis.Universe(str(tmp_path / "t.pdb"), str(tmp_path / "t.dcd"))
    (frame,) = frames_of(tmp_path / "t.dcd")
    np.testing.assert_allclose(frame.cell.cellpar(), universe.trajectory[0].dimensions, rtol=1e-5)


def test_cells_of_zeros_within_a_dcd_file(tmp_path, ethanol):
    positions, _, _ = make_frames(ethanol, 4)
    boxes = [np.zeros(6) if e is None else [e, 90, e, 90, 90, e] for e in EDGES]
    dcd(tmp_path / "t.dcd", positions, boxes)
    assert edges(frames_of(tmp_path / "t.dcd", ethanol)) == EDGES


@pytest.mark.parametrize("box", [[20, 190, 20, 90, 90, 20], [-20, 90, 20, 90, 90, 20]])
def test_a_dcd_cell_that_cannot_be_is_refused(tmp_path, ethanol, box):
    positions, _, _ = make_frames(ethanol, 2)
    dcd(tmp_path / "t.dcd", positions, [[20, 90, 20, 90, 90, 20], box])
    with pytest.raises(TrajectoryError, match=r"frame 2 has an impossible cell"):
        frames_of(tmp_path / "t.dcd", ethanol)


def test_a_dcd_file_of_velocities_is_refused(tmp_path, ethanol):
    positions, _, _ = make_frames(ethanol, 2)
    dcd(tmp_path / "t.dcd", positions, np.zeros((2, 6)), magic=b"VELD")
    with pytest.raises(TrajectoryError, match="it holds velocities, not positions"):
        read_trajectory(tmp_path / "t.dcd", ethanol)


def test_a_dcd_file_of_namds_velocities_is_refused(tmp_path, ethanol):
    positions, _, _ = make_frames(ethanol, 2)
    dcd(tmp_path / "t.dcd", positions, np.zeros((2, 6)))
    data = (tmp_path / "t.dcd").read_bytes()
    title = b"REMARKS FILENAME=run.veldcd".ljust(13)
    (tmp_path / "t.dcd").write_bytes(data.replace(b"made for a test".ljust(27), title))
    with pytest.raises(TrajectoryError, match="velocities of NAMD, not positions"):
        read_trajectory(tmp_path / "t.dcd", ethanol)


def test_energies_of_mdtrajs_files(tmp_path, ethanol):
    """OpenMM's reporter writes them; what else it writes is named."""
    positions, _, times = make_frames(ethanol, 3)
    with open_trajectory(tmp_path / "t.h5", ethanol) as writer:
        writer.write_frames(positions, times=times)
    with h5py.File(tmp_path / "t.h5", "a") as file:
        for name in ("potentialEnergy", "kineticEnergy", "temperature"):
            array = file.create_dataset(name, data=np.float32([96.485332, 0.0, -1.0]))
            array.attrs["units"] = np.bytes_("kilojoules_per_mole")
    with pytest.warns(TrajectoryWarning, match=r"t\.h5 these are not read: kineticEnergy, temp"):
        convert_trajectory(tmp_path / "t.h5", tmp_path / "out.traj")
    found = [frame.get_potential_energy() for frame in read(tmp_path / "out.traj", ":")]
    np.testing.assert_allclose(found, [1.0, 0.0, -0.0103643], rtol=1e-5, atol=1e-9)


def test_what_else_a_netcdf_file_holds_is_named(tmp_path, ethanol):
    positions, _, _ = make_frames(ethanol, 3)
    netcdf(tmp_path / "t.nc", positions)
    with netcdf_file(tmp_path / "t.nc", "a") as file:
        file.createVariable("temp0", "f8", ("frame",))[:] = np.full(3, 300.0)
    with pytest.warns(TrajectoryWarning, match=r"t\.nc these are not read: temp0"):
        frames_of(tmp_path / "t.nc", ethanol)


def netcdf(path, positions, units=(), scales=(), lengths=None, angles=None, velocities=None):
    """Write an AMBER NetCDF file with SciPy; numbers as they are to stand in the file."""
    units, scales = dict(units), dict(scales)
    with netcdf_file(path, "w", version=2) as file:
        file.Conventions, file.ConventionVersion = "AMBER", "1.0"
        file.createDimension("frame", None)
        file.createDimension("spatial", 3)
        file.createDimension("atom", positions.shape[1])
        per_atom = ("frame", "atom", "spatial")
        parts = [
            ("time", "f4", ("frame",), np.arange(len(positions))),
            ("coordinates", "f4", per_atom, positions),
            ("velocities", "f4", per_atom, velocities),
            ("cell_lengths", "f8", ("frame", "spatial"), lengths),
            ("cell_angles", "f8", ("frame", "spatial"), angles),
        ]
        for name, kind, shape, values in parts:
            if values is not None:
                variable = file.createVariable(name, kind, shape)
                variable[:] = values
                if name in units:
                    variable.units = units[name]
                if name in scales:
                    variable.scale_factor = scales[name]


def test_units_and_scales_of_a_netcdf_file(tmp_path, ethanol):
    positions, velocities, times = make_frames(ethanol, 3)
    right = np.full((3, 3), np.pi / 2)
    netcdf(
        tmp_path / "t.nc",
        0.1 * positions,
        {
            "time": "femtosecond",
            "coordinates": "nanometer",
            "velocities": "nanometer/picosecond",
            "cell_lengths": "nm",
            "cell_angles": "radian",
        },
        {"time": 2.5, "velocities": 20.455},
        np.full((3, 3), 2.0),
        right,
        velocities * 100.0 / 20.455,
    )
    with read_trajectory(tmp_path / "t.nc", ethanol) as reader:
        (block,) = reader
    np.testing.assert_allclose(block.positions, positions, atol=1e-6)
    np.testing.assert_allclose(block.velocities, velocities, atol=1e-8)
    np.testing.assert_allclose(block.times, times)
    np.testing.assert_allclose(block.cells, np.repeat(20 * np.eye(3)[None], 3, 0), atol=1e-9)


def test_a_netcdf_file_without_units_has_ambers(tmp_path, ethanol):
    positions, velocities, _ = make_frames(ethanol, 3)
    netcdf(tmp_path / "t.nc", positions, velocities=velocities * 1000)
    with read_trajectory(tmp_path / "t.nc", ethanol) as reader:
        (block,) = reader
    np.testing.assert_allclose(block.positions, positions, atol=1e-6)
    np.testing.assert_allclose(block.velocities, velocities, atol=1e-8)
    np.testing.assert_allclose(block.times, [0, 1000, 2000])


def test_units_of_a_netcdf_file_that_nobody_knows_are_refused(tmp_path, ethanol):
    positions, _, _ = make_frames(ethanol, 3)
    netcdf(tmp_path / "t.nc", positions, {"coordinates": "furlong"})
    with pytest.raises(TrajectoryError, match=r"its coordinates: the unit 'furlong' is none"):
        read_trajectory(tmp_path / "t.nc")


@pytest.mark.parametrize(("length", "angle"), [(0.0, 90.0), (0.0, 0.0), (20.0, 0.0)])
def test_netcdf_cells_of_zeros(tmp_path, ethanol, length, angle):
    positions, _, _ = make_frames(ethanol, 2)
    lengths, angles = np.full((2, 3), 20.0), np.full((2, 3), 90.0)
    lengths[1], angles[1] = length, angle
    netcdf(tmp_path / "t.nc", positions, lengths=lengths, angles=angles)
    assert edges(frames_of(tmp_path / "t.nc", ethanol)) == [20.0, None]


def test_a_netcdf_file_without_frames_is_one_line(tmp_path, ethanol):
    positions = np.empty((0, 9, 3))
    netcdf(tmp_path / "t.nc", positions, lengths=np.empty((0, 3)), angles=np.empty((0, 3)))
    with pytest.raises(TrajectoryError, match=r"t\.nc cannot be read: it holds no frames$"):
        read_trajectory(tmp_path / "t.nc", ethanol)


def test_blocks_are_divided_where_frames_differ():
    rng = np.random.default_rng(0)
    cells = np.repeat(10 * np.eye(3)[None], 6, axis=0)
    cells[2:4] = 0
    velocities = rng.normal(size=(6, 2, 3))
    velocities[3:] = np.nan
    block = FrameBlock(rng.normal(size=(6, 2, 3)), velocities, np.arange(6.0), cells)
    parts = block.divided()
    assert [len(part) for part in parts] == [2, 1, 1, 2]
    assert [part.cells is None for part in parts] == [False, True, True, False]
    assert [part.velocities is None for part in parts] == [False, False, True, True]
    np.testing.assert_array_equal(np.concatenate([p.times for p in parts]), block.times)
    assert [len(part) for part in block[:2].divided()] == [2]
    assert block[:0].divided() == []
