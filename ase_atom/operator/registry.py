"""The architectures: their names, configurations and operators."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from ase_atom.operator.base import Operator
from ase_atom.operator.config import ArchitectureConfig
from ase_atom.operator.spectral import SpectralConfig, SpectralOperator

_ARCHITECTURES: dict[str, tuple[type[ArchitectureConfig], type[Operator]]] = {
    "spectral": (SpectralConfig, SpectralOperator),
}
AnyConfig = SpectralConfig
_ADAPTER: TypeAdapter = TypeAdapter(AnyConfig)


def parse_config(settings: str | bytes | dict[str, Any]) -> ArchitectureConfig:
    """The configuration that JSON text or plain data stands for."""
    if isinstance(settings, str | bytes):
        return _ADAPTER.validate_json(settings)
    return _ADAPTER.validate_python(settings)


def build_operator(config: ArchitectureConfig) -> Operator:
    """An untrained operator of the architecture that ``config`` names."""
    return _ARCHITECTURES[config.architecture][1](config)
