"""Ensembles: what happens to the velocities between two jumps.

An ensemble remembers nothing from one jump to the next: all that a step keeps, it keeps from the
start of its own jump. So a run can be cut, continued and resumed at any point of the grid.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ase_atom.errors import ConfigError, StateError
from ase_atom.propagation.conservation import restore_angular_momentum, restore_energy
from ase_atom.propagation.stochastic import Noise, ornstein_uhlenbeck, rescale_kinetic_energy
from ase_atom.state import PhaseState
from ase_atom.torch_settings import users_torch

Potential = Callable[[PhaseState], Tensor]
"""Gives potential energies in eV, ``[B]``."""


@dataclass(frozen=True)
class Step:
    """What an ensemble needs for one step.

    Parameters
    ----------
    stride
        Distance of the points of the grid in fs.
    noise
        Source of standard normal numbers.
    potential
        Potential energy, asked for by ensembles with ``energy_correction`` at the start and the
        end of each jump; see `CachedPotential`.
    """

    stride: float
    noise: Noise
    potential: Potential


class CachedPotential:
    """A potential that remembers its latest answer.

    Between the end of a jump and the start of the next only velocities change, so the second
    question has the answer of the first. A potential is code of a caller's own, and finds torch as
    the caller set it.
    """

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._asked: PhaseState | None = None
        self._answer = torch.empty(0)

    def __call__(self, state: PhaseState) -> Tensor:
        """Return potential energies in eV, ``[B]``, computing only those of moved molecules."""
        last = self._asked
        if last is None or not torch.equal(last.numbers, state.numbers):
            self._answer = self._ask(state)
        else:
            moved = (last.positions != state.positions).flatten(1).any(dim=1)
            if bool(moved.all()):
                self._answer = self._ask(state)
            elif bool(moved.any()):
                self._answer = self._answer.clone()
                self._answer[moved] = self._ask(state.select(moved.nonzero().flatten()))
        self._asked = state
        return self._answer

    def _ask(self, state: PhaseState) -> Tensor:
        with users_torch():
            return self._potential(state).detach()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the latest answer and the positions that it belongs to; nothing before the first.

        A potential that is computed anew for another number of molecules differs in its last bits,
        so a run that is to go on exactly takes its answer along.
        """
        if self._asked is None:
            return {}
        return {"positions": self._asked.positions, "energies": self._answer}

    def load_state_dict(self, saved: Mapping[str, Tensor], state: PhaseState) -> None:
        """Take back a latest answer, for the molecules of a state."""
        if saved:
            self._asked = state.replace(positions=saved["positions"])
            self._answer = saved["energies"]


