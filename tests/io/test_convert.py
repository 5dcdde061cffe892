"""``ase-atom convert`` and what it calls: every format into every other, in bounded memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.io import write as ase_write
from io_files import ENDINGS, INTERVAL, TOLERANCE, WITH_VELOCITIES, make_frames, read_back, write

from ase_atom.cli import main
from ase_atom.errors import TrajectoryError
from ase_atom.io import (
    TrajectoryWarning,
    check_output,
    convert_trajectory,
    open_trajectory,
    read_trajectory,
)


@pytest.fixture
def convert(tmp_path, capsys):
    """Return a function that runs ``ase-atom convert`` in a folder: code, out, err lines."""

    def run(source, target, *options):
        arguments = ["convert", tmp_path / source, tmp_path / target, *options]
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.strip().splitlines()

    return run


@pytest.mark.parametrize("source", ENDINGS)
@pytest.mark.filterwarnings("ignore:.*cannot hold")
def test_every_format_into_every_other(tmp_path, ethanol, source):
    positions, velocities, times = write(tmp_path / f"in{source}", ethanol)
    for target in ENDINGS:
        path = tmp_path / f"out{target[1:]}{target}"
        done = convert_trajectory(tmp_path / f"in{source}", path)
        assert (done.frames, done.lost) == (20, 0)
        assert (done.first_time, done.last_time) == (0.0, pytest.approx(times[-1], rel=1e-6))
        atol = TOLERANCE[source] + TOLERANCE[target]
        np.testing.assert_allclose(read_back(path), positions, rtol=0, atol=atol)
        with read_trajectory(path) as reader:
            (block,) = reader
            assert list(reader.atoms.symbols) == list(ethanol.symbols)
        np.testing.assert_allclose(block.times, times, rtol=1e-6)
        if source in WITH_VELOCITIES and target in WITH_VELOCITIES:
            np.testing.assert_allclose(block.velocities, velocities, rtol=0, atol=2e-8)
        else:
            assert block.velocities is None


@pytest.mark.parametrize("moving", [True, False])
@pytest.mark.parametrize("source", [".extxyz", ".traj"])
def test_isotopes_stay(tmp_path, ethanol, convert, source, moving):
    """Deuterium is kept by what can hold it, and what cannot says so."""
    masses = ethanol.get_masses()
    masses[-1] = 2.014
    ethanol.set_masses(masses)
    positions, velocities, _ = make_frames(ethanol, 3)
    frames = [ethanol.copy() for _ in positions]
    for frame, x, v in zip(frames, positions, velocities, strict=True):
        frame.positions = x
        if moving:
            frame.set_velocities(v)
    ase_write(tmp_path / f"in{source}", frames)
    for target in (".xyz", ".traj"):
        options = ["--frame-interval", "1fs"]
        code, _, notes = convert(f"in{source}", f"out{target}", *options, "--overwrite")
        assert (code, notes) == (0, [])
        for one, other in zip(read(tmp_path / f"out{target}", ":"), frames, strict=True):
            np.testing.assert_allclose(one.get_masses(), masses, rtol=1e-7)
            np.testing.assert_allclose(one.get_velocities(), other.get_velocities(), atol=1e-8)
    for target in (".dcd", ".h5"):
        code, _, notes = convert(f"in{source}", f"out{target}", *options)
        assert code == 0
        (note,) = notes
        what = "velocities and isotope masses" if moving and target == ".dcd" else "isotope masses"
        assert f"out{target} cannot hold the {what} of " in note
    with read_trajectory(tmp_path / "out.dcd", ethanol) as reader:
        np.testing.assert_array_equal(reader.masses, masses)
        np.testing.assert_array_equal(reader.atoms.get_masses(), masses)


def test_every_few_frames(tmp_path, ethanol, convert):
    positions, _, times = write(tmp_path / "in.xtc", ethanol, 50)
    code, text, notes = convert("in.xtc", "out.dcd", "--every", 7)
    assert (code, notes) == (0, [])
    assert "8, 0 fs to 122.5 fs" in text
    assert "C2H6O, 9 atoms" in text
    assert str(tmp_path / "out.pdb") in text
    np.testing.assert_allclose(read_back(tmp_path / "out.dcd"), positions[::7], atol=0.0051)
    with read_trajectory(tmp_path / "out.dcd") as reader:
        np.testing.assert_allclose(next(iter(reader)).times, times[::7], rtol=1e-6)


def test_align(tmp_path, ethanol, convert):
    """Shapes and speeds stay, net motion goes; velocities and forces turn with the positions."""
    frames = []
    rng = np.random.default_rng(2)
    positions, velocities, _ = make_frames(ethanol, 12)
    for frame in range(12):
        atoms = Atoms(ethanol.numbers, positions[frame])
        atoms.set_velocities(velocities[frame])
        forces = rng.normal(size=(9, 3))
        atoms.rotate(rng.uniform(0, 180), rng.normal(size=3))
        axes = np.linalg.lstsq(positions[frame], atoms.positions, rcond=None)[0]
        atoms.set_momenta(atoms.get_momenta() @ axes)
        atoms.translate(rng.normal(size=3))
        atoms.calc = SinglePointCalculator(atoms, energy=float(frame), forces=forces @ axes)
        atoms.info["time_fs"] = INTERVAL * frame
        frames.append(atoms)
    ase_write(tmp_path / "in.extxyz", frames)
    code, _, notes = convert("in.extxyz", "out.extxyz", "--align")
    assert (code, notes) == (0, [])
    aligned = read(tmp_path / "out.extxyz", ":")
    first = aligned[0]
    np.testing.assert_allclose(first.positions, frames[0].positions, atol=1e-6)
    for before, after in zip(frames, aligned, strict=True):
        np.testing.assert_allclose(
            after.get_all_distances(), before.get_all_distances(), rtol=0, atol=1e-6
        )
        for ours, theirs in (
            (after.get_momenta(), before.get_momenta()),
            (after.get_forces(), before.get_forces()),
        ):
            arms = [atoms.positions - atoms.positions.mean(axis=0) for atoms in (after, before)]
            # Unchanged as the molecule sees them, and as long as before.
            np.testing.assert_allclose(ours @ arms[0].T, theirs @ arms[1].T, atol=1e-4)
            np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-4)
        # The superposition of another library finds nothing left to do.
        rotation = best_rotation(first.positions, after.positions)
        np.testing.assert_allclose(rotation, np.eye(3), atol=1e-5)
        assert after.get_potential_energy() == before.get_potential_energy()


def best_rotation(reference: np.ndarray, positions: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    a, b = (x - x.mean(axis=0) for x in (reference, positions))
    return Rotation.align_vectors(a, b)[0].as_matrix()


@pytest.mark.parametrize("name", ["HCl", "CO2", "H2O", "CH4"])
def test_align_never_reflects(tmp_path, name):
    """Also where linear and flat molecules leave a reflection as good as a rotation."""
    rng = np.random.default_rng(0)
    atoms = molecule(name)
    atoms.positions += rng.normal(scale=0.01, size=atoms.positions.shape)
    with open_trajectory(tmp_path / "in.traj", atoms, frame_interval=1.0) as writer:
        for _ in range(20):
            turned = atoms.copy()
            turned.rotate(rng.uniform(0, 180), rng.normal(size=3))
            turned.set_velocities(turned.positions @ [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
            writer.write(turned)
        mirrored = atoms.copy()
        mirrored.positions *= [1, 1, -1]
        mirrored.set_velocities(rng.normal(size=atoms.positions.shape))
        writer.write(mirrored)
    convert_trajectory(tmp_path / "in.traj", tmp_path / "out.traj", align=True)
    before, after = (read(tmp_path / f"{name}.traj", ":") for name in ("in", "out"))
    for old, new in zip(before, after, strict=True):
        x, y = ((a.positions - a.positions.mean(axis=0)) for a in (old, new))
        v, w = old.get_velocities(), new.get_velocities()
        # Triple products change their sign in a mirror.
        np.testing.assert_allclose(
            np.linalg.det(np.stack([x[0], v[0], v[1]])), np.linalg.det(np.stack([y[0], w[0], w[1]]))
        )
    for new in after[:-1]:
        np.testing.assert_allclose(new.positions, after[0].positions, atol=1e-6)


def test_energies_and_cells_are_carried_over(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    frames = []
    for frame in range(4):
        image = atoms.copy()
        image.set_cell(atoms.cell * (1 + 0.01 * frame), scale_atoms=True)
        image.info["time_fs"] = float(frame**2)
        if frame != 2:
            image.calc = SinglePointCalculator(image, energy=-1.5 * frame)
        frames.append(image)
    ase_write(tmp_path / "in.traj", frames)
    convert_trajectory(tmp_path / "in.traj", tmp_path / "out.xyz")
    found = read(tmp_path / "out.xyz", ":")
    assert [a.calc and a.get_potential_energy() for a in found] == [0.0, -1.5, None, -4.5]
    with pytest.warns(TrajectoryWarning, match=r"out\.nc cannot hold the energies of .*in\.traj"):
        convert_trajectory(tmp_path / "in.traj", tmp_path / "out.nc")
    with read_trajectory(tmp_path / "out.nc") as reader:
        (block,) = reader
    np.testing.assert_allclose(block.cells, [a.cell.array for a in frames], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(block.times, [0, 1, 4, 9])


def test_names_and_residues_of_the_topology_are_kept(tmp_path, ethanol, convert):
    write(tmp_path / "t.dcd", ethanol)
    text = (tmp_path / "t.pdb").read_text().replace("MOL", "EOH")
    (tmp_path / "t.pdb").write_text(text)
    assert convert("t.dcd", "out.xtc")[0] == 0
    assert (tmp_path / "out.pdb").read_text() == text
    assert convert("t.dcd", "t.trr")[0] == 0  # beside the same topology
    assert (tmp_path / "t.pdb").read_text() == text
    (tmp_path / "t.pdb").rename(tmp_path / "other.pdb")
    assert convert("t.dcd", "u.xtc")[0] == 2
    assert convert("t.dcd", "u.xtc", "--topology", tmp_path / "other.pdb")[0] == 0
    assert (tmp_path / "u.pdb").read_text() == text


def test_frames_without_times(tmp_path, ethanol, convert):
    positions, _, _ = make_frames(ethanol, 5)
    with (tmp_path / "in.xyz").open("w") as file:
        for one in positions:
            ase_write(file, Atoms(ethanol.numbers, one), format="xyz")
    code, text, notes = convert("in.xyz", "out.dcd")
    assert (code, len(notes)) == (0, 1)
    assert "warning:" in notes[0]
    assert "in.xyz has no times: its frames are taken to be 1 fs apart" in notes[0]
    assert "5, 0 fs to 4 fs" in text
    code, text, notes = convert(
        "in.xyz", "out.dcd", "--frame-interval", "5 fs", "--every", 2, "--overwrite"
    )
    assert (code, notes) == (0, [])
    assert "3, 0 fs to 20 fs" in text
    with read_trajectory(tmp_path / "out.dcd") as reader:
        np.testing.assert_allclose(next(iter(reader)).times, [0, 10, 20])
    code, _, notes = convert("out.dcd", "out.xtc", "--frame-interval", "2fs")
    assert code == 2
    assert "out.dcd has times of its own: give no frame interval" in notes[0]


def test_a_truncated_trajectory(tmp_path, ethanol, convert):
    write(tmp_path / "in.dcd", ethanol)
    os.truncate(tmp_path / "in.dcd", (tmp_path / "in.dcd").stat().st_size - 200)
    code, text, notes = convert("in.dcd", "out.xtc")
    assert (code, len(notes)) == (0, 1)
    assert "warning:" in notes[0]
    assert "in.dcd is truncated: its 18 whole frames are read, 2 are lost" in notes[0]
    assert "18, 0 fs to 42.5 fs" in text
    assert len(read_back(tmp_path / "out.xtc")) == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.dcd", "out.xtc"], "none.dcd does not exist"),
        (["in.dcd", "out.pdb"], "no writer"),
        (["in.png", "out.xtc"], "no reader"),
        (["in.dcd", "missing/out.xtc"], "missing of the output"),
        (["in.dcd", "in.dcd"], "would replace"),
        (["in.dcd", "in.dcd", "--overwrite"], "would replace"),
        (["in.pdb", "in.dcd", "--overwrite"], "would replace"),
        (["in.dcd", "old.xtc"], "old.xtc exists and is kept; --overwrite"),
        (["in.dcd", "out.xtc", "--every", "0"], "--every must be at least 1, not 0"),
        (["in.dcd", "out.xtc", "--every", "x"], "--every"),
        (["in.dcd", "out.xtc", "--frame-interval", "-1fs"], "above zero"),
        (["in.dcd", "out.xtc", "--frame-interval", "often"], "'often' is not a time"),
        (["in.dcd", "out.xtc", "--topology", "six.xyz"], "not that of"),
        (["in.dcd", "out.xtc", "--topology", "none.xyz"], "none.xyz does not exist"),
        (["rubbish.dcd", "out.xtc"], "no DCD header"),
        (["empty.xtc", "out.dcd"], "no whole frame"),
        (["number.xyz", "out.dcd"], "no whole frame"),
        (["digits.xyz", "out.dcd"], "does not begin with its number of atoms"),
        (["alone.dcd", "out.xtc"], "does not say which elements"),
        (["box.dcd", "out.xtc", "--align"], "periodic"),
        (["uneven.xyz", "out.dcd"], "evenly spaced"),
    ],
)
def test_bad_input(tmp_path, ethanol, convert, arguments, message):
    write(tmp_path / "in.dcd", ethanol)
    (tmp_path / "old.xtc").write_text("precious")
    (tmp_path / "in.png").write_bytes(b"")
    ase_write(tmp_path / "six.xyz", molecule("C6H6"))
    (tmp_path / "rubbish.dcd").write_bytes(b"dear diary")
    (tmp_path / "empty.xtc").write_bytes(b"")
    (tmp_path / "number.xyz").write_bytes(b"1700000000000\n\n")
    (tmp_path / "digits.xyz").write_bytes(b"17" * 4000 + b"\n\n")
    (tmp_path / "alone.dcd").write_bytes((tmp_path / "in.dcd").read_bytes())
    write(tmp_path / "box.dcd", bulk("NaCl", "rocksalt", a=5.64, cubic=True), 8)
    with open_trajectory(tmp_path / "uneven.xyz", ethanol) as writer:
        for time in (0.0, 1.0, 3.0):
            writer.write(time=time)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    source, target, *options = arguments
    options = [tmp_path / one if one.endswith(".xyz") else one for one in options]
    code, text, notes = convert(source, target, *options)
    assert (code, text, len(notes)) == (2, "", 1), notes
    assert message in notes[0]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_no_link_to_the_source_is_replaced(tmp_path, ethanol, convert, link):
    write(tmp_path / "in.dcd", ethanol)
    link(tmp_path / "in.dcd", tmp_path / "same.dcd")
    before = (tmp_path / "in.dcd").read_bytes()
    code, _, notes = convert("in.dcd", "same.dcd", "--overwrite")
    assert code == 2
    assert "would replace" in notes[0]
    assert (tmp_path / "in.dcd").read_bytes() == before
    (tmp_path / "a.xyz").write_bytes(b"3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n")
    link(tmp_path / "a.xyz", tmp_path / "b.xyz")
    with pytest.raises(TrajectoryError, match="would replace the input"):
        check_output(tmp_path / "b.xyz", True, (tmp_path / "a.xyz",))


@pytest.mark.parametrize("target", ["out.dcd", "out.xyz", "out.traj", "out.h5"])
def test_nothing_stays_of_a_conversion_without_a_frame(tmp_path, convert, target):
    """Of a source that fails before any frame is written."""
    water = "O 0 0 0\nH 0 0 1\nH 0 1 0\n"
    (tmp_path / "in.xyz").write_text(f"3\n\n{water}3\n\n{water.replace('O', 'S')}")
    for _ in range(2):
        code, _, notes = convert("in.xyz", target)
        assert code == 2
        assert "frame 2 has other atoms than the first" in notes[-1]
        assert [file.name for file in tmp_path.iterdir()] == ["in.xyz"]


def test_calls_that_make_no_sense(tmp_path, ethanol):
    write(tmp_path / "in.dcd", ethanol)
    with pytest.raises(TrajectoryError, match="every must be at least 1, not 0"):
        convert_trajectory(tmp_path / "in.dcd", tmp_path / "out.xtc", every=0)
    seen = []
    convert_trajectory(tmp_path / "in.dcd", tmp_path / "out.xtc", progress=seen.append)
    assert seen == [pytest.approx(19 * INTERVAL)]


def test_memory_does_not_grow_with_the_file(tmp_path, ethanol):
    """Peak memory of one process each, for files fifteenfold different in length."""
    ethanol.set_cell([5.0, 5.0, 5.0])
    atoms = ethanol.repeat((10, 1, 1))
    peaks = []
    for name, blocks in (("small", 4), ("large", 60)):
        path = tmp_path / f"{name}.trr"
        frames = make_frames(atoms, 300)
        with open_trajectory(path, atoms, frame_interval=INTERVAL) as writer:
            for _ in range(blocks):
                writer.write_frames(*frames[:2])
        code = (
            "import sys\n"
            "from ase_atom.io import convert_trajectory\n"
            "convert_trajectory(sys.argv[1], sys.argv[2], align=True)\n"
            # Unlike ru_maxrss this knows nothing of the process that started it.
            "lines = open('/proc/self/status').read().splitlines()\n"
            "print(*(line.split()[1] for line in lines if line.startswith('VmHWM')))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(tmp_path / f"{name}.nc")],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout) / 1024)
    assert path.stat().st_size > 40e6
    assert peaks[1] < peaks[0] + 15
    assert peaks[1] < 500
