"""Thermostatted dynamics of ethanol, written as a DCD and a PDB file for VMD.

Run from this folder: ``python langevin.py``, then ``vmd langevin.pdb langevin.dcd``. The line
below ``was:`` is the only difference from the script for ASE's Langevin.
"""

import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.io import read
from ase.md.langevin import Langevin  # noqa: F401
from ase.md.velocitydistribution import thermalize_momenta

from ase_atom import ATOMCalculator, ATOMLangevin
from ase_atom.io import open_trajectory

rng = np.random.default_rng(1)
atoms = read("ethanol.xyz")
atoms.calc = ATOMCalculator("ethanol-gfn2")
atoms.set_constraint(FixCom())  # so that ASE divides by 3N - 3 degrees of freedom
thermalize_momenta(atoms, temperature_K=300, rng=rng)
settings = {"temperature_K": 300, "friction": 0.01 / units.fs, "rng": rng}

# was: dyn = Langevin(atoms, 0.5 * units.fs, fixcm=False, **settings)
dyn = ATOMLangevin(atoms, 0.5 * units.fs, stride=16 * units.fs, **settings)

temperatures = []
dyn.attach(lambda: temperatures.append(atoms.get_temperature()), interval=10)
with open_trajectory("langevin.dcd", atoms, "w", frame_interval=5.0) as trajectory:
    dyn.attach(trajectory.write, interval=10)
    dyn.run(2000)

print(f"{len(temperatures)} frames, mean temperature {np.mean(temperatures):.0f} K")