class Ensemble(Protocol):
    """A step is ``enter``, the operator's jump, ``leave``; ``prepare`` comes once before all.

    Attributes
    ----------
    reversible
        Whether jumps are made reversible in time, see `ase_atom.propagation.reversible_jump`.
    """

    @property
    def reversible(self) -> bool: ...

    def prepare(self, state: PhaseState) -> PhaseState:
        """Return the first state, with what the ensemble does not allow taken out."""
        ...

    def enter(self, state: PhaseState, step: Step) -> PhaseState:
        """Return the state from which the operator jumps."""
        ...

    def conserve(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Return a state on a jump's path with what a jump is to keep brought to its start's."""
        ...

    def leave(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Return the state on the next grid point from the end and the start of the jump."""
        ...

    def degrees_of_freedom(self, state: PhaseState) -> Tensor:
        """Return the number of thermal degrees of freedom N_f, ``[B]``."""
        ...

    def temperature(self, state: PhaseState) -> Tensor:
        """Return the kinetic temperature in K that goes with N_f, ``[B]``."""
        ...


def keep_energy(end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
    """Scale the vibrational velocities of a jump's end so that its total energy is the start's."""
    before = step.potential(start)
    return restore_energy(end, step.potential(end), before + start.kinetic_energy())


@dataclass(frozen=True)
class NVE:
    """Microcanonical dynamics: the operator's jumps, with both momenta kept.

    The operator moves the centre of mass exactly. At the end of each jump, and only there so that
    velocities inside a jump stay the derivatives of the positions, a rigid rotation restores the
    angular momentum about the centre of mass.

    N_f is 3N - 3: the centre of mass moves uniformly and is no part of the temperature.

    Parameters
    ----------
    energy_correction
        Also scale the vibrational velocities at the end of each jump so that kinetic plus
        potential energy is kept. One energy evaluation a jump.
    reversible
        Make jumps reversible in time, which takes three passes of the operator instead of one:
        an operator's error then neither feeds nor drains any vibration on average.
    """

    energy_correction: bool = False
    reversible: bool = False

    def prepare(self, state: PhaseState) -> PhaseState:
        """Return the state as it is."""
        return state

    def enter(self, state: PhaseState, step: Step) -> PhaseState:
        """Return the state as it is."""
        return state

    def conserve(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Restore the angular momentum and, if asked to, the energy."""
        end = restore_angular_momentum(end, start.angular_momentum())
        return keep_energy(end, start, step) if self.energy_correction else end

    def leave(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Restore the angular momentum and, if asked to, the energy."""
        return self.conserve(end, start, step)

    def degrees_of_freedom(self, state: PhaseState) -> Tensor:
        """Return 3N - 3, ``[B]``."""
        return 3 * state.num_atoms - 3

    def temperature(self, state: PhaseState) -> Tensor:
        """Return the temperature in K of the motion about the centre of mass, ``[B]``."""
        return state.without_drift().temperature(self.degrees_of_freedom(state))


class Thermostat(ABC):
    """Canonical dynamics by the splitting T(h/2) Φ_h T(h/2).

    Φ_h is the operator's jump over a stride h and T a map of the velocities that keeps the
    canonical distribution, in the manner of the splittings of Leimkuhler and Matthews (2013). Both
    parts keep it, so their composition does for any stride, up to the operator's own error.

    By default the centre of mass is fixed: its part is projected out of noise and velocities, and
    temperatures count N_f = 3N - 3 degrees of freedom. Otherwise it is free and N_f = 3N. Noise is
    never rescaled to make up for a fixed centre of mass.
    """

    temperature_K: float
    fix_com: bool
    energy_correction: bool
    reversible: bool

    def __post_init__(self) -> None:
        if not (self.temperature_K > 0 and math.isfinite(self.temperature_K)):
            raise ConfigError(f"the temperature must be above 0 K, not {self.temperature_K:g}")

    @abstractmethod
    def thermalise(self, state: PhaseState, duration: float, noise: Noise) -> PhaseState:
        """Apply the thermostat's map T over a time in fs, and hold the centre of mass if fixed."""

    def prepare(self, state: PhaseState) -> PhaseState:
        """Bring the centre of mass to rest if it is to be fixed."""
        return state.without_drift() if self.fix_com else state

    def enter(self, state: PhaseState, step: Step) -> PhaseState:
        """Apply T(h/2) before the jump."""
        return self.thermalise(state, 0.5 * step.stride, step.noise)

    def conserve(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Restore the energy if asked to."""
        return keep_energy(end, start, step) if self.energy_correction else end

    def leave(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Restore what the jump is to keep, and apply T(h/2)."""
        end = self.conserve(end, start, step)
        return self.thermalise(end, 0.5 * step.stride, step.noise)

    def degrees_of_freedom(self, state: PhaseState) -> Tensor:
        """Return 3N - 3 with a fixed centre of mass, else 3N, ``[B]``."""
        return 3 * state.num_atoms - (3 if self.fix_com else 0)

    def temperature(self, state: PhaseState) -> Tensor:
        """Return the kinetic temperature in K that goes with N_f, ``[B]``."""
        moving = state.without_drift() if self.fix_com else state
        return moving.temperature(self.degrees_of_freedom(state))


@dataclass(frozen=True)
class Langevin(Thermostat):
    """Langevin dynamics: the thermostat is the exact Ornstein-Uhlenbeck map

        v ← c v + sqrt((1 - c²) k_B T / m) ξ,  c = exp(-γ t),

    with standard normal ξ; see `Thermostat`.

    Parameters
    ----------
    temperature_K
        K.
    friction
        γ in 1/fs.
    fix_com
        Keep the centre of mass where it is.
    energy_correction
        Also scale the vibrational velocities at the end of each jump so that the jump itself
        keeps the total energy. One energy evaluation a jump.
    reversible
        As in `NVE`. The thermostat itself makes up for what vibrations lose, as long as the
        friction is well above the rate of the loss.

    Raises
    ------
    ConfigError
        For a temperature or a friction that is not above zero.
    """

    temperature_K: float = 300.0
    friction: float = 0.01
    fix_com: bool = True
    energy_correction: bool = False
    reversible: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.friction > 0 and math.isfinite(self.friction)):
            raise ConfigError(
                f"the friction must be above zero, not {self.friction:g} per fs; "
                "without friction the ensemble is NVE"
            )

    def thermalise(self, state: PhaseState, duration: float, noise: Noise) -> PhaseState:
        """Apply the Ornstein-Uhlenbeck map over a time in fs."""
        kicks = noise(state.velocities.shape).to(state.velocities)
        state = ornstein_uhlenbeck(state, self.temperature_K, self.friction, duration, kicks)
        return state.without_drift() if self.fix_com else state


@dataclass(frozen=True)
class Bussi(Thermostat):
    """Stochastic velocity rescaling (Bussi, Donadio and Parrinello 2007); see `Thermostat`.

    All velocities are scaled by one random factor, so the thermostat disturbs the dynamics least.
    The angular momentum of an isolated molecule changes in size only: the operator's jumps keep
    it, and at the end of each a rigid rotation makes sure.

    Parameters
    ----------
    temperature_K
        K.
    taut
        Relaxation time τ in fs.
    fix_com
        Keep the centre of mass where it is.
    energy_correction
        As in `Langevin`.
    reversible
        As in `NVE`: one factor for all velocities cannot give back what single vibrations lose.

    Raises
    ------
    ConfigError
        For a temperature or a relaxation time that is not above zero.
    """

    temperature_K: float = 300.0
    taut: float = 100.0
    fix_com: bool = True
    energy_correction: bool = False
    reversible: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.taut > 0 and math.isfinite(self.taut)):
            raise ConfigError(f"the relaxation time must be above 0 fs, not {self.taut:g} fs")

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

    def conserve(self, end: PhaseState, start: PhaseState, step: Step) -> PhaseState:
        """Restore the angular momentum and, if asked to, the energy."""
        end = restore_angular_momentum(end, start.angular_momentum())
        return super().conserve(end, start, step)

    def thermalise(self, state: PhaseState, duration: float, noise: Noise) -> PhaseState:
        """Scale the velocities by the random factor that belongs to a time in fs."""
        if self.fix_com:
            state = state.without_drift()
        numbers = noise(torch.Size((state.batch_size, state.velocities[0].numel())))
        return rescale_kinetic_energy(
            state,
            self.degrees_of_freedom(state),
            self.temperature_K,
            self.taut,
            duration,
            numbers.to(state.velocities),
        )
