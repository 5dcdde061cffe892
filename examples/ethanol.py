"""Simulate 1 ps of Langevin dynamics of ethanol, and print temperature and O-H length.

Run from this folder: ``python ethanol.py``
"""

import torch
from ase.io import read

from ase_atom import Langevin, PhaseState, Propagator, load_operator
from ase_atom.propagation import sample_velocities

atoms = read("ethanol.xyz")
oxygen = atoms.symbols.search("O")[0]
hydrogen = min(atoms.symbols.search("H"), key=lambda i: atoms.get_distance(oxygen, i))

operator = load_operator("ethanol-gfn2")
state = PhaseState.from_atoms(atoms)  # Å, fs, eV, amu; a batch of one
state = sample_velocities(state, 300.0, torch.Generator().manual_seed(1))

ensemble = Langevin(temperature_K=300.0, friction=0.01)  # friction in 1/fs
propagator = Propagator(operator, state, ensemble, stride=16.0, frame_interval=2.0, seed=1)

for frames in propagator.run(1000.0):  # the frames of one jump at a time
    length = (frames.positions[0, :, oxygen] - frames.positions[0, :, hydrogen]).norm(dim=-1)
    temperature = ensemble.temperature(frames.flat())
    print(
        f"{frames.times[-1]:7.1f} fs  {temperature.mean():6.1f} K  "
        f"O-H {length.mean():.3f} Å over {len(frames)} frames"
    )
