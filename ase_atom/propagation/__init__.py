"""Marching a state: jumps, ensembles, conservation laws, guard."""

from ase_atom.propagation.conservation import restore_angular_momentum, restore_energy
from ase_atom.propagation.ensembles import (
    NVE,
    Conserved,
    Ensemble,
    Langevin,
    OperatorLike,
    ornstein_uhlenbeck,
    sample_velocities,
)
from ase_atom.propagation.frames import Frames
from ase_atom.propagation.guard import Guard
from ase_atom.propagation.propagator import Propagator, jump

__all__ = [
    "NVE",
    "Conserved",
    "Ensemble",
    "Frames",
    "Guard",
    "Langevin",
    "OperatorLike",
    "Propagator",
    "jump",
    "ornstein_uhlenbeck",
    "restore_angular_momentum",
    "restore_energy",
    "sample_velocities",
]
