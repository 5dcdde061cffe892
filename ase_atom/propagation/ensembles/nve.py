"""Microcanonical dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ase_atom.errors.keywords import known_fields
from ase_atom.propagation.ensembles.base import Parameter, Step, keep
from ase_atom.propagation.ensembles.registry import register
from ase_atom.state import PhaseState


@register
@known_fields
@dataclass(frozen=True)
class NVE:
    """Microcanonical dynamics: the operator's jumps, with linear and angular momentum conserved.

    The operator moves the centre of mass exactly. At the end of each jump, a rigid-body rotation
    added to the velocities restores the angular momentum about the centre of mass. Inside a jump
    velocities are not corrected, so that they remain the derivatives of the positions.

    N_f is 3N - 3: the temperature does not include the uniform motion of the centre of mass.

    Parameters
    ----------
    energy_correction
        Also scale the vibrational velocities at the end of each jump, so that the sum of kinetic
        and potential energy is conserved. This costs one energy evaluation per jump, or three to
        five where `ase_atom.propagation.reversible_jump` keeps the energy too.
    reversible
        Make jumps reversible in time. This takes as many passes of the network as three to seven
        jumps. The operator's error then adds no energy to a vibration, and removes none, on
        average.
    """

    name: ClassVar[str] = "nve"
    title: ClassVar[str] = "NVE"
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    reversible_by_default: ClassVar[bool | None] = True
    keeps_momentum: ClassVar[bool] = True

    energy_correction: bool = True
    reversible: bool = True

    def prepare(self, state: PhaseState) -> PhaseState:
        """Return the state as it is."""
        return state

    def enter(self, state: PhaseState, step: Step) -> PhaseState:
        """Return the state as it is."""
        return state

    def conserve(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Restore the angular momentum and, if asked to, the energy."""
        return keep(end, start, step, energy=self.energy_correction, momentum=self.keeps_momentum)

    def leave(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Restore the angular momentum and, if asked to, the energy."""
        return self.conserve(end, start, step)

    def degrees_of_freedom(self, state: PhaseState) -> Tensor:
        """Return 3N - 3, ``[B]``."""
        return 3 * state.num_atoms - 3

    def temperature(self, state: PhaseState) -> Tensor:
        """Return the temperature in K of the motion about the centre of mass, ``[B]``."""
        return state.without_drift().temperature(self.degrees_of_freedom(state))
