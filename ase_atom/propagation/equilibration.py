"""Thermal equilibrium before a run: from any structure to a sample of the canonical ensemble."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ase_atom.errors import BrokenStateError
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.ensembles import Bussi, Ensemble, Langevin
from ase_atom.propagation.guard import Guard
from ase_atom.propagation.propagator import Propagator, roll_out
from ase_atom.propagation.stochastic import Noise
from ase_atom.state import PhaseState
from ase_atom.units import KB

DURATION = 1000.0
"""fs; vibrations forget where they started with `FRICTION`, by exp(-20) in this time."""

FRICTION = 0.02
"""1/fs; strong enough to be done in a picosecond, weak enough to leave torsions their freedom."""


STIFFNESS = 20.0
"""eV/Å²: thermal forces in molecules are about sqrt(k_B T) times its root."""

AT_REST = 0.45
"""Part of the thermal force below which a molecule is near a minimum, not in equilibrium."""


@dataclass(frozen=True)
class Equilibrated:
    """What equilibration came to.

    Parameters
    ----------
    state
        The molecules at its end, ``[B, N]``; a broken one is at its last good state.
    broken
        One error for each that broke.
    """

    state: PhaseState
    broken: list[BrokenStateError]


def equilibrate(
    operator: OperatorLike,
    state: PhaseState,
    temperature_K: float,
    *,
    duration: float = DURATION,
    friction: float = FRICTION,
    stride: float = 16.0,
    energy_correction: bool = True,
    seed: int | Noise = 0,
    guard: Guard | None = None,
) -> Equilibrated:
    """Bring molecules to thermal equilibrium by Langevin dynamics.

    From a minimum with velocities of some temperature, half of the kinetic energy goes into the
    potential. Langevin's noise reaches every vibration and the rotation, so that each comes to the
    temperature; scaling of all velocities, as Bussi's, keeps them apart, and NVE keeps the energy.

    Parameters
    ----------
    operator
        Moves the molecules.
    state
        The molecules, ``[B, N]``.
    temperature_K
        K.
    duration
        fs, rounded up to whole strides.
    friction
        1/fs.
    stride
        Length of a jump in fs.
    energy_correction
        As in `Langevin`.
    seed
        Of the noise, or its source.
    guard
        As in `Propagator`.

    Raises
    ------
    ConfigError, HorizonError, CoverageError, StateError
        As `Propagator`.
    """
    ensemble = Langevin(
        temperature_K, friction, energy_correction=energy_correction, reversible=False
    )
    steps = math.ceil(round(duration / stride, 6))
    propagator = Propagator(
        operator,
        state,
        ensemble,
        stride,
        frame_interval=steps * stride,
        seed=seed,
        drop_broken=True,
        guard=guard,
    )
    for _ in roll_out(propagator, steps * stride):
        pass
    return Equilibrated(propagator.state, propagator.broken)


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
