"""The grid of strides in whole time steps, for integrators that march step by step."""

from __future__ import annotations

import math

from ase_atom.errors import ConfigError, HorizonError

TOLERANCE = 1e-6
"""Relative departure from a whole number of steps that rounding of units may cause."""

LEAST_TIME = 1e-3
"""fs. Nothing in a molecule happens in less: a shorter time was given in another unit."""


MOST_STEPS = 10**10
"""Of one run: months at ten microseconds each."""


def check_time(name: str, value: float, units: str = "") -> None:
    """Check that a time in fs can be meant so.

    Parameters
    ----------
    name
        What it is, for the message.
    value
        fs.
    units
        How a front end takes times, for messages about those that cannot be meant.

    Raises
    ------
    ConfigError
        For a time that is not above zero, or too short to be one of a molecule.
    """
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"the {name} must be above 0 fs, not {value:g} fs")
    if value < LEAST_TIME:
        raise ConfigError(
            f"a {name} of {value:g} fs is shorter than any motion in a molecule: check its unit"
            f"{_after(units)}"
        )


def check_count(name: str, duration: float, step: float) -> None:
    """Check that a time can be marched through.

    Parameters
    ----------
    name
        What takes the steps, for the message: ``jumps``, ``frames``.
    duration, step
        fs.

    Raises
    ------
    ConfigError
        For more than 10¹⁰ steps.
    """
    if duration > MOST_STEPS * step:
        raise ConfigError(
            f"{duration:g} fs need {duration / step:.3g} {name} of {step:g} fs; "
            f"at most {MOST_STEPS:.0e} can be asked for"
        )


def steps_per_stride(
    stride: float, timestep: float, horizon: float = math.inf, units: str = ""
) -> int:
    """Return how many time steps a stride has.

    Parameters
    ----------
    stride, timestep
        fs.
    horizon
        Longest stride of the operator in fs.
    units
        As in `check_time`.

    Raises
    ------
    ConfigError
        If one is not above zero or too short, or the stride is no multiple of the time step; the
        message names the nearest that are.
    HorizonError
        If the stride is longer than the horizon.
    """
    for name, value in (("time step", timestep), ("stride", stride)):
        check_time(name, value, units)
    if timestep > stride * (1 + TOLERANCE):
        near = f"; near ones are {timestep:g} fs" if timestep <= horizon else ""
        raise ConfigError(
            f"a time step of {timestep:g} fs is longer than the stride of {stride:g} fs{near}"
            f"{_after(units)}"
        )
    if stride > horizon * (1 + TOLERANCE):
        raise HorizonError(
            f"a stride of {stride:g} fs lies beyond the operator's horizon of {horizon:g} fs"
        )
    return whole_steps("stride", stride, timestep, units)


def whole_steps(name: str, time: float, timestep: float, units: str = "") -> int:
    """Return how many time steps there are in a time that is a multiple of them.

    Parameters
    ----------
    name
        What the time is, for the message.
    time, timestep
        fs.
    units
        As in `check_time`.

    Raises
    ------
    ConfigError
        If it is no multiple; the message names the nearest that are.
    """
    ratio = time / timestep
    count = round(ratio)
    if abs(ratio - count) > TOLERANCE * ratio:
        below, above = math.floor(ratio), math.ceil(ratio)
        near = " or ".join(f"{n * timestep:g} fs" for n in (below, above) if n > 0)
        raise ConfigError(
            f"a {name} of {time:g} fs is no multiple of the time step of {timestep:g} fs; "
            f"near ones are {near}{_after(units)}"
        )
    return count


def _after(units: str) -> str:
    return f"; {units}" if units else ""
