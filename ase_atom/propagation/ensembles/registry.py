"""The ensembles by name and by the settings that they alone have.

Those of this folder are found by themselves: a new file with a `register`ed class is all that a new
ensemble takes. A package adds its own as an entry point of the group ``ase_atom.ensembles`` whose
value is the class; a script calls `register`.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from ase_atom.errors import ConfigError
from ase_atom.errors.keywords import nearest_keyword
from ase_atom.plugins import cannot_load, installed, load
from ase_atom.propagation.ensembles.base import Ensemble

GROUP = "ase_atom.ensembles"
"""Group of entry points under which other packages name their ensembles."""

Kind = TypeVar("Kind", bound=type[Any])

_KNOWN: dict[str, type[Ensemble]] = {}


def register(ensemble: Kind) -> Kind:
    """Make an ensemble known under its ``name``; a decorator of its class.

    Raises
    ------
    ConfigError
        If another has the name, or one of its own settings.
    """
    for other in _KNOWN.values():
        if other.__qualname__ == ensemble.__qualname__ and other.__module__ == ensemble.__module__:
            continue
        if other.name == ensemble.name:
            raise ConfigError(f"there is an ensemble named {ensemble.name!r} already")
        if shared := set(other.parameters) & set(ensemble.parameters):
            raise ConfigError(f"the setting {min(shared)!r} is that of {other.title} already")
    _KNOWN[ensemble.name] = ensemble
    return ensemble


def ensembles() -> dict[str, type[Ensemble]]:
    """Return all ensembles by name."""
    _find_all()
    return dict(_KNOWN)


def find_ensemble(name: str) -> type[Ensemble]:
    """Return the ensemble of a name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    known = ensembles()
    if name not in known:
        near = get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]}? There are" if near else "there are"
        raise ConfigError(f"unknown ensemble {name!r}: {meant} {', '.join(known)}")
    return known[name]


def ensemble_with(setting: str) -> type[Ensemble]:
    """Return the ensemble that has a setting of its own by that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    found = next((e for e in ensembles().values() if setting in e.parameters), None)
    if found is None:
        names = [name for ensemble in ensembles().values() for name in ensemble.parameters]
        raise ConfigError(
            f"no ensemble has a setting {setting!r}: {nearest_keyword(str(setting), names)}"
        )
    return found


def unit_of(setting: str) -> str:
    """Return the unit of a setting that one ensemble alone has."""
    return ensemble_with(setting).parameters[setting].unit


def own_settings(settings: Mapping[str, Any] | None, **named: Any) -> dict[str, Any]:
    """Return settings that one ensemble alone has, those given by keywords of their own among them.

    Raises
    ------
    ConfigError
        If one is given twice, or if these are no settings by name.
    """
    if settings is None:
        return named
    if not isinstance(settings, Mapping):
        raise ConfigError(f"settings are values by name, not {settings!r}")
    for name in settings:
        if named.get(name) is not None:
            raise ConfigError(f"{name} is given twice: leave it out of settings")
    return named | dict(settings)


@cache
def _find_all() -> None:
    package = __name__.rpartition(".")[0]
    for module in iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")
    for entry in installed(GROUP, "ensemble").values():
        found = load(entry, "ensemble")
        try:
            register(found)
        except (ConfigError, AttributeError) as error:
            raise cannot_load(entry, "ensemble", error) from error
