"""Leaps in ASE scripts: their time step is the stride, as between two there is nothing."""

from __future__ import annotations

import math

from ase_atom.ase.settings import ASE_TIME
from ase_atom.errors import ConfigError
from ase_atom.operator import OperatorLike
from ase_atom.propagation import Settings, steps_per_stride
from ase_atom.propagation.leaps import check_leap, is_leap
from ase_atom.units import format_time


def stride_in_steps(
    operator: OperatorLike, settings: Settings, timestep: float
) -> tuple[int, bool]:
    """Return how many time steps a stride has, and whether it is a leap's.

    Parameters
    ----------
    operator
        That jumps or leaps.
    settings
        Ensemble and stride.
    timestep
        fs.

    Raises
    ------
    ConfigError, HorizonError
        As `steps_per_stride` and `check_leap`; or for time steps between leaps.
    """
    stride = settings.choose_stride(operator)
    if not is_leap(operator, stride):
        return steps_per_stride(stride, timestep, operator.horizon, ASE_TIME), False
    check_leap(operator, settings.ensemble(), stride)
    if steps_per_stride(stride, timestep, math.inf, ASE_TIME) > 1:
        raise ConfigError(
            f"time steps of {format_time(timestep)} fall between leaps of {format_time(stride)}, "
            f"where there is nothing: a timestep of {format_time(stride)} fits, and observers, "
            "loggers and trajectories count in leaps"
        )
    return 1, True
