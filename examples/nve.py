"""Microcanonical dynamics of ethanol with ASE's log and trajectory file.

Run from this folder: ``python nve.py``. The line below ``was:`` is the only difference from
the script for velocity Verlet, which uses the same potential energy.
"""

import numpy as np
from ase import units
from ase.io import Trajectory, read
from ase.md.logger import MDLogger
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet  # noqa: F401

from ase_atom import ATOMCalculator, ATOMPropagator

atoms = read("ethanol.xyz")
atoms.calc = ATOMCalculator("ethanol-gfn2")
thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(1))

# was: dyn = VelocityVerlet(atoms, timestep=0.5 * units.fs)
dyn = ATOMPropagator(atoms, timestep=0.5 * units.fs, stride=16 * units.fs)

with Trajectory("nve.traj", "w", atoms) as trajectory, MDLogger(dyn, atoms, "nve.log") as logger:
    dyn.attach(logger, interval=20)
    dyn.attach(trajectory.write, interval=4)
    dyn.run(400)

print(f"{dyn.get_time() / units.fs:g} fs, total energy {atoms.get_total_energy():.4f} eV")
