"""Ensembles: what happens to the velocities between two jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.propagation.conservation import restore_angular_momentum, restore_energy
from ase_atom.state import PhaseState
from ase_atom.units import thermal_speed


class OperatorLike(Protocol):
    """What propagation needs of an operator; see `ase_atom.operator.Operator`."""

    horizon: float

    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]: ...

    def energy(self, state: PhaseState) -> Tensor: ...


class Ensemble(Protocol):
    """A step is ``enter``, the operator's jump, ``leave``; ``begin`` comes once before all."""

    def begin(self, state: PhaseState, operator: OperatorLike) -> tuple[PhaseState, Conserved]:
        """Prepare the first state and measure what is to be conserved."""
        ...

    def enter(self, state: PhaseState, stride: float, generator: torch.Generator) -> PhaseState:
        """Return the state from which the operator jumps."""
        ...

    def leave(
        self,
        state: PhaseState,
        start: PhaseState,
        stride: float,
        generator: torch.Generator,
        conserved: Conserved,
        operator: OperatorLike,
    ) -> PhaseState:
        """Return the state on the next grid point from the start and the end of the jump."""
        ...

    def degrees_of_freedom(self, state: PhaseState) -> Tensor:
        """Return the number of thermal degrees of freedom N_f, ``[B]``."""
        ...

    def temperature(self, state: PhaseState) -> Tensor:
        """Return the kinetic temperature in K that goes with N_f, ``[B]``."""
        ...


@dataclass(frozen=True)
class Conserved:
    """Measured at the start of a run: amu Å²/fs ``[B, 3]`` and eV ``[B]``, None if not kept."""

    angular_momentum: Tensor | None = None
    energy: Tensor | None = None


@dataclass(frozen=True)
class NVE:
    """Microcanonical dynamics: the operator's jumps, with the momenta of the start kept.

    The operator moves the centre of mass exactly. At the end of each jump, and only there so that
    velocities inside a jump stay the derivatives of the positions, a rigid rotation restores the
    angular momentum about the centre of mass.

    N_f is 3N - 3: the centre of mass moves uniformly and is no part of the temperature.

    Parameters
    ----------
    energy_correction
        Also scale the vibrational velocities at the end of each jump so that kinetic energy plus
        `operator.energy` keeps its value at the start. One energy evaluation a jump.
    """

    energy_correction: bool = False

    def begin(self, state: PhaseState, operator: OperatorLike) -> tuple[PhaseState, Conserved]:
        """Measure angular momentum and, if it is to be kept, energy."""
        energy = None
        if self.energy_correction:
            energy = state.kinetic_energy() + operator.energy(state)
        return state, Conserved(state.angular_momentum(), energy)

    def enter(self, state: PhaseState, stride: float, generator: torch.Generator) -> PhaseState:
        """Return the state as it is."""
        return state

    def leave(
        self,
        state: PhaseState,
        start: PhaseState,
        stride: float,
        generator: torch.Generator,
        conserved: Conserved,
        operator: OperatorLike,
    ) -> PhaseState:
        """Restore the angular momentum and, if asked to, the energy."""
        if conserved.angular_momentum is not None:
            state = restore_angular_momentum(state, conserved.angular_momentum)
        if conserved.energy is not None:
            state = restore_energy(state, operator.energy(state), conserved.energy)
        return state

    def degrees_of_freedom(self, state: PhaseState) -> Tensor:
        """Return 3N - 3, ``[B]``."""
        return 3 * state.num_atoms - 3

    def temperature(self, state: PhaseState) -> Tensor:
        """Return the temperature in K of the motion about the centre of mass, ``[B]``."""
        return state.without_drift().temperature(self.degrees_of_freedom(state))


