"""The spectral architecture past a molecule's memory, for benchmarks of single long lags."""

from ase_atom.operator import Architecture, register
from training.benchmarks.long_lag.config import LongLagConfig
from training.benchmarks.long_lag.model import LongLagOperator
from training.benchmarks.long_lag.rest import AlignedRest, best_rotation, rotate

__all__ = ["AlignedRest", "LongLagConfig", "LongLagOperator", "best_rotation", "rotate"]

register("long_lag", Architecture(LongLagConfig, LongLagOperator))
