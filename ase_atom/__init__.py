"""Molecular dynamics by jumps of a trained neural operator.

The names below are loaded on first use, so that importing the package, and with it
``ase-atom --help``, stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__: str

_HOMES = {
    "PhaseState": "ase_atom.state",
    "AtomError": "ase_atom.errors",
    "BrokenStateError": "ase_atom.errors",
    "load_leaps": "ase_atom.operator",
    "load_operator": "ase_atom.operator",
    "list_operators": "ase_atom.operator",
    "operator_for": "ase_atom.molecules.catalogue",
    "ATOMBussi": "ase_atom.ase.integrators",
    "ATOMCalculator": "ase_atom.ase.calculator",
    "ATOMForce": "ase_atom.openmm",
    "ATOMIntegrator": "ase_atom.openmm",
    "ATOMLangevin": "ase_atom.ase.integrators",
    "ATOMPropagator": "ase_atom.ase.propagator",
    "ATOMVerlet": "ase_atom.ase.integrators",
    "Andersen": "ase_atom.propagation",
    "Bussi": "ase_atom.propagation",
    "Langevin": "ase_atom.propagation",
    "CalculatorSteps": "ase_atom.ase.steps",
    "NVE": "ase_atom.propagation",
    "OpenMMSteps": "ase_atom.openmm.steps",
    "PotentialSteps": "ase_atom.propagation",
    "Propagator": "ase_atom.propagation",
    "equilibrate": "ase_atom.ase.equilibration",
    "propagate_replicas": "ase_atom.ase.replicas",
    "simulate": "ase_atom.ase.simulation",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ase-atom")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
