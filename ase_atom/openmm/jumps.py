"""The callback of the integrator's force: it makes the jumps and hands out their frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.errors.warning import warn
from ase_atom.openmm.molecule import Molecule, positions_of
from ase_atom.openmm.plan import Plan
from ase_atom.openmm.potential import EnergyCallback
from ase_atom.openmm.program import (
    CHANGED,
    FIRST,
    LABEL,
    NOT_FINITE,
    NUMBER,
    PHASE,
    SEED,
    TEMPERATURE,
    Answer,
    Change,
    Phase,
)
from ase_atom.openmm.source import OperatorSource
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import Noise, Path, Thermostat, look_ahead
from ase_atom.propagation.leaps import LeapPath, LeapTally
from ase_atom.state import PhaseState
from ase_atom.units import NM, NM_PS, PS

Array = NDArray[np.float64]

# Plain numbers compare faster than members of an enumeration, and these are met in every step.
POSITIONS, VELOCITIES, CATCH_UP = int(Phase.POSITIONS), int(Phase.VELOCITIES), int(Phase.CATCH_UP)
READY = float(Answer.READY)

SAME_PLACE = 1e-6
"""Å within which a jump's start is a frame of the jump before, and needs no second look."""


@dataclass(frozen=True)
class Shifts:
    """The frames of the jump under way, as differences from its start.

    Parameters
    ----------
    label
        What tells the jump from any other.
    first
        Index in the stride of its first frame.
    good
        Number of frames before the first that the guard calls broken.
    x, v
        nm and nm/ps, ``[T, N, 3]``.
    path
        Where they are from.
    """

    label: float
    first: int
    good: int
    x: Array
    v: Array
    path: Path


