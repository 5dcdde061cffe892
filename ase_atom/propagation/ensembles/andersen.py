"""Andersen's thermostat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.special import ndtr

from ase_atom.errors.keywords import known_fields
from ase_atom.propagation.ensembles.base import Parameter, Thermostat
from ase_atom.propagation.ensembles.registry import register
from ase_atom.propagation.mechanics import Bodies, array, tensor
from ase_atom.propagation.stochastic import Noise
from ase_atom.state import PhaseState
from ase_atom.units import thermal_speed


@register
@known_fields
@dataclass(frozen=True)
class Andersen(Thermostat):
    """Massive stochastic collisions (Andersen 1980); see `Thermostat`.

    Over a time t each atom's velocity is drawn anew from the Maxwell-Boltzmann distribution with
    the probability 1 - exp(-ν t), and otherwise stays as it is.

    Parameters
    ----------
    temperature_K
        K.
    collision_rate
        ν of one atom in 1/fs.
    fix_com
        Keep the centre of mass where it is.
    energy_correction
        As in `Langevin`.
    reversible
        As in `Langevin`: collisions reach every vibration.

    Raises
    ------
    ConfigError
        For a temperature that is not above zero, or a rate that is not or is above 0.5/fs.
    """

    name: ClassVar[str] = "andersen"
    title: ClassVar[str] = "Andersen"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "collision_rate": Parameter(
            "1/fs", "rate of an atom's collisions", "0.001 to 0.1", most=0.5
        )
    }
    reversible_by_default: ClassVar[bool | None] = None

    temperature_K: float = 300.0
    collision_rate: float = 0.01
    fix_com: bool = True
    energy_correction: bool = True
    reversible: bool | None = None

    @property
    def relaxation_time(self) -> float:
        """2/ν in fs."""
        return 2.0 / self.collision_rate

    def thermalise(self, state: PhaseState, duration: float, noise: Noise) -> PhaseState:
        """Let the atoms collide over a time in fs.

        Taking the drift out afterwards is not enough for a fixed centre of mass: the velocities of
        the other atoms belong to a total momentum of zero, and the molecule would cool. A thermal
        drift is given to it first, so that all 3N components are canonical when some are drawn.
        """
        batch, atoms = state.numbers.shape
        bodies = Bodies.of(state)
        chance = -math.expm1(-self.collision_rate * duration)
        hit = ndtr(array(noise(torch.Size((batch, atoms, 1))))) < chance
        speed = thermal_speed(1.0, self.temperature_K)
        drawn = speed * bodies.slowness * array(noise(state.velocities.shape))
        v = array(state.velocities)
        if self.fix_com:
            kick = array(noise(torch.Size((batch, 1, 3))))
            v = bodies.masked(v - bodies.mean(v) + speed / np.sqrt(bodies.total) * kick)
        v = np.where(hit, drawn, v)
        if self.fix_com:
            v = bodies.without_drift(v)
        return state.replace(velocities=tensor(v, state.velocities))
