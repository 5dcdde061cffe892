"""The published architecture: equivariant lift, temporal attention, vectors out."""

from ase_atom.operator.paper.config import EnergyConfig, PaperConfig
from ase_atom.operator.paper.model import PaperOperator

__all__ = ["EnergyConfig", "PaperConfig", "PaperOperator"]
