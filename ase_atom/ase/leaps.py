"""Leaps in ASE scripts: their time step is the stride, as between two there is nothing."""

from __future__ import annotations

from ase_atom.ase.settings import ASE_TIME
from ase_atom.operator import OperatorLike
from ase_atom.propagation import Settings, leaps


def stride_in_steps(
    operator: OperatorLike, settings: Settings, timestep: float, divided: bool = False
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
    divided
        Whether strides are divided where jumps err too much.

    Raises
    ------
    ConfigError, HorizonError
        As `ase_atom.propagation.leaps.stride_in_steps`.
    """
    stride = settings.choose_stride(operator, divided)
    return leaps.stride_in_steps(operator, settings.ensemble(), stride, timestep, ASE_TIME)
