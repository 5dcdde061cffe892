"""Lines on standard error."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """Say a line."""
    print(message, file=sys.stderr)


def say_warning(message: str | None) -> None:
    """Say a warning, if there is one."""
    if message:
        say(f"ase-atom: warning: {message}")
