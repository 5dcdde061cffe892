"""Thermal equilibrium before a run: from any structure to a sample of the canonical ensemble."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ase_atom.errors import BrokenStateError
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.adaptive import Adaptive
from ase_atom.propagation.ensembles import Langevin
from ase_atom.propagation.guard import Guard
from ase_atom.propagation.propagator import Propagator, roll_out
from ase_atom.propagation.stochastic import Noise
from ase_atom.state import PhaseState

DURATION = 1000.0
"""fs; vibrations forget where they started with `FRICTION`, by exp(-20) in this time."""

FRICTION = 0.02
"""1/fs; strong enough to be done in a picosecond, weak enough to leave torsions their freedom."""


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
    adaptive: Adaptive | None = None,
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
    guard, adaptive
        As in `Propagator`.

    Raises
    ------
    ConfigError, HorizonError, CoverageError, StateError
        As `Propagator`.
    """
    ensemble = Langevin(temperature_K, friction, energy_correction=energy_correction)
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
        adaptive=adaptive,
    )
    for _ in roll_out(propagator, steps * stride):
        pass
    return Equilibrated(propagator.state, propagator.broken)
