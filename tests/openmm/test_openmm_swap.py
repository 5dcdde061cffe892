"""The OpenMM example, run as it stands and with the integrator that was there before."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import mdtraj
import numpy as np
import pytest
from conftest import ROOT

NAME = "openmm_langevin.py"


@pytest.mark.parametrize("swapped", [False, True], ids=["before", "after"])
def test_langevin_dynamics_with_reporters(tmp_path, swapped):
    shutil.copy(ROOT / "examples" / "ethanol.pdb", tmp_path)
    script = (ROOT / "examples" / NAME).read_text()
    if not swapped:  # a statement ends at the first empty line
        script, count = re.subn(r"# was: (.*)\n(.+\n)+", r"\1\n", script)
        assert count == 1
    steps = 400
    script, count = re.subn(r"step\(2000\)", f"step({steps})", script)
    assert count == 1
    (tmp_path / NAME).write_text(script)
    done = subprocess.run(
        [sys.executable, NAME],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "OPENMM_CPU_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr

    rows = np.loadtxt(tmp_path / "openmm.csv", delimiter=",", skiprows=1)
    assert rows.shape == (steps // 10, 4)
    np.testing.assert_allclose(rows[:, 1], 0.0005 * rows[:, 0])
    assert 120 < rows[:, 3].mean() < 480  # K, of a fifth of a picosecond of nine atoms
    assert np.ptp(rows[:, 2]) < 150  # kJ/mol
    frames = mdtraj.load(tmp_path / "openmm.dcd", top=tmp_path / "ethanol.pdb")
    assert len(frames) == steps // 10
    bond = mdtraj.compute_distances(frames, [[0, 1]]).mean()
    assert bond == pytest.approx(0.1525, abs=0.003)  # nm, the C-C bond
