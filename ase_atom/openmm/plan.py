"""How an `ATOMIntegrator` makes its jumps."""

from __future__ import annotations

from dataclasses import dataclass

from ase_atom.propagation import Ensemble


@dataclass(frozen=True)
class Plan:
    """How jumps are made.

    Parameters
    ----------
    ensemble
        The ensemble; its temperature is only that at the start of a simulation.
    timestep
        fs.
    frames
        Time steps of a stride.
    still
        Take the drift of the centre of mass out of velocities that were set from outside.
    own_energy
        Answer with the operator's energy and forces when these are asked for; else with zero.
    accept_error
        Go on where the jumps' expected error is so large that the run would be refused.
    leaps
        Whether strides are leaps.
    """

    ensemble: Ensemble
    timestep: float
    frames: int
    still: bool
    own_energy: bool
    accept_error: bool = False
    leaps: bool = False
