"""Ensembles: what happens to the velocities between two jumps.

An ensemble remembers nothing from one jump to the next: all that a step keeps, it keeps from the
start of its own jump. So a run can be cut, continued and resumed at any point of the grid.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.errors.values import check_flag
from ase_atom.operator.base import Operator
from ase_atom.operator.engine.runtime import OnnxEngine
from ase_atom.operator.torch_settings import users_torch
from ase_atom.propagation.mechanics import Array, Bodies, array, tensor
from ase_atom.propagation.stochastic import Noise
from ase_atom.state import PhaseState

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
    number
        Of the stride in the run, from 0.
    """

    stride: float
    noise: Noise
    potential: Potential
    number: int = 0


class CachedPotential:
    """A potential that remembers its latest answer.

    Between the end of a jump and the start of the next only velocities change, so the second
    question has the answer of the first. A potential is code of a caller's own, and finds torch as
    the caller set it.
    """

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        # An operator of the package sees to torch itself: no need to go out and come in again.
        self._owner = owner = getattr(potential, "__self__", None)
        self._settings = nullcontext if isinstance(owner, Operator | OnnxEngine) else users_torch
        self._asked: PhaseState | None = None
        self._answer = torch.empty(0)

    def __call__(self, state: PhaseState) -> Tensor:
        """Return potential energies in eV, ``[B]``, computing only those of moved molecules."""
        last = self._asked
        if last is None or not _same(last.numbers, state.numbers):
            self._answer = self.aside(state)
        elif last.positions is not state.positions:
            before, now = array(last.positions), array(state.positions)
            if not np.array_equal(before, now):
                self._answer_moved(state, (before != now).any((1, 2)))
        self._asked = state
        return self._answer

    def _answer_moved(self, state: PhaseState, moved: Array) -> None:
        if moved.all():
            self._answer = self.aside(state)
            return
        rows = torch.from_numpy(moved.nonzero()[0]).to(state.device)
        self._answer = self._answer.clone()
        self._answer[rows] = self.aside(state.select(rows))

    def aside(self, state: PhaseState) -> Tensor:
        """Return potential energies in eV, ``[B]``, computed anew and not remembered."""
        with self._settings():
            return self._potential(state).detach()

    def is_of(self, operator: object) -> bool:
        """Whether the energy is the operator's own, not a calculator's."""
        return self._owner is operator

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


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or torch.equal(one, other)


@dataclass(frozen=True)
class Parameter:
    """A setting that one ensemble has and others do not.

    Parameters
    ----------
    unit
        What it is measured in: front ends take it in their own units, the ensemble in these.
    about
        What it is, for help texts.
    usual
        The range that makes sense for molecules, for messages.
    least, most
        Values outside cannot be meant, and are refused.
    """

    unit: Literal["fs", "1/fs"]
    about: str
    usual: str
    least: float = 0.0
    most: float = math.inf

    def check(self, name: str, value: float) -> float:
        """Return a value that can be meant.

        Raises
        ------
        ConfigError
            For one that is not above zero, or in another unit by all likelihood.
        """
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name} must be above 0 {self.unit}, not {value:g} {self.unit}")
        if not self.least <= value <= self.most:
            raise ConfigError(
                f"{name} cannot be {value:g} {self.unit}: for molecules it is {self.usual} "
                f"{self.unit}; check its unit"
            )
        return value


class Ensemble(Protocol):
    """A step is ``enter``, the operator's jump, ``leave``; ``prepare`` comes once before all.

    Attributes
    ----------
    name
        By which it is chosen, as in ``--ensemble``.
    title
        What it is called in sentences.
    parameters
        Settings that it has beside those of all ensembles, by name.
    reversible_by_default
        What ``reversible`` is where nobody says.
    keeps_momentum
        Whether the angular momentum is kept over each jump.
    reversible
        Whether jumps are, see `ase_atom.propagation.reversible_jump`; None for jumps that are so on
        average, see `ase_atom.propagation.jump_reversible_on_average`.
    energy_correction
        Whether the total energy is kept over each jump.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    parameters: ClassVar[Mapping[str, Parameter]]
    reversible_by_default: ClassVar[bool | None]

    @property
    def keeps_momentum(self) -> bool: ...

    @property
    def reversible(self) -> bool | None: ...

    @property
    def energy_correction(self) -> bool: ...

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


def keep(
    end: PhaseState, start: PhaseState, step: Step, *, energy: bool, momentum: bool
) -> PhaseState:
    """Return a jump's end with the energy and angular momentum of its start.

    The angular momentum about the centre of mass by `conservation.restore_angular_momentum`, then
    the total energy by `conservation.restore_energy`, each only if asked for.
    """
    if not (energy or momentum):
        return end
    gain = array(step.potential(start)) - array(step.potential(end)) if energy else None
    x, v, x0, v0 = map(array, (end.positions, end.velocities, start.positions, start.velocities))
    v = Bodies.of(end).kept(x, v, x0, v0, gain, momentum)
    return end.replace(velocities=tensor(v, end.velocities))


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
    reversible: bool | None
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    # Those that derive from it are dataclasses, to be copied by `dataclasses.replace`.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __post_init__(self) -> None:
        for name in ("fix_com", "energy_correction"):
            check_flag(name, getattr(self, name))
        check_flag("reversible", self.reversible, or_none=True)
        if not (self.temperature_K > 0 and math.isfinite(self.temperature_K)):
            raise ConfigError(f"the temperature must be above 0 K, not {self.temperature_K:g}")
        for name, parameter in self.parameters.items():
            parameter.check(name, getattr(self, name))

    @property
    def keeps_momentum(self) -> bool:
        """With the energy, since scaling vibrations does not return what a rotation lost."""
        return self.energy_correction

    @property
    @abstractmethod
    def relaxation_time(self) -> float:
        """Time in fs after which the total energy has come nearer to its mean by a factor of e.

        Of harmonic vibrations, half of whose energy is kinetic.
        """

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
        """Restore the angular momentum and the energy, if asked to."""
        return keep(end, start, step, energy=self.energy_correction, momentum=self.keeps_momentum)

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