@dataclass(frozen=True)
class Langevin:
    """Canonical dynamics by the splitting O(h/2) Φ_h O(h/2).

    Φ_h is the operator's jump over a stride h and O the exact Ornstein-Uhlenbeck map

        v ← c v + sqrt((1 - c²) k_B T / m) ξ,  c = exp(-γ h/2),

    with standard normal ξ, in the manner of the splittings of Leimkuhler and Matthews (2013).
    Both parts keep the canonical distribution, so their composition does for any stride and
    friction, up to the operator's own error.

    Parameters
    ----------
    temperature_K
        Temperature in K.
    friction
        γ in 1/fs.
    fix_com
        Keep the centre of mass at rest: its part is projected out of noise and velocities, and
        N_f = 3N - 3. Otherwise it is thermostatted like the rest, and N_f = 3N. The noise is
        never rescaled to make up for the difference.
    energy_correction
        Scale the vibrational velocities at the end of each jump, before the thermostat, so that
        kinetic energy plus `operator.energy` is what it was at the jump's start. A learned jump
        loses a little energy on average, which the thermostat would otherwise have to replace at
        the price of a lower temperature. One evaluation of both energies a jump.

    Raises
    ------
    ConfigError
        For a temperature or a friction that is not above zero.
    """

    temperature_K: float = 300.0
    friction: float = 0.01
    fix_com: bool = True
    energy_correction: bool = False

    def __post_init__(self) -> None:
        if not (self.temperature_K > 0 and math.isfinite(self.temperature_K)):
            raise ConfigError(f"the temperature must be above 0 K, not {self.temperature_K:g}")
        if not (self.friction > 0 and math.isfinite(self.friction)):
            raise ConfigError(
                f"the friction must be above zero, not {self.friction:g} per fs; "
                "without friction the ensemble is NVE"
            )

    def begin(self, state: PhaseState, operator: OperatorLike) -> tuple[PhaseState, Conserved]:
        """Bring the centre of mass to rest if it is to be fixed."""
        return (state.without_drift() if self.fix_com else state), Conserved()

    def enter(self, state: PhaseState, stride: float, generator: torch.Generator) -> PhaseState:
        """Apply O(h/2) before the jump."""
        return self._half_step(state, stride, generator)

    def leave(
        self,
        state: PhaseState,
        start: PhaseState,
        stride: float,
        generator: torch.Generator,
        conserved: Conserved,
        operator: OperatorLike,
    ) -> PhaseState:
        """Restore the energy of the jump if asked to, and apply O(h/2)."""
        if self.energy_correction:
            before, after = operator.energy(PhaseState.cat([start, state])).chunk(2)
            state = restore_energy(state, after, before + start.kinetic_energy())
        return self._half_step(state, stride, generator)

    def degrees_of_freedom(self, state: PhaseState) -> Tensor:
        """Return 3N - 3 with a fixed centre of mass, else 3N, ``[B]``."""
        return 3 * state.num_atoms - (3 if self.fix_com else 0)

    def temperature(self, state: PhaseState) -> Tensor:
        """Return the kinetic temperature in K that goes with N_f, ``[B]``."""
        moving = state.without_drift() if self.fix_com else state
        return moving.temperature(self.degrees_of_freedom(state))

    def _half_step(
        self, state: PhaseState, stride: float, generator: torch.Generator
    ) -> PhaseState:
        noise = standard_normal(state, generator)
        state = ornstein_uhlenbeck(state, self.temperature_K, self.friction, 0.5 * stride, noise)
        return state.without_drift() if self.fix_com else state


def ornstein_uhlenbeck(
    state: PhaseState, temperature: float, friction: float, duration: float, noise: Tensor
) -> PhaseState:
    """Apply the exact Ornstein-Uhlenbeck map to the velocities.

    Parameters
    ----------
    state
        The molecules.
    temperature
        K.
    friction
        1/fs.
    duration
        fs.
    noise
        Standard normal numbers, ``[B, N, 3]``.
    """
    keep = math.exp(-friction * duration)
    strength = math.sqrt(-math.expm1(-2.0 * friction * duration))  # sqrt(1 - keep²), exactly
    kick = strength * _speeds(state, temperature) * noise
    return state.replace(velocities=keep * state.velocities + kick)


def sample_velocities(
    state: PhaseState, temperature: float, generator: torch.Generator, fix_com: bool = True
) -> PhaseState:
    """Draw velocities from the Maxwell-Boltzmann distribution.

    Parameters
    ----------
    state
        The molecules, whose velocities are replaced.
    temperature
        K.
    generator
        Source of the random numbers, on the CPU.
    fix_com
        Take the centre of mass's part out, which leaves the other 3N - 3 degrees of freedom at
        the temperature.
    """
    velocities = _speeds(state, temperature) * standard_normal(state, generator)
    state = state.replace(velocities=velocities)
    return state.without_drift() if fix_com else state


def standard_normal(state: PhaseState, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers ``[B, N, 3]``, in float64 on the CPU whatever the state's type.

    So a seed gives the same noise on every device.
    """
    noise = torch.randn(state.velocities.shape, generator=generator, dtype=torch.float64)
    return noise.to(device=state.device, dtype=state.dtype)


def _speeds(state: PhaseState, temperature: float) -> Tensor:
    """Return thermal speeds in Å/fs, ``[B, N, 1]``, zero on padding."""
    mask = state.mask
    safe = torch.where(mask, state.masses, torch.ones_like(state.masses))
    return (thermal_speed(safe, temperature) * mask).unsqueeze(-1)
