"""What other packages add to this one, by entry points."""

from __future__ import annotations

from collections.abc import Container
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ase_atom.errors import ConfigError


def installed(group: str, what: str, taken: Container[str] = ()) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, none of them loaded.

    Parameters
    ----------
    group
        Such as ``ase_atom.engines``.
    what
        What they name, for messages: ``engine``.
    taken
        Names that this package has itself.

    Raises
    ------
    ConfigError
        If a name is taken, or two packages have one.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        if entry.name in taken or found.get(entry.name, entry).value != entry.value:
            raise ConfigError(
                f"the {what} {entry.name!r} of {entry.value} has a name that is taken: there is "
                f"{'an' if what[0] in 'aeiou' else 'a'} {what} {entry.name!r} already"
            )
        found[entry.name] = entry
    return found


def load(entry: EntryPoint, what: str) -> Any:
    """Return what an entry point names.

    Raises
    ------
    ConfigError
        If it cannot be loaded.
    """
    try:
        return entry.load()
    except Exception as error:
        raise cannot_load(entry, what, error) from error


def cannot_load(entry: EntryPoint, what: str, reason: object) -> ConfigError:
    """Return the error for what another package names and does not have."""
    return ConfigError(f"the {what} {entry.name!r} of {entry.value} cannot be loaded: {reason}")
