"""Where a command puts an operator that it changed."""

from __future__ import annotations

from pathlib import Path

from ase_atom.errors import ConfigError
from ase_atom.operator.checkpoint import find_operator


def destination(operator: str, output: Path | None, write: bool) -> Path:
    """File to write: ``output``, or with ``write`` the operator's own.

    Raises
    ------
    ConfigError
        If both or neither are asked for.
    CheckpointError
        If there is no such operator.
    """
    if (output is None) == (not write):
        raise ConfigError(
            "say where the operator goes: --output FILE, or --write to replace its own"
        )
    return find_operator(operator) if output is None else output
