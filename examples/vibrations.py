"""Relaxed structure and harmonic frequencies of ethanol.

Run from this folder: ``python vibrations.py``. The lines below ``was:`` are the only differences
from the script for GFN2-xTB itself.
"""

from ase.io import read
from ase.optimize import BFGS
from ase.vibrations import Vibrations

# was: from tblite.ase import TBLite
from ase_atom import ATOMCalculator

atoms = read("ethanol.xyz")
atoms.rattle(0.02, seed=1)

# was: atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
atoms.calc = ATOMCalculator("ethanol-gfn2", precision="double")

BFGS(atoms, logfile="relax.log").run(fmax=0.002)
vibrations = Vibrations(atoms, name="vibrations")
vibrations.clean()  # else ASE reads the forces of an earlier run
vibrations.run()
vibrations.summary()
print("frequencies", *(f"{wave.real:.1f}" for wave in vibrations.get_frequencies()[6:]))
