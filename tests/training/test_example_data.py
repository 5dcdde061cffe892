"""The density functional trajectories that come with the examples are what their page says."""

import numpy as np
import pytest
from conftest import ROOT

from ase_atom.units import AMU_A2_FS2_IN_EV
from training.data.store import read_bursts

DATA = ROOT / "examples" / "data"


@pytest.mark.parametrize(("name", "runs"), [("ethanol-pbe", 10), ("malonaldehyde-pbe", 4)])
def test_energies_forces_and_velocities_belong_together(name, runs):
    bursts = read_bursts(DATA / f"{name}.h5")  # verifies checksums
    assert len(bursts) == runs
    for burst in bursts:
        assert burst.attrs["engine"] == "pyscf:pbe/def2-svp"
        x, v, f = burst.positions, burst.velocities, burst.forces
        masses = burst.masses[:, None]
        assert (len(x) - 1) * burst.interval == 250.0
        kinetic = 0.5 * AMU_A2_FS2_IN_EV * (masses * v**2).sum((1, 2))
        total = burst.energies + kinetic
        assert np.abs(total - total.mean()).max() < 0.01  # eV
        # The work of the forces is the change of the energy, up to the trapezoid's error.
        work = -0.5 * ((f[1:] + f[:-1]) * (x[1:] - x[:-1])).sum((1, 2))
        change = np.diff(burst.energies)
        assert (work - change).std() < 0.05 * change.std()
        motion = (x[2:] - x[:-2]) / (2 * burst.interval)
        assert np.abs(motion - v[1:-1]).max() < 0.06 * np.abs(v).max()
