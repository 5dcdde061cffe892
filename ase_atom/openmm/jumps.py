"""The callback of the integrator's force: it makes the jumps and hands out their frames."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import openmm
import torch
from torch import Tensor

from ase_atom.errors import BrokenStateError, StateError
from ase_atom.openmm.potential import EnergyCallback, check_positions, positions_of
from ase_atom.openmm.program import (
    CHANGED,
    FIRST,
    LABEL,
    NOT_FINITE,
    PHASE,
    SEED,
    TEMPERATURE,
    Answer,
    Change,
    Phase,
)
from ase_atom.openmm.source import OperatorSource
from ase_atom.propagation import (
    CachedPotential,
    Ensemble,
    Guard,
    Noise,
    Step,
    Thermostat,
    advance,
    carry_on,
)
from ase_atom.state import PhaseState
from ase_atom.threads import torch_threads
from ase_atom.units import NM, NM_PS, PS

# Plain numbers compare faster than members of an enumeration, and these are met in every step.
POSITIONS, VELOCITIES, READY = int(Phase.POSITIONS), int(Phase.VELOCITIES), float(Answer.READY)

SAME_PLACE = 1e-6
"""Å within which a jump's start is a frame of the jump before, and needs no second look."""


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
    """

    ensemble: Ensemble
    timestep: float
    frames: int
    still: bool
    own_energy: bool


@dataclass(frozen=True)
class Jump:
    """The frames of a jump from its start to the grid's next point.

    Parameters
    ----------
    label
        What tells it from any other jump.
    first
        Index in the stride of its first frame.
    positions, velocities
        Å and Å/fs, ``[T, N, 3]``.
    good
        Number of frames before the first that the guard calls broken.
    start
        Where it began, after the ensemble's `enter`.
    x_shifts, v_shifts
        Differences from the start in nm and nm/ps, ``[T, N, 3]``.
    """

    label: float
    first: int
    positions: Tensor
    velocities: Tensor
    good: int
    start: PhaseState
    x_shifts: np.ndarray
    v_shifts: np.ndarray


class JumpCallback:
    """Answers of the integrator's `openmm.PythonForce`; see `program` for the questions.

    What it remembers of a jump can be computed again from what the integrator keeps. The guard's
    limits are those of the positions that it first saw, or that were set from outside since.

    Parameters
    ----------
    source
        The operator.
    numbers, masses
        Of the atoms, ``[N]``; masses in amu.
    plan
        How jumps are made.
    """

    def __init__(
        self, source: OperatorSource, numbers: np.ndarray, masses: np.ndarray, plan: Plan
    ) -> None:
        self.source, self.numbers, self.masses, self.plan = source, numbers, masses, plan
        self._raised: BaseException | None = None
        self._pending: BaseException | None = None
        self._energy = EnergyCallback(source, numbers, masses)
        self._potential: CachedPotential | None = None
        self._guard: Guard | None = None
        self._jump: Jump | None = None
        self._start_velocities: np.ndarray | None = None
        self._frame = 0  # of the positions handed out last, whose velocities are asked for next
        self._ensemble = plan.ensemble
        self._offsets = torch.arange(1, plan.frames + 1, dtype=torch.float64) * plan.timestep
        self._atoms = torch.as_tensor(numbers)[None], torch.as_tensor(masses)[None]
        self._zero = np.zeros((len(numbers), 3))

    def __reduce__(self) -> tuple:
        return JumpCallback, (self.source, self.numbers, self.masses, self.plan)

    def __deepcopy__(self, memo: dict) -> JumpCallback:
        return self  # a copied integrator goes on working with the same System's force

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Return an answer as energy and forces ``[N, 3]``, see `Phase`."""
        while True:
            try:
                return self._answer(state)
            except KeyboardInterrupt as interrupt:
                # Positions may be lent to velocities now: first the step ends or is taken back.
                self._pending = interrupt

    def take_error(self) -> BaseException | None:
        """Return what the latest step ended with, once; None if all went well."""
        error = self._raised or self._pending
        self._raised = self._pending = None
        return error

    def _answer(self, state: openmm.State) -> tuple[float, np.ndarray]:
        values = state.getParameters()
        phase = int(values[PHASE])
        if phase >= POSITIONS:
            return self._answer_positions(phase - POSITIONS, values, state)
        if phase == VELOCITIES:
            return 0.0, self._jump.v_shifts[self._frame]
        if phase == Phase.START:
            self._start_velocities = _real(state.getPositions(asNumpy=True)._value * NM_PS)
            return 0.0, self._zero
        if self._pending is not None:
            self._raised, self._pending = self._pending, None
            raise RuntimeError(str(self._raised) or "interrupted")
        return self._energy(state) if self.plan.own_energy else (0.0, self._zero)

    def _answer_positions(
        self, frame: int, values: dict, state: openmm.State
    ) -> tuple[float, np.ndarray]:
        if self._pending is not None:
            return Answer.FAILED, self._zero
        if self._jump is None or values[LABEL] != self._jump.label:
            velocities, self._start_velocities = self._start_velocities, None
            if velocities is None:
                return Answer.NEEDS_START, self._zero
            try:
                self._jump = self._make(values, _real(positions_of(state)), velocities)
            except Exception as error:
                self._pending = error
                return Answer.FAILED, self._zero
        frame -= self._jump.first
        if frame >= self._jump.good:
            now = state.getTime()._value * PS - frame * self.plan.timestep
            self._pending = self._explain(now + (self._jump.good + 1) * self.plan.timestep)
            return Answer.FAILED, self._zero
        self._frame = frame
        return READY, self._jump.x_shifts[frame]

    def _make(self, values: dict, positions: np.ndarray, velocities: np.ndarray) -> Jump:
        """Compute the frames from a start in Å and Å/fs, ``[N, 3]``, to the grid's next point."""
        plan, operator = self.plan, self.source.operator
        x, v = torch.from_numpy(positions)[None], torch.from_numpy(velocities)[None]
        start = PhaseState(*self._atoms, x, v)
        if not self._is_known(positions, velocities):
            check_positions(operator, self.numbers, self.masses, positions, velocities)
            self._watch(start)
        ensemble = self._ensemble
        if isinstance(ensemble, Thermostat) and ensemble.temperature_K != values[TEMPERATURE]:
            ensemble = self._ensemble = replace(ensemble, temperature_K=values[TEMPERATURE])
        if self._potential is None:
            self._potential = CachedPotential(operator.energy)
        if values[CHANGED] == Change.LOADED:
            warnings.warn(
                "the state that was loaded was written with other settings, and those of this "
                "integrator hold",
                stacklevel=2,
            )
        first = int(values[FIRST])
        offsets = self._offsets[: plan.frames - first]
        noise = seeded_noise(int(values[SEED]))
        step = Step(plan.frames * plan.timestep, noise, self._potential)
        with torch_threads(1), torch.inference_mode():
            if values[CHANGED]:
                start = ensemble.prepare(start.without_drift() if plan.still else start)
            if first == 0:
                start = ensemble.enter(start, step)
            elif values[CHANGED] and (left := self._left(first)) is not None:
                start = carry_on(ensemble, start, left, self._jump.start, step)
            x, v = advance(operator, ensemble, start, offsets, step, entered=True)
            good = int(self._guard.first_broken(x, v)[0])
        x_shifts = (x[0].numpy() - positions) / NM
        v_shifts = (v[0].numpy() - velocities) / NM_PS
        return Jump(values[LABEL], first, x[0], v[0], good, start, x_shifts, v_shifts)

    def _left(self, first: int) -> PhaseState | None:
        """Return what the jump before left at a step of the stride, if it is remembered."""
        jump = self._jump
        if jump is None or not 0 < first - jump.first <= len(jump.positions):
            return None
        frame = first - jump.first - 1
        return jump.start.replace(
            positions=jump.positions[frame][None], velocities=jump.velocities[frame][None]
        )

    def _is_known(self, positions: np.ndarray, velocities: np.ndarray) -> bool:
        """Say whether a start is where the jump before passed."""
        if self._jump is None or not np.isfinite(velocities).all():
            return False
        frames = self._jump.positions.numpy()
        if np.abs(frames[-1] - positions).max() < SAME_PLACE:  # as always but after a change
            return True
        return bool(np.abs(frames - positions).max(axis=(1, 2)).min() < SAME_PLACE)

    def _watch(self, start: PhaseState) -> None:
        """Take the guard's limits from a state."""
        guard = Guard.watch(start)
        if int(guard.first_broken(start.positions[:, None], start.velocities[:, None])[0]) == 0:
            raise StateError(str(guard.explain(0, 0.0, start.positions[0], start.velocities[0])))
        self._guard = guard

    def _explain(self, time: float) -> BrokenStateError:
        jump = self._jump
        return self._guard.explain(0, time, jump.positions[jump.good], jump.velocities[jump.good])


def _real(values: np.ndarray) -> np.ndarray:
    """Put back the numbers that were not finite."""
    good = np.abs(values) < 1e-3 * NOT_FINITE
    return values if good.all() else np.where(good, values, np.nan)


def seeded_noise(seed: int) -> Noise:
    """Return the noise that belongs to a jump's random number of 52 bits.

    It keys a counter-based generator, so that different ones have different streams; torch's own
    would look at 32 bits of a seed only.
    """
    generator: np.random.Generator | None = None  # made when needed: there may be no thermostat

    def draw(shape: torch.Size) -> Tensor:
        nonlocal generator
        if generator is None:
            generator = np.random.Generator(np.random.Philox(key=seed))
        return torch.from_numpy(generator.standard_normal(tuple(shape)))

    return draw
