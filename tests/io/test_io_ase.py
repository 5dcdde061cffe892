"""Trajectories in ASE scripts: observers, and DCD, XTC and TRR known to ASE itself."""

import re
import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
from ase import units
from ase.calculators.lj import LennardJones
from ase.io import read, write
from ase.io.formats import filetype
from ase.io.trajectory import Trajectory
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from conftest import ROOT
from io_files import ENDINGS, TOLERANCE, by_mdanalysis, make_frames, read_back
from io_files import write as write_trajectory

from ase_atom.errors import TrajectoryError
from ase_atom.io import TrajectoryWarning, open_trajectory, read_trajectory

PLUGINS = [".dcd", ".xtc", ".trr"]


@pytest.fixture
def argon(ethanol):
    """Something that moves under a calculator of ASE's own."""
    ethanol.numbers[:] = 18
    ethanol.positions *= 3.0
    ethanol.calc = LennardJones(sigma=3.0, epsilon=0.01)
    return ethanol


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("attach", ["writer", "write"])
def test_observers(tmp_path, argon, ending, attach):
    """The frames are those that ASE's own trajectory gets."""
    path = tmp_path / f"t{ending}"
    with open_trajectory(path, argon, "w", frame_interval=10.0) as writer:
        dyn = VelocityVerlet(argon, 2.0 * units.fs, trajectory=str(tmp_path / "ase.traj"))
        dyn.attach(writer if attach == "writer" else writer.write, interval=5)
        dyn.run(12)
        dyn.run(8)
    expected = read(tmp_path / "ase.traj", "::5")
    with read_trajectory(path) as reader:
        (block,) = reader
    np.testing.assert_allclose(
        block.positions, [a.positions for a in expected], rtol=0, atol=2 * TOLERANCE[ending]
    )
    np.testing.assert_allclose(block.times, [0, 10, 20, 30, 40], rtol=1e-6)
    if ending in (".extxyz", ".traj"):
        energies = [a.get_potential_energy() for a in expected]
        np.testing.assert_allclose(block.energies, energies, atol=1e-8)


def test_a_run_continued_in_another_process(tmp_path, argon):
    """A new integrator calls its observers before its first step, at the time of the last."""
    path = tmp_path / "t.dcd"
    for part in range(2):
        with open_trajectory(path, argon, "a", frame_interval=4.0) as writer:
            dyn = VelocityVerlet(argon, 2.0 * units.fs)
            dyn.nsteps = 10 * part  # so that it does not
            dyn.attach(writer, interval=2)
            dyn.run(10)
    _, times, _ = by_mdanalysis(path)
    np.testing.assert_allclose(times, 4.0 * np.arange(11), rtol=1e-6)


@pytest.mark.parametrize("ending", [".extxyz", ".traj", ".dcd"])
def test_writers_as_trajectories_of_optimizers(tmp_path, argon, ending):
    path = tmp_path / f"t{ending}"
    with open_trajectory(path, argon, frame_interval=1.0) as writer:
        BFGS(argon, trajectory=writer, logfile=None).run(steps=3)
        assert len(writer) == 4
    frames = read(path, ":")
    assert len(frames) == 4
    np.testing.assert_allclose(frames[-1].positions, argon.positions, atol=1e-6)
    if ending != ".dcd":
        assert frames[-1].get_potential_energy() == pytest.approx(argon.get_potential_energy())
    if ending == ".traj":
        with Trajectory(path) as trajectory:
            assert trajectory.description["optimizer"] == "BFGS"


def test_nothing_is_calculated_for_a_frame(tmp_path, argon):
    class Counting(LennardJones):
        calls = 0

        def calculate(self, *arguments, **options):
            Counting.calls += 1
            super().calculate(*arguments, **options)

    argon.calc = Counting()
    with open_trajectory(tmp_path / "t.traj", argon, frame_interval=1.0) as writer:
        writer.write()
    assert Counting.calls == 0


