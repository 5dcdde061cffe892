"""The grid of strides in whole time steps, for integrators that march step by step."""

from __future__ import annotations

import math

from ase_atom.errors import ConfigError, HorizonError

TOLERANCE = 1e-6
"""Relative departure from a whole number of steps that rounding of units may cause."""


def steps_per_stride(stride: float, timestep: float, horizon: float = math.inf) -> int:
    """Return how many time steps a stride has.

    Parameters
    ----------
    stride, timestep
        fs.
    horizon
        Longest stride of the operator in fs.

    Raises
    ------
    ConfigError
        If one is not above zero, or the stride is no multiple of the time step; the message names
        the nearest that are.
    HorizonError
        If the stride is longer than the horizon.
    """
    for name, value in (("time step", timestep), ("stride", stride)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"the {name} must be above 0 fs, not {value:g} fs")
    if stride > horizon * (1 + TOLERANCE):
        raise HorizonError(
            f"a stride of {stride:g} fs lies beyond the operator's horizon of {horizon:g} fs"
        )
    ratio = stride / timestep
    count = round(ratio)
    if count < 1 or abs(ratio - count) > TOLERANCE * ratio:
        below, above = math.floor(ratio), math.ceil(ratio)
        near = " or ".join(f"{n * timestep:g} fs" for n in (below, above) if n > 0)
        raise ConfigError(
            f"a stride of {stride:g} fs is no multiple of the time step of {timestep:g} fs; "
            f"near ones are {near}"
        )
    return count
