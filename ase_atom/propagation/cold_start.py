"""Starts that Bussi's thermostat never brings to equilibrium."""

from __future__ import annotations

import math

from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.ensembles import Bussi, Ensemble
from ase_atom.state import PhaseState
from ase_atom.units import KB

STIFFNESS = 20.0
"""eV/Å²: thermal forces in molecules are about sqrt(k_B T) times its root."""

AT_REST = 0.45
"""Part of the thermal force below which a molecule is near a minimum, not in equilibrium."""


def cold_start(operator: OperatorLike, ensemble: Ensemble, start: PhaseState) -> str | None:
    """Return a line of warning for a molecule near a minimum under `Bussi`, or None.

    There is next to no potential energy in it, and scaling all velocities never puts any into one
    vibration rather than into rotation. Forces tell: their root mean square, beside `AT_REST` times
    sqrt(k k_B T) with k = `STIFFNESS`.
    """
    if not (isinstance(ensemble, Bussi) and operator.has_energy):
        return None
    _, forces = operator.energy_and_forces(start)
    thermal = math.sqrt(STIFFNESS * KB * ensemble.temperature_K)
    found = (forces.square().sum(dim=(1, 2)) / (3 * start.num_atoms)).sqrt()
    if not bool((found < AT_REST * thermal).any()):
        return None
    return (
        "the structure is near a minimum, and Bussi's thermostat, which scales all velocities "
        "alike, leaves vibrations cold and rotation hot from there: bring it to equilibrium first, "
        "with ase_atom.equilibrate or a picosecond of Langevin dynamics"
    )
