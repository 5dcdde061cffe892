"""A potential energy surface that goes with an operator in place of an energy head."""

from ase_atom.operator.potential.network import PotentialConfig, PotentialNetwork
from ase_atom.operator.potential.potential import Potential, PotentialCard

__all__ = ["Potential", "PotentialCard", "PotentialConfig", "PotentialNetwork"]
