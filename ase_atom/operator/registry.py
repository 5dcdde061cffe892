"""The architectures: their names, configurations and operators.

Those of this package are listed here. A package adds its own as an entry point of the group
``ase_atom.architectures``, whose name is the architecture's and whose value is an `Architecture`;
a script adds one with `register`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint
from typing import Annotated, Any, NamedTuple

from pydantic import SerializeAsAny, TypeAdapter, ValidationInfo, WrapValidator
from pydantic_core import PydanticCustomError

from ase_atom.errors import ConfigError
from ase_atom.operator.base import Operator
from ase_atom.operator.config import ArchitectureConfig
from ase_atom.operator.paper import PaperConfig, PaperOperator
from ase_atom.operator.spectral import SpectralConfig, SpectralOperator
from ase_atom.plugins import installed, load

GROUP = "ase_atom.architectures"
"""Group of entry points under which other packages name their architectures."""


class Architecture(NamedTuple):
    """What makes an operator.

    Parameters
    ----------
    config
        Its hyper-parameters, with its name as the default of ``architecture``.
    operator
        Built from a configuration alone.
    """

    config: type[ArchitectureConfig]
    operator: type[Operator]


_KNOWN: dict[str, Architecture] = {
    "spectral": Architecture(SpectralConfig, SpectralOperator),
    "paper": Architecture(PaperConfig, PaperOperator),
}

_SHIPPED = tuple(_KNOWN)


def register(name: str, architecture: Architecture) -> None:
    """Make an architecture known in this process.

    Raises
    ------
    ConfigError
        If another has the name.
    """
    if _KNOWN.setdefault(name, architecture) != architecture:
        raise ConfigError(f"there is an architecture named {name!r} already")


def find_architecture(name: str) -> Architecture | None:
    """Return an architecture of this package, a registered one or an installed one, or None.

    Raises
    ------
    ConfigError
        If an installed one cannot be loaded, or is no `Architecture`.
    """
    entry = _installed().get(name)
    if name in _KNOWN or entry is None:
        return _KNOWN.get(name)
    found = load(entry, "architecture")
    if not isinstance(found, Architecture):
        raise ConfigError(
            f"{entry.value} is a {type(found).__name__}: the entry point {name!r} of {GROUP} must "
            "name an ase_atom.operator.Architecture"
        )
    register(name, found)
    return found


def architectures() -> list[str]:
    """Names of all architectures."""
    return [*_KNOWN, *(name for name in _installed() if name not in _KNOWN)]


@cache
def _installed() -> dict[str, EntryPoint]:
    return installed(GROUP, "architecture", _SHIPPED)


def architecture_of(settings: Any) -> str:
    """Name of the architecture that settings ask for: ``spectral`` unless they say otherwise."""
    if isinstance(settings, dict):
        return str(settings.get("architecture", "spectral"))
    return getattr(settings, "architecture", "spectral")


def _choose(settings: Any, _: Any, info: ValidationInfo) -> ArchitectureConfig:
    found = find_architecture(architecture_of(settings))
    if found is None:
        known = ", ".join(architectures())
        raise PydanticCustomError("architecture", f"architecture must be one of {known}")
    # In JSON a list is a tuple, but a configuration is checked as plain data here.
    return found.config.model_validate(settings, context=info.context)


AnyConfig = Annotated[SerializeAsAny[ArchitectureConfig], WrapValidator(_choose)]
"""Configuration of any architecture, as a pydantic field: told apart by ``architecture``."""

_ADAPTER: TypeAdapter[ArchitectureConfig] = TypeAdapter(AnyConfig)


def parse_config(settings: str | bytes | dict[str, Any]) -> ArchitectureConfig:
    """The configuration that JSON text or plain data stands for."""
    if isinstance(settings, str | bytes):
        return _ADAPTER.validate_json(settings)
    return _ADAPTER.validate_python(settings)


def build_operator(config: ArchitectureConfig) -> Operator:
    """An untrained operator of the architecture that ``config`` names.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    found = find_architecture(config.architecture)
    if found is None:
        raise ConfigError(
            f"architecture {config.architecture!r} is none of {', '.join(architectures())}"
        )
    return found.operator(config)
