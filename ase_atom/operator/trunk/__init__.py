"""An equivariant trunk: from positions and velocities to features of atoms and pairs.

Networks stand on it side by side and say themselves what they make of the features; the first is
`ase_atom.operator.spectral`.
"""

from ase_atom.operator.trunk.blocks import Block, Trunk
from ase_atom.operator.trunk.config import TrunkConfig
from ase_atom.operator.trunk.energy import EnergyHead, read_energy, readouts
from ase_atom.operator.trunk.lifting import Features, Lift

__all__ = [
    "Block",
    "EnergyHead",
    "Features",
    "Lift",
    "Trunk",
    "TrunkConfig",
    "read_energy",
    "readouts",
]
