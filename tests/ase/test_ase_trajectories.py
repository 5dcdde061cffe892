"""Files that `ATOMPropagator` writes by `trajectory=`."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import Trajectory, read
from ase_dynamics import FS, Counting, thermal

from ase_atom import ATOMLangevin, ATOMPropagator
from ase_atom.errors import TrajectoryError
from ase_atom.io import read_trajectory


@pytest.fixture
def warm(ethanol) -> Atoms:
    return thermal(ethanol)


def test_trajectories_say_how_they_were_made(warm, springs, tmp_path):
    warm.calc = Counting(springs)
    dynamics = ATOMLangevin(
        warm,
        0.5 * FS,
        temperature_K=300,
        friction=0.01 / FS,
        operator=springs,
        trajectory=str(tmp_path / "t.traj"),
    )
    dynamics.run(2)
    with Trajectory(tmp_path / "t.traj") as trajectory:
        assert trajectory.description["md-type"] == "ATOMLangevin"
        assert "friction=0.01" in trajectory.description["ensemble"]


@pytest.mark.parametrize("ending", [".dcd", ".XYZ", ".nc", ".h5"])
def test_the_ending_of_a_trajectory_chooses_its_format(warm, springs, tmp_path, ending):
    def run(name: str, start: Atoms, append: bool = False) -> Atoms:
        atoms = start.copy()
        with ATOMPropagator(
            atoms,
            0.5 * FS,
            operator=springs,
            energy_correction=False,
            trajectory=tmp_path / name,
            append_trajectory=append,
            loginterval=4,
        ) as dynamics:
            dynamics.run(18)
            dynamics.run(22)
        return atoms

    path = tmp_path / f"t{ending}"
    path.write_text("what was here before")
    end = run(path.name, warm)
    run("ase.traj", warm)
    frames = read(tmp_path / "ase.traj", ":")
    with read_trajectory(path) as reader:
        (block,) = reader
    np.testing.assert_allclose(block.times, 2.0 * np.arange(11), rtol=1e-6)
    np.testing.assert_allclose(block.positions, [frame.positions for frame in frames], atol=1e-5)
    run(path.name, end, append=True)  # its first frame is the last that is there
    with read_trajectory(path) as reader:
        (block,) = reader
    np.testing.assert_allclose(block.times, 2.0 * np.arange(21), rtol=1e-6)


def test_trajectories_that_cannot_be_written(warm, springs, tmp_path, ethanol):
    before = warm.get_momenta()
    (tmp_path / "t.pdb").write_text("HETATM    1 AR   MOL     1       0.000   0.000   0.000\n")
    for name, message in (
        ("t.foo", r"no writer for .*t\.foo': the ending must be one of \.dcd"),
        ("t.pdb", r"no writer for .*t\.pdb'"),
        ("t.dcd", r"t\.pdb, where the topology of t\.dcd would be, describes other atoms"),
        ("none/t.xyz", "the folder .*none of the output"),
    ):
        with pytest.raises(TrajectoryError, match=message):
            ATOMPropagator(warm, 0.5 * FS, operator=springs, trajectory=str(tmp_path / name))
    assert [file.name for file in tmp_path.iterdir()] == ["t.pdb"]
    np.testing.assert_array_equal(warm.get_momenta(), before)
