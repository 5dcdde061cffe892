"""Leaps: steps of picoseconds that are drawn, settled and judged."""

from ase_atom.propagation.leaps.asked import (
    LEAST_LAG,
    check_interval,
    check_leap,
    is_leap,
    stride_in_steps,
)
from ase_atom.propagation.leaps.leaping import Leaping
from ase_atom.propagation.leaps.path import LeapPath
from ase_atom.propagation.leaps.tally import LastLeap, LeapTally

__all__ = [
    "LEAST_LAG",
    "LastLeap",
    "LeapPath",
    "LeapTally",
    "Leaping",
    "check_interval",
    "check_leap",
    "is_leap",
    "stride_in_steps",
]
