"""The neural operator: torch alone, no files but its own checkpoints, no ASE, no OpenMM."""

from ase_atom.operator.card import OperatorCard
from ase_atom.operator.checkpoint import list_operators, load_operator, read_card, save_operator
from ase_atom.operator.config import OperatorConfig
from ase_atom.operator.model import Operator, build_operator

__all__ = [
    "Operator",
    "OperatorCard",
    "OperatorConfig",
    "build_operator",
    "list_operators",
    "load_operator",
    "read_card",
    "save_operator",
]
