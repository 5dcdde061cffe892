"""Stochastic velocity rescaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ase_atom.errors import StateError
from ase_atom.errors.keywords import known_fields
from ase_atom.propagation.ensembles.base import Parameter, Thermostat
from ase_atom.propagation.ensembles.registry import register
from ase_atom.propagation.stochastic import Noise, rescale_kinetic_energy
from ase_atom.state import PhaseState


@register
@known_fields
@dataclass(frozen=True)
class Bussi(Thermostat):
    """Stochastic velocity rescaling (Bussi, Donadio and Parrinello 2007); see `Thermostat`.

    One random factor scales all velocities, so the thermostat disturbs the dynamics very little.
    The angular momentum of an isolated molecule changes in size, not in direction. At the end of
    each jump a rigid-body rotation added to the velocities restores it.

    Parameters
    ----------
    temperature_K
        Temperature in K.
    taut
        Relaxation time τ in fs.
    fix_com
        Fix the centre of mass.
    energy_correction
        As in `Langevin`.
    reversible
        As in `NVE`: one factor for all velocities cannot return the energy that single vibrations
        lose.

    Raises
    ------
    ConfigError
        For a temperature that is not above zero, or a relaxation time below 2 fs.
    """

    name: ClassVar[str] = "bussi"
    title: ClassVar[str] = "Bussi"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "taut": Parameter("fs", "relaxation time of Bussi's thermostat", "10 to 10000", least=2.0)
    }
    reversible_by_default: ClassVar[bool | None] = True
    keeps_momentum: ClassVar[bool] = True

    temperature_K: float = 300.0
    taut: float = 100.0
    fix_com: bool = True
    energy_correction: bool = True
    reversible: bool = True

    def prepare(self, state: PhaseState) -> PhaseState:
        """Bring the centre of mass to rest if it is to be fixed.

        Raises
        ------
        StateError
            For a molecule at rest, which no scaling can set in motion.
        """
        state = super().prepare(state)
        still = (state.kinetic_energy() <= 0).nonzero().flatten().tolist()
        if still:
            raise StateError(
                f"molecule {still[0]} is at rest, and scaling cannot set it in motion: give it "
                "thermal velocities first"
            )
        return state

    @property
    def relaxation_time(self) -> float:
        """2 τ in fs."""
        return 2.0 * self.taut

    def thermalise(self, state: PhaseState, duration: float, noise: Noise) -> PhaseState:
        """Scale the velocities by the random factor that belongs to a time in fs."""
        batch, atoms, _ = state.velocities.shape
        numbers = noise(torch.Size((batch, 3 * atoms)))
        return rescale_kinetic_energy(
            state,
            state.once(f"freedom {self.fix_com}", lambda: self.degrees_of_freedom(state)),
            self.temperature_K,
            self.taut,
            duration,
            numbers,
            self.fix_com,
        )
