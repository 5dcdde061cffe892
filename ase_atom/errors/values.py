"""Numbers, flags and file names of a script, which are refused where they are something else."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

from ase_atom.errors import ConfigError


def whole_number(name: str, value: Any, at_least: int = 0) -> int:
    """Return a whole number that a script gave, also as a float without a fraction.

    Parameters
    ----------
    name
        What it is, for the message.
    value
        What was given.
    at_least
        The least that it can be.

    Raises
    ------
    ConfigError
        For text, flags, fractions, several numbers, and whatever is below ``at_least``.
    """
    if isinstance(value, float | np.floating) and math.isfinite(value) and value == int(value):
        value = int(value)
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        number = at_least - 1
    if number < at_least:
        raise ConfigError(f"{name} is a whole number from {at_least} on, not {value!r}")
    return number


def check_flag(name: str, value: Any, or_none: bool = False) -> None:
    """Check that what a script gave is True or False, since any text would count as True.

    Parameters
    ----------
    name
        What it is, for the message.
    value
        What was given; flags of numpy's will do.
    or_none
        Whether None, for a default, will do too.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if not (isinstance(value, bool | np.bool_) or (or_none and value is None)):
        raise ConfigError(f"{name} is True or False, not {value!r}")


def file_path(name: str, value: Any) -> Path:
    """Return the path of a file that a script named.

    Parameters
    ----------
    name
        What it is, for the message.
    value
        What was given.

    Raises
    ------
    ConfigError
        For whatever is neither text nor a path.
    """
    try:
        if isinstance(value, bytes):
            raise TypeError
        return Path(os.fspath(value))
    except TypeError as error:
        raise ConfigError(f"{name} is the name of a file, not {value!r}") from error
