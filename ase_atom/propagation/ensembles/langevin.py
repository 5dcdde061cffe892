"""Langevin dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ase_atom.errors.keywords import known_fields
from ase_atom.propagation.ensembles.base import Parameter, Thermostat
from ase_atom.propagation.ensembles.registry import register
from ase_atom.propagation.stochastic import Noise, ornstein_uhlenbeck
from ase_atom.state import PhaseState


@register
@known_fields
@dataclass(frozen=True)
class Langevin(Thermostat):
    """Langevin dynamics: the thermostat is the exact Ornstein-Uhlenbeck map

        v ← c v + sqrt((1 - c²) k_B T / m) ξ,  c = exp(-γ t),

    with standard normal ξ; see `Thermostat`.

    Parameters
    ----------
    temperature_K
        Temperature in K.
    friction
        Friction γ in 1/fs.
    fix_com
        Fix the centre of mass.
    energy_correction
        Also restore the angular momentum at the end of each jump and scale the vibrational
        velocities, so that the jump itself conserves both and the total energy. This costs one
        energy evaluation per jump.
    reversible
        True: as in `NVE`. None: on average, if the operator makes this jump or its usual one in
        several passes, which adds half as many
        (`ase_atom.propagation.jump_reversible_on_average`). False: never. Then the thermostat alone
        compensates what vibrations gain or lose in jumps, and their temperatures are right only if
        the friction is well above the rate of it.

    Raises
    ------
    ConfigError
        For a temperature that is not above zero, or a friction that is not or is above 0.5/fs.
    """

    name: ClassVar[str] = "langevin"
    title: ClassVar[str] = "Langevin"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "friction": Parameter("1/fs", "Langevin friction", "0.001 to 0.1", most=0.5)
    }
    reversible_by_default: ClassVar[bool | None] = None

    temperature_K: float = 300.0
    friction: float = 0.01
    fix_com: bool = True
    energy_correction: bool = True
    reversible: bool | None = None

    @property
    def relaxation_time(self) -> float:
        """1/γ in fs."""
        return 1.0 / self.friction

    def thermalise(self, state: PhaseState, duration: float, noise: Noise) -> PhaseState:
        """Apply the Ornstein-Uhlenbeck map over a time in fs."""
        kicks = noise(state.velocities.shape)
        return ornstein_uhlenbeck(
            state, self.temperature_K, self.friction, duration, kicks, self.fix_com
        )