@pytest.mark.parametrize("ending", PLUGINS)
def test_ase_reads(tmp_path, ethanol, ending):
    path = str(tmp_path / f"t{ending}")
    positions, velocities, times = write_trajectory(tmp_path / f"t{ending}", ethanol, 30)
    assert read(path).info["time_fs"] == pytest.approx(times[-1], rel=1e-6)
    for index, expected in (("0", 0), ("-3", -3), ("29", 29)):
        atoms = read(f"{path}@{index}")
        np.testing.assert_allclose(atoms.positions, positions[expected], atol=TOLERANCE[ending])
        assert list(atoms.symbols) == list(ethanol.symbols)
        assert not atoms.pbc.any()
    for part in ("::10", ":", "3:8", "-5:", "::-7", "20:5:-4", "40:"):
        frames = read(f"{path}@{part}")
        chosen = slice(*(int(n) if n else None for n in part.split(":")))
        found = [atoms.info["time_fs"] for atoms in frames]
        np.testing.assert_allclose(found, times[chosen], rtol=1e-5)
        expected = positions[chosen]
        for atoms, one in zip(frames, expected, strict=True):
            np.testing.assert_allclose(atoms.positions, one, rtol=0, atol=TOLERANCE[ending])
    if ending == ".trr":
        expected = velocities[-1] / units.fs
        np.testing.assert_allclose(read(path).get_velocities(), expected, atol=1e-7)


