"""Marching a state: jumps, ensembles, conservation laws, guard."""

from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.adaptive import Adaptive
from ase_atom.propagation.conservation import restore_angular_momentum, restore_energy
from ase_atom.propagation.ensembles import (
    NVE,
    Andersen,
    Bussi,
    CachedPotential,
    Ensemble,
    Langevin,
    Potential,
    Step,
    Thermostat,
)
from ase_atom.propagation.equilibration import equilibrate
from ase_atom.propagation.expectation import Expectation, TrustWarning, expect, look_ahead
from ase_atom.propagation.fallback import Fallback
from ase_atom.propagation.frames import Frames
from ase_atom.propagation.grid import check_time, steps_per_stride
from ase_atom.propagation.guard import Guard, Label
from ase_atom.propagation.jumps import jump, jump_reversible_on_average, reversible_jump
from ase_atom.propagation.path import Path
from ase_atom.propagation.propagator import Propagator, roll_out
from ase_atom.propagation.settings import (
    Settings,
    check_abilities,
    default_stride,
    is_reversible,
    reservations,
)
from ase_atom.propagation.steps import advance, carry_on
from ase_atom.propagation.stepwise import PotentialSteps
from ase_atom.propagation.stochastic import (
    Noise,
    ornstein_uhlenbeck,
    rescale_kinetic_energy,
    sample_velocities,
    torch_noise,
)

__all__ = [
    "NVE",
    "Adaptive",
    "Andersen",
    "Bussi",
    "CachedPotential",
    "Ensemble",
    "Expectation",
    "Fallback",
    "Frames",
    "Guard",
    "Label",
    "Langevin",
    "Noise",
    "OperatorLike",
    "Path",
    "Potential",
    "PotentialSteps",
    "Propagator",
    "Settings",
    "Step",
    "Thermostat",
    "TrustWarning",
    "advance",
    "carry_on",
    "check_abilities",
    "check_time",
    "default_stride",
    "equilibrate",
    "expect",
    "is_reversible",
    "jump",
    "jump_reversible_on_average",
    "look_ahead",
    "ornstein_uhlenbeck",
    "rescale_kinetic_energy",
    "reservations",
    "restore_angular_momentum",
    "restore_energy",
    "reversible_jump",
    "roll_out",
    "sample_velocities",
    "steps_per_stride",
    "torch_noise",
]
