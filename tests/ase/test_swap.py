"""The examples, each run as it stands and with the line that was there before the swap."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase.io import read
from conftest import ROOT

EXAMPLES = ROOT / "examples"


def before(script: str) -> str:
    """Put back the line that each ``# was:`` stands for."""
    text, count = re.subn(r"^( *)# was: (.*)\n.*\n", r"\1\2\n", script, flags=re.MULTILINE)
    assert count
    return text


def run(name: str, folder: Path, swapped: bool) -> str:
    """Run an example in a folder of its own and return what it prints."""
    folder.mkdir()
    shutil.copy(EXAMPLES / "ethanol.xyz", folder)
    script = (EXAMPLES / name).read_text()
    (folder / name).write_text(script if swapped else before(script))
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def both(tmp_path):
    """Return a function that runs an example before and after the swap: folders and prints."""

    def go(name: str) -> tuple[tuple[Path, str], tuple[Path, str]]:
        old, new = tmp_path / "before", tmp_path / "after"
        return (old, run(name, old, False)), (new, run(name, new, True))

    return go


def test_velocity_verlet_with_log_and_trajectory(both):
    (old, old_text), (new, new_text) = both("nve.py")
    assert old_text.startswith("200 fs, total energy -309.7")
    assert new_text.startswith("200 fs, total energy -309.7")
    old_log, new_log = ((each / "nve.log").read_text().splitlines() for each in (old, new))
    assert old_log[0] == new_log[0]
    old_rows, new_rows = (np.loadtxt(log[1:]) for log in (old_log, new_log))
    assert old_rows.shape == new_rows.shape == (21, 5)
    np.testing.assert_array_equal(old_rows[:, 0], new_rows[:, 0])
    np.testing.assert_allclose(new_rows[:, 1], old_rows[0, 1], atol=0.01)  # total energy in eV
    np.testing.assert_allclose(new_rows[:8, 4], old_rows[:8, 4], atol=15)  # K, for 70 fs
    frames, references = read(new / "nve.traj", ":"), read(old / "nve.traj", ":")
    assert len(frames) == len(references) == 101
    for frame, reference in zip(frames[:51], references[:51], strict=True):  # 100 fs
        assert np.abs(frame.positions - reference.positions).max() < 0.05
        assert frame.get_potential_energy() < -309.5
        assert frame.get_forces().shape == (9, 3)


def test_langevin_with_a_dcd_file(both):
    for folder, text in both("langevin.py"):
        count, temperature = re.fullmatch(
            r"(\d+) frames, mean temperature (\d+) K\n", text
        ).groups()
        assert count == "201"
        assert 180 < float(temperature) < 420  # of a picosecond of nine atoms
        loaded = mdtraj.load(folder / "langevin.dcd", top=folder / "langevin.pdb")
        assert loaded.n_frames == 201
        assert loaded.topology.n_bonds == 8
        bond = mdtraj.compute_distances(loaded, [[0, 1]]).mean()
        assert bond == pytest.approx(0.1525, abs=0.002)  # nm, the C-C bond


def test_relaxation_and_vibrations(both):
    (_, old), (_, new) = both("vibrations.py")
    waves = [
        np.array(text.splitlines()[-1].removeprefix("frequencies ").split(), dtype=float)
        for text in (old, new)
    ]
    assert len(waves[0]) == 21
    np.testing.assert_allclose(waves[1], waves[0], atol=10)  # cm⁻¹
