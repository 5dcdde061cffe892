"""Ensembles: what happens to the velocities between two jumps, one file each."""

from ase_atom.propagation.ensembles.andersen import Andersen
from ase_atom.propagation.ensembles.base import (
    CachedPotential,
    Ensemble,
    Parameter,
    Potential,
    Step,
    Thermostat,
    keep,
)
from ase_atom.propagation.ensembles.bussi import Bussi
from ase_atom.propagation.ensembles.langevin import Langevin
from ase_atom.propagation.ensembles.nve import NVE
from ase_atom.propagation.ensembles.registry import (
    ensemble_with,
    ensembles,
    find_ensemble,
    own_settings,
    register,
    unit_of,
)

__all__ = [
    "NVE",
    "Andersen",
    "Bussi",
    "CachedPotential",
    "Ensemble",
    "Langevin",
    "Parameter",
    "Potential",
    "Step",
    "Thermostat",
    "ensemble_with",
    "ensembles",
    "find_ensemble",
    "keep",
    "own_settings",
    "register",
    "unit_of",
]
