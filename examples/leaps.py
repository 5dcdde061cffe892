"""A hundred picoseconds of ethanol in leaps of 4 ps, sixteen replicas in one batch.

Run from this folder: ``python leaps.py``. There are no frames between leaps: each is a sample of
the molecule's state 4 ps later.
"""

import numpy as np
from ase import units
from ase.io import read

from ase_atom import equilibrate, propagate_replicas

ps = 1000 * units.fs
replicas = [read("ethanol.xyz") for _ in range(16)]
for seed, atoms in enumerate(replicas):
    equilibrate(atoms, temperature_K=300, operator="ethanol-gfn2", seed=seed)

run = propagate_replicas(
    replicas,
    timestep=4 * ps,
    steps=25,
    stride=4 * ps,
    operator="ethanol-gfn2",
    temperature_K=300,
    friction=0.01 / units.fs,
    seed=1,
    trajectory="leaps.xtc",
    overwrite=True,
)

torsions = np.array([atoms.get_dihedral(0, 1, 2, 3) for atoms in replicas])
gauche = np.abs((torsions + 180) % 360 - 180) < 120
print(f"{run.frames[0]} frames each, {len(run.broken)} lost, {gauche.sum()} of 16 end gauche")
