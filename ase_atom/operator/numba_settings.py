"""How the package has its functions compiled by Numba."""

from __future__ import annotations

from typing import Any

from numba import njit

# Without the assumption that numbers are finite: what is not, is for the guard to find.
SETTINGS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},
    "nogil": True,
}


def compiled(function: Any) -> Any:
    """Decorate a function that Numba compiles when it is first called, and keeps in its cache."""
    try:
        return njit(cache=True, **SETTINGS)(function)
    except RuntimeError:  # there is no folder that it can write to
        return njit(**SETTINGS)(function)
