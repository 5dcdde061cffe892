"""Warnings that point at the line of a user's script, however deep they arise."""

from __future__ import annotations

import sys
import warnings

_NOT_THE_USER = ("ase_atom", "ase", "openmm", "openmmml", "torch", "contextlib", "functools")
"""Packages that call this one, or that this one is called through."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, with the line that called the package as the place.

    Parameters
    ----------
    message
        One line.
    category
        Class of the warning.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _package_of(frame.f_globals) in _NOT_THE_USER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _package_of(variables: dict[str, object]) -> str:
    return str(variables.get("__name__", "")).partition(".")[0]