@pytest.mark.parametrize("ending", PLUGINS)
def test_ase_writes(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    positions, _, times = make_frames(ethanol, 6)
    frames = []
    for one, time in zip(positions, times, strict=True):
        frame = ethanol.copy()
        frame.positions, frame.info["time_fs"] = one, time
        frames.append(frame)
    write(path, frames[:4])
    write(path, frames[4:], append=True)
    np.testing.assert_allclose(read_back(path), positions, rtol=0, atol=TOLERANCE[ending])
    np.testing.assert_allclose(by_mdanalysis(path)[1], times, rtol=1e-5)
    write(path, frames[1])  # replaces
    assert len(read(path, ":")) == 1
    for frame in frames:
        del frame.info["time_fs"]
    for options, start, interval in (
        ({}, 0.0, 1.0),
        ({"frame_interval": 0.5, "start_time": 8.0}, 8.0, 0.5),
    ):
        write(path, frames, **options)
        expected = start + interval * np.arange(6)
        np.testing.assert_allclose(by_mdanalysis(path)[1], expected, rtol=1e-5)
    frames[3].info["time_fs"] = 7.0  # only one frame has a time: they are counted
    write(path, frames)
    np.testing.assert_allclose(by_mdanalysis(path)[1], np.arange(6), rtol=1e-5)
    with pytest.raises(TrajectoryError, match="holds 9 atoms"):
        write(path, [*frames, ethanol[:3]])


def test_elements_for_ase(tmp_path, ethanol):
    path = tmp_path / "t.dcd"
    write(path, [ethanol] * 3)
    (tmp_path / "t.pdb").rename(tmp_path / "u.pdb")
    with pytest.raises(TrajectoryError, match="does not say which elements"):
        read(path)
    assert read(path, topology=ethanol) == read(path, topology=tmp_path / "u.pdb")
    with pytest.raises(TypeError, match="only DCD files of CP2K"):
        read(path, topology=ethanol, ref_atoms=ethanol)


def test_dcd_files_of_cp2k_are_still_ase_own(tmp_path, ethanol):
    """As before this package was installed: same reader, same options."""
    ethanol.set_cell([12.0, 12.0, 12.0])
    ethanol.pbc = True
    path = tmp_path / "t.dcd"
    write(path, [ethanol] * 3)
    data = bytearray(path.read_bytes())
    data[100:180] = b"REMARK CP2K Trajectory".ljust(80)
    path.write_bytes(data)
    frames = read(path, ":", ref_atoms=ethanol)
    assert len(frames) == 3
    np.testing.assert_allclose(frames[0].positions, ethanol.positions, atol=1e-6)
    assert set(read(path).symbols) == {"X"}
    assert read(path, format="cp2k-dcd") == read(path)


def test_ase_knows_the_endings():
    assert [filetype(f"a.{name}", read=False) for name in ("dcd", "DCD", "xtc", "trr")] == [
        "dcd",
        "dcd",
        "xtc",
        "trr",
    ]
    assert {"dcd", "xtc", "trr"} <= set(entry_points(group="ase.ioformats").names)


def test_in_scripts_and_on_the_command_line(tmp_path, ethanol):
    """In other processes, by the entry points of the package as it is installed."""
    script = """
import sys
import ase.io
heavy = [name for name in ("torch", "openmm", "mdtraj", "rdkit") if name in sys.modules]
assert not heavy, heavy
frames = ase.io.read("in.xyz@:")
ase.io.write("t.dcd", frames)
assert len(ase.io.read("t.dcd@::10")) == 3
ase.io.write("t.xtc", ase.io.read("t.dcd@::10"))
print(ase.io.read("t.xtc@1").get_distance(0, 1))
"""
    frames = []
    for one in make_frames(ethanol, 21)[0]:
        frame = ethanol.copy()
        frame.positions = one
        frames.append(frame)
    write(tmp_path / "in.xyz", frames)

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", *command], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    distance = frames[10].get_distance(0, 1)
    assert float(run("-c", script)) == pytest.approx(distance, abs=0.01)
    run("-m", "ase", "convert", "t.dcd", "u.xtc")
    run("-m", "ase", "convert", "-n", "::2", "u.xtc", "v.xyz")
    assert len(read(tmp_path / "v.xyz", ":")) == 11
    shown = run("-m", "ase", "gui", "-t", "-g", "i,d(0,1)", "t.dcd")
    np.testing.assert_allclose(
        np.array([line.split() for line in shown.strip().splitlines()], float)[:, 1],
        [frame.get_distance(0, 1) for frame in frames],
        atol=1e-4,
    )


def test_the_scripts_of_the_documentation(tmp_path, monkeypatch, capsys):
    """One after the other, as they stand there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert "101 frames of Atoms(symbols='C2OH6'" in capsys.readouterr().out
    assert len(names["frames"]) == 11
    np.testing.assert_allclose(by_mdanalysis(tmp_path / "few.xtc")[1], 50.0 * np.arange(11))


def test_frames_can_be_appended_one_by_one(tmp_path, ethanol):
    for _ in range(3):
        write(tmp_path / "t.xtc", ethanol, append=True)
    assert [frame.info["time_fs"] for frame in read(tmp_path / "t.xtc", ":")] == [0, 1, 2]


@pytest.mark.parametrize("kind", [np.int64, int, "{} fs".format])
def test_times_of_any_type_are_kept(tmp_path, ethanol, kind):
    frames = [ethanol.copy() for _ in range(3)]
    for step, frame in enumerate(frames):
        frame.info["time_fs"] = kind(4 * step)
    write(tmp_path / "t.xtc", frames)
    assert [frame.info["time_fs"] for frame in read(tmp_path / "t.xtc", ":")] == [0, 4, 8]
    del frames[1].info["time_fs"]
    with pytest.warns(TrajectoryWarning, match=r"only some frames for .* and frame 2 has none"):
        write(tmp_path / "u.xtc", frames)
    assert [frame.info["time_fs"] for frame in read(tmp_path / "u.xtc", ":")] == [0, 1, 2]


def test_what_lies_there_is_not_lost_when_a_write_is_refused(tmp_path, ethanol):
    """Neither a trajectory nor somebody's PDB."""
    write(tmp_path / "t.xtc", [ethanol] * 3)
    kept = (tmp_path / "t.xtc").read_bytes()
    turned = ethanol.copy()
    turned.set_cell([[0, 9, 0], [9, 0, 0], [0, 0, 9]])
    turned.pbc = True
    with pytest.raises(TrajectoryError):
        open_trajectory(tmp_path / "t.xtc", turned, "w", frame_interval=1.0)
    assert (tmp_path / "t.xtc").read_bytes() == kept
    (tmp_path / "box.pdb").write_text("somebody's solvated box")
    with pytest.raises(TrajectoryError, match=r"box\.pdb, where the topology of box"):
        write(tmp_path / "box.xtc", ethanol)
    assert (tmp_path / "box.pdb").read_text() == "somebody's solvated box"
    assert not (tmp_path / "box.xtc").exists()
