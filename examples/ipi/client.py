"""An operator's forces for i-PI: start ``i-pi input.xml``, then this script beside it."""

from ase.calculators.socketio import SocketClient
from ase.io import read

from ase_atom import ATOMCalculator

atoms = read("../ethanol.xyz")
atoms.calc = ATOMCalculator("ethanol-gfn2")
SocketClient(unixsocket="ethanol").run(atoms, use_stress=False)
