"""The neural operator: torch alone, no files but its own checkpoints, no ASE, no OpenMM."""

from ase_atom.operator.base import Operator
from ase_atom.operator.card import OperatorCard
from ase_atom.operator.checkpoint import list_operators, load_operator, read_card, save_operator
from ase_atom.operator.config import ArchitectureConfig
from ase_atom.operator.paper import EnergyConfig, PaperConfig
from ase_atom.operator.registry import AnyConfig, build_operator, parse_config
from ase_atom.operator.spectral import SpectralConfig

__all__ = [
    "AnyConfig",
    "ArchitectureConfig",
    "EnergyConfig",
    "Operator",
    "OperatorCard",
    "PaperConfig",
    "SpectralConfig",
    "build_operator",
    "list_operators",
    "load_operator",
    "parse_config",
    "read_card",
    "save_operator",
]