class JumpCallback:
    """Answers of the integrator's `openmm.PythonForce`; see `program` for the questions.

    What it remembers of a jump can be computed again from what the integrator keeps. The guard's
    limits are those of the positions that it first saw, or that were set from outside since.

    Parameters
    ----------
    source
        The operator.
    molecule
        What it moves.
    plan
        How jumps are made.
    """

    def __init__(self, source: OperatorSource, molecule: Molecule, plan: Plan) -> None:
        self.source, self.molecule, self.plan = source, molecule, plan
        self._raised: BaseException | None = None
        self._pending: BaseException | None = None
        self._energy = EnergyCallback(source, molecule)
        self._path: Path | None = None
        self._shifts: Shifts | None = None
        self._start_velocities: Array | None = None
        self._frame = 0  # of the positions handed out last, whose velocities are asked for next
        self._zero = np.zeros((len(molecule.numbers), 3))
        self._noise = KeyedNoise()

    def __reduce__(self) -> tuple[Any, ...]:
        return JumpCallback, (self.source, self.molecule, self.plan)

    def __deepcopy__(self, memo: dict[int, Any]) -> JumpCallback:
        return self  # a copied integrator goes on working with the same System's force

    def __call__(self, state: openmm.State) -> tuple[float, Array]:
        """Return an answer as energy and forces ``[N, 3]``, see `Phase`."""
        while True:
            try:
                return self._answer(state)
            except KeyboardInterrupt as interrupt:
                # Positions may be lent to velocities now: first the step ends or is taken back.
                self._pending = interrupt

    @property
    def tally(self) -> LeapTally | None:
        """What leaps came to; None of jumps, or before the first leap."""
        return self._path.leaping.tally if isinstance(self._path, LeapPath) else None

    def take_error(self) -> BaseException | None:
        """Return what the latest step ended with, once; None if all went well."""
        error = self._raised or self._pending
        self._raised = self._pending = None
        return error

    def _answer(self, state: openmm.State) -> tuple[float, Array]:
        values = state.getParameters()
        phase = int(values[PHASE])
        if phase >= POSITIONS:
            return self._answer_positions(phase - POSITIONS, values, state)
        if phase <= CATCH_UP:
            assert self._shifts is not None  # there were frames to pass over
            self._frame = CATCH_UP - phase - self._shifts.first
            return 0.0, self._shifts.x[self._frame]
        if phase == VELOCITIES:
            assert self._shifts is not None  # positions were asked for first
            return 0.0, self._shifts.v[self._frame]
        if phase == Phase.START:
            self._start_velocities = _real(state.getPositions(asNumpy=True)._value * NM_PS)
            return 0.0, self._zero
        if self._pending is not None:
            self._raised, self._pending = self._pending, None
            raise RuntimeError(str(self._raised) or "interrupted")
        return self._energy(state) if self.plan.own_energy else (0.0, self._zero)

    def _answer_positions(
        self, frame: int, values: dict[str, float], state: openmm.State
    ) -> tuple[float, Array]:
        if self._pending is not None:
            return Answer.FAILED, self._zero
        shifts = self._shifts
        if shifts is None or values[LABEL] != shifts.label:
            velocities, self._start_velocities = self._start_velocities, None
            if velocities is None:
                return Answer.NEEDS_START, self._zero
            try:
                self._shifts = shifts = self._jump(values, _real(positions_of(state)), velocities)
            except Exception as error:
                self._pending = error
                return Answer.FAILED, self._zero
        frame -= shifts.first
        if frame >= shifts.good:
            late = frame - shifts.good - 1  # the state's time is that before the step
            time = state.getTime()._value * PS - late * self.plan.timestep
            self._pending = shifts.path.broken(time)
            return Answer.FAILED, self._zero
        self._frame = frame
        return READY + shifts.first + shifts.good, shifts.x[frame]

    @own_torch(1)
    @torch.no_grad()
    def _jump(self, values: dict[str, float], positions: Array, velocities: Array) -> Shifts:
        """Jump from a start in Å and Å/fs, ``[N, 3]``, to the grid's next point."""
        start = self.molecule.state(positions, velocities)
        changed, first = int(values[CHANGED]), int(values[FIRST])
        path = self._path_for(start, values[TEMPERATURE])
        if changed:
            self.molecule.check_start(path.operator, path.ensemble, start)
        if changed == Change.LOADED:
            warn("the loaded state was written with other settings; this integrator uses its own")
        if changed and self.plan.still:
            start = start.without_drift()
        path.steps = int(values[NUMBER]) * self.plan.frames + first  # a state may have been loaded
        path.begin(start, self._noise.of(int(values[SEED])), place=first, changed=bool(changed))
        x_shifts = (path.positions.numpy() - positions) / NM
        v_shifts = (path.velocities.numpy() - velocities) / NM_PS
        return Shifts(values[LABEL], first, path.good, x_shifts, v_shifts, path)

    def _path_for(self, start: PhaseState, temperature: float) -> Path:
        """Return the path that goes on from a start, at the thermostat's temperature in K."""
        plan, operator, path = self.plan, self.source.operator, self._path
        known = path is not None and self._is_known(path, start)
        if not known:
            self.molecule.check(operator, start.positions[0].numpy(), start.velocities[0].numpy())
        if path is None:
            if not plan.leaps:
                stride = plan.frames * plan.timestep
                look_ahead(operator, start, plan.ensemble, stride, plan.accept_error)
            kind = LeapPath if plan.leaps else Path
            path = kind(operator, plan.ensemble, start, plan.timestep, plan.frames, threads=1)
            self._path = path
        elif not known:
            path.watch(start)
        ensemble = path.ensemble
        if isinstance(ensemble, Thermostat) and ensemble.temperature_K != temperature:
            path.ensemble = replace(cast(Any, ensemble), temperature_K=temperature)
        return path

    @staticmethod
    def _is_known(path: Path, start: PhaseState) -> bool:
        """Say whether a start is where the jump before passed."""
        x, v = start.positions.numpy(), start.velocities.numpy()
        if path.start is None or not np.isfinite(v).all():
            return False
        frames = path.positions.numpy()
        if np.abs(frames[-1] - x[0]).max() < SAME_PLACE:  # as always but after a change
            return True
        return bool(np.abs(frames - x).max((1, 2)).min() < SAME_PLACE)


def _real(values: Array) -> Array:
    """Put back the numbers that were not finite."""
    good = np.abs(values) < 1e-3 * NOT_FINITE
    return values if good.all() else np.where(good, values, np.nan)


class KeyedNoise:
    """Standard normal numbers that belong to a jump's random number of 52 bits.

    It keys a counter-based generator, so that different ones have different streams; torch's own
    would look at 32 bits of a seed only. One generator is set anew for each key, as making one
    takes ten times as long.
    """

    def __init__(self) -> None:
        self._source = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._source)
        self._start = self._source.state

    def of(self, key: int) -> Noise:
        """Return the stream of a key from its beginning; the stream before is no more."""
        self._start["state"]["key"][:] = key, 0
        self._source.state = self._start
        return self._draw

    def _draw(self, shape: torch.Size) -> Tensor:
        return torch.from_numpy(self._generator.standard_normal(tuple(shape)))
