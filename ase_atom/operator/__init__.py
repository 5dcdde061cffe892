"""The neural operator: torch alone, no files but its own checkpoints, no ASE, no OpenMM."""

from ase_atom.operator.base import Operator
from ase_atom.operator.card import OperatorCard
from ase_atom.operator.checkpoint import (
    list_operators,
    load_leaps,
    load_operator,
    read_card,
    save_leaps,
    save_operator,
)
from ase_atom.operator.config import ArchitectureConfig
from ase_atom.operator.engine.choice import Engine
from ase_atom.operator.engine.runtime import OnnxEngine
from ase_atom.operator.paper import EnergyConfig, PaperConfig
from ase_atom.operator.protocol import OperatorBase, OperatorLike, check_operator
from ase_atom.operator.registry import (
    AnyConfig,
    Architecture,
    architectures,
    build_operator,
    parse_config,
    register,
)
from ase_atom.operator.spectral import SpectralConfig

__all__ = [
    "AnyConfig",
    "Architecture",
    "ArchitectureConfig",
    "EnergyConfig",
    "Engine",
    "OnnxEngine",
    "Operator",
    "OperatorBase",
    "OperatorCard",
    "OperatorLike",
    "PaperConfig",
    "SpectralConfig",
    "architectures",
    "build_operator",
    "check_operator",
    "list_operators",
    "load_leaps",
    "load_operator",
    "parse_config",
    "read_card",
    "register",
    "save_leaps",
    "save_operator",
]
