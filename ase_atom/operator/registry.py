"""The architectures: their names, configurations and operators."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter

from ase_atom.operator.base import Operator
from ase_atom.operator.config import ArchitectureConfig
from ase_atom.operator.paper import PaperConfig, PaperOperator
from ase_atom.operator.spectral import SpectralConfig, SpectralOperator

ARCHITECTURES: dict[str, tuple[type[ArchitectureConfig], type[Operator]]] = {
    "spectral": (SpectralConfig, SpectralOperator),
    "paper": (PaperConfig, PaperOperator),
}


def architecture_of(settings: Any) -> str:
    """Name of the architecture that settings ask for: ``spectral`` unless they say otherwise."""
    if isinstance(settings, dict):
        return str(settings.get("architecture", "spectral"))
    return getattr(settings, "architecture", "spectral")


AnyConfig = Annotated[
    Annotated[SpectralConfig, Tag("spectral")] | Annotated[PaperConfig, Tag("paper")],
    Discriminator(
        architecture_of,
        custom_error_type="architecture",
        custom_error_message=f"architecture must be one of {', '.join(ARCHITECTURES)}",
    ),
]
"""Configuration of any architecture, as a pydantic field: told apart by ``architecture``."""

_ADAPTER: TypeAdapter = TypeAdapter(AnyConfig)


def parse_config(settings: str | bytes | dict[str, Any]) -> ArchitectureConfig:
    """The configuration that JSON text or plain data stands for."""
    if isinstance(settings, str | bytes):
        return _ADAPTER.validate_json(settings)
    return _ADAPTER.validate_python(settings)


def build_operator(config: ArchitectureConfig) -> Operator:
    """An untrained operator of the architecture that ``config`` names."""
    return ARCHITECTURES[config.architecture][1](config)
