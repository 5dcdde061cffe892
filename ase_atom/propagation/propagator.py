"""Marching a state by jumps of an operator, with frames at any interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ase_atom.errors import (
    BrokenStateError,
    ConfigError,
    FallbackError,
    HorizonError,
    StateError,
)
from ase_atom.errors.keywords import known_keywords
from ase_atom.errors.warning import warn
from ase_atom.io.guard import reading
from ase_atom.molecules.coverage import check_state
from ase_atom.operator.protocol import OperatorLike, check_operator
from ase_atom.operator.torch_settings import own_torch, without_gradients
from ase_atom.propagation.adaptive import Adaptive, refuse_leaps
from ase_atom.propagation.bodies import with_bodies
from ase_atom.propagation.cold_start import cold_start
from ase_atom.propagation.ensembles import NVE, CachedPotential, Ensemble, Potential, Step
from ase_atom.propagation.frames import Frames, Schedule, exact
from ase_atom.propagation.grid import check_time
from ase_atom.propagation.guard import Guard
from ase_atom.propagation.jumps import choose
from ase_atom.propagation.leaps import Leaping, check_leap, is_leap
from ase_atom.propagation.mechanics import array, tensor
from ase_atom.propagation.settings import check_abilities, default_stride
from ase_atom.propagation.steps import advance
from ase_atom.propagation.stepwise import suited
from ase_atom.propagation.stochastic import Noise, SerialisableNoise, torch_noise
from ase_atom.sending import Sendable
from ase_atom.state import PhaseState

SIMPLE = 10**4
"""Largest denominator of a fraction that one grid is of another."""

ROUNDING = Fraction(1, 10**9)

_PENDING = ("times", "positions", "velocities", "valid", "expected", "strides")


class Propagator(Sendable):
    """Simulate a batch of molecules by chained jumps.

    Jumps are at times k·stride, and frames at times n·frame_interval, from the start of the run.
    Both grids are independent of how the run is divided into calls of `run`, and neither has to be
    a multiple of the other. A frame on the grid of jumps is the state after the full step of the
    ensemble. Other frames are on the path of the jump.

    Elements, masses and charges are checked against the operator's card. `ase_atom.operator_for`
    checks that the molecule is isolated and that the operator was trained for it.

    Parameters
    ----------
    operator
        An `ase_atom.operator.Operator`, or another object with the interface `OperatorLike`.
    state
        The molecules, ``[B, N]``. Each is a replica with different noise.
    ensemble
        `NVE`, by default, `Langevin`, `Bussi`, or another of `ase_atom.propagation.ensembles`.
        Energy correction and reversible jumps have the same defaults as in `ase-atom run`.
    stride
        Length of a jump in fs; the operator's recommendation by default, see `default_stride`.
        One beyond the horizon and of at least 0.5 ps is that of leaps, see
        `ase_atom.propagation.leaps`.
    frame_interval
        Time between frames in fs; the stride by default.
    seed
        Seed of the ensemble's noise, or its source.
    drop_broken
        Continue without replicas that break (see `Guard`) and list them in `broken`, instead of
        stopping at the first.
    potential
        Function for the potential energy in eV, ``[B]``, which ensembles with
        ``energy_correction`` use; the operator's own by default.
    guard
        Decides when a molecule is broken; by default from its distances in ``state``.
    adaptive
        Divides strides where jumps err too much, see `Adaptive`.

    Attributes
    ----------
    state
        The state at the end of the last complete jump. A broken replica keeps its last good state.
    broken
        One `BrokenStateError` for each broken replica.
    frames_given
        Number of frames handed out so far.
    leaping
        What leaps, and counts the samples that it draws again; None where the stride is a jump's.

    Raises
    ------
    ConfigError
        For a stride or a frame interval that is not above zero, or an object that is not an
        operator.
    HorizonError
        For a stride beyond the operator's horizon.
    CoverageError
        For an element, a mass or a charge that the operator was not trained for.
    StateError
        For a state that is broken before the first jump.
    """

    @known_keywords()
    @own_torch()
    def __init__(
        self,
        operator: OperatorLike,
        state: PhaseState,
        ensemble: Ensemble | None = None,
        stride: float | None = None,
        frame_interval: float | None = None,
        seed: int | Noise = 0,
        drop_broken: bool = False,
        potential: Potential | None = None,
        guard: Guard | None = None,
        adaptive: Adaptive | None = None,
    ) -> None:
        check_operator(operator)
        stride = default_stride(operator) if stride is None else stride
        frame_interval = stride if frame_interval is None else frame_interval
        check_time("stride", stride)
        check_time("frame interval", frame_interval)
        grids = {"stride": stride, "frame interval": frame_interval}
        self.ensemble = suited(NVE() if ensemble is None else ensemble, operator, grids, potential)
        leaping = is_leap(operator, stride)
        if leaping:
            check_leap(operator, self.ensemble, stride, frame_interval)
            refuse_leaps(adaptive)
        elif stride > operator.horizon:
            raise HorizonError(
                f"a stride of {stride:g} fs lies beyond the operator's horizon of "
                f"{operator.horizon:g} fs"
            )
        if operator.card is not None:
            check_state(state, operator.card)
        self.operator = operator
        check_abilities(operator, self.ensemble.energy_correction and potential is None)
        self.drop_broken, self.adaptive = drop_broken, adaptive
        if adaptive is not None:
            adaptive.check(operator, self.ensemble, state)
        self.broken: list[BrokenStateError] = []
        self.frames_given = 0
        self._stride = exact(stride)
        self._interval = _on_grid(exact(frame_interval), self._stride)
        self._schedule = Schedule(self._stride, self._interval)
        self._potential = CachedPotential(operator.energy if potential is None else potential)
        self._noise = seed if callable(seed) else torch_noise(seed)
        self._step_of_grid = Step(stride, self._noise, self._potential)
        self.state = self.ensemble.prepare(with_bodies(state, operator.engine))
        self._guard = Guard.watch(self.state) if guard is None else guard
        self.leaping = (
            Leaping(operator, self.ensemble, stride, self.state, self._guard) if leaping else None
        )
        self._alive = torch.ones(state.batch_size, dtype=torch.bool)
        self._end = Fraction(0)
        self._jumps = 0
        self._failure: FallbackError | None = None
        self._pending = Frames.single(self.state)
        self._mark_broken(self._pending)
        if self.broken:
            raise StateError(str(self.broken[0]))

    @property
    def time(self) -> float:
        """Time in fs up to which `run` was asked for frames."""
        return float(self._end)

    @property
    def jumps(self) -> int:
        """Number of jumps made."""
        return self._jumps

    @property
    def has_failed(self) -> bool:
        """Whether a calculator failed inside a jump, of which some frames are there."""
        return self._failure is not None

    def run(self, duration: float) -> Iterator[Frames]:
        """Go on for a time, yielding frames as they come; the first call starts with frame 0.

        Runs of 10 fs and 6 fs give the frames of one of 16 fs, to the last bit.

        Parameters
        ----------
        duration
            fs.

        Yields
        ------
        Frames
            Those of one jump or part of one, never none.

        Raises
        ------
        ConfigError
            For a duration that is not above zero.
        BrokenStateError
            Once a replica is broken (with `drop_broken`: once all are), after every good frame
            before has been yielded.
        FallbackError
            Once the calculator to fall back on has failed, after every frame before.
        """
        if not (math.isfinite(duration) and duration > 0):
            raise ConfigError(f"the time must be above 0 fs, not {duration:g} fs")
        if not self.frames_given and (cold := cold_start(self.operator, self.ensemble, self.state)):
            warn(cold)
        self._end = _on_grid(self._end + exact(duration), self._interval)
        return self._march()

    def go_on(self) -> Iterator[Frames]:
        """Go on to `time`, the end that runs have been asked for, with the frames not yet given.

        For a run that was cut short: by whoever took its frames, or by the end of the process whose
        state was loaded here. Frames and errors are those of `run`.
        """
        return self._march()

    def state_dict(self) -> dict[str, Any]:
        """Return all that another propagator of the same settings needs to go on from here.

        Tensors and plain values in nested dictionaries, which `ase_atom.propagation.restart`
        writes to a file. What the loaded propagator gives is what this one would have given, to
        the last bit, on the same machine and with as many threads.

        Raises
        ------
        ConfigError
            If the source of noise cannot tell its state.
        """
        noise = self._keepable_noise()
        return {
            "settings": self._settings(),
            "numbers": self.state.numbers,
            "masses": self.state.masses,
            "first": self._guard.start.positions,
            "positions": self.state.positions,
            "velocities": self.state.velocities,
            "alive": self._alive,
            "jumps": self._jumps,
            "end": str(self._end),
            "frames_given": self.frames_given,
            "pending": {
                name: value
                for name in _PENDING
                if (value := getattr(self._pending, name)) is not None
            },
            "broken": [described_error(error) for error in self.broken],
            "noise": noise.state_dict(),
            "potential": self._potential.state_dict(),
            "adaptive": {} if self.adaptive is None else self.adaptive.state_dict(),
            "leaps": {} if self.leaping is None else self.leaping.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where another propagator of the same settings was.

        Raises
        ------
        ConfigError
            If the molecules, the ensemble, the stride or the frame interval are others, naming
            both; or if this is no state of a propagator.
        """
        with reading("this", ConfigError, what="is no state of a propagator"):
            self._check_same(saved)
            self._load(saved)

    def _keepable_noise(self) -> SerialisableNoise:
        if not isinstance(self._noise, SerialisableNoise):
            raise ConfigError(
                f"the noise comes from {type(self._noise).__name__}, whose state cannot be kept: "
                "give a seed"
            )
        return self._noise

    def _settings(self) -> dict[str, str]:
        """What must be the same where a run goes on, in words."""
        return {
            "ensemble": repr(self.ensemble),
            "stride": f"{float(self._stride)!r} fs",
            "frame interval": f"{float(self._interval)!r} fs",
            "drop_broken": str(self.drop_broken),
            "tolerance": repr(self.adaptive),
        } | ({} if self.leaping is None else {"leaps": self.leaping.leaps.fingerprint})

    def _check_same(self, saved: Mapping[str, Any]) -> None:
        for name, value in self._settings().items():
            if saved["settings"].get(name, "None") != value:
                raise ConfigError(
                    f"the {name} was {saved['settings'][name]} and is now {value}: a run goes on "
                    "with the settings that it began with"
                )
        for name in ("numbers", "masses"):
            now, then = getattr(self.state, name), saved[name]
            if now.shape != then.shape or not torch.equal(now, then):
                raise ConfigError(
                    f"the molecules are others than those of the run that is to go on ({name} "
                    "differ)"
                )

    def _load(self, saved: Mapping[str, Any]) -> None:
        first = self._guard.start.replace(positions=saved["first"])
        state = self.state.replace(positions=saved["positions"], velocities=saved["velocities"])
        pending = replace(
            Frames.single(state),
            **{name: saved["pending"][name] for name in _PENDING if name in saved["pending"]},
        )
        self._keepable_noise().load_state_dict(saved["noise"])
        self._potential.load_state_dict(saved["potential"], state)
        if self.leaping is not None:
            self.leaping.load_state_dict(saved["leaps"])
        self.state, self._guard = state, Guard.watch(first, self._guard.labels)
        self._pending = pending
        if self.adaptive is not None:
            self.adaptive.load_state_dict(saved["adaptive"])
        self._alive = saved["alive"]
        self._jumps, self.frames_given = int(saved["jumps"]), int(saved["frames_given"])
        self._end = Fraction(saved["end"])
        self.broken[:] = [
            BrokenStateError(**{**each, "atoms": tuple(each["atoms"])}) for each in saved["broken"]
        ]

    def _march(self) -> Iterator[Frames]:
        while True:
            ready, self._pending = self._pending.until(float(self._end))
            if len(ready):
                self.frames_given += len(ready)
                yield ready
            if len(self._pending):
                return
            if self._failure is not None:
                raise self._failure
            if self.broken and (not self.drop_broken or not self._alive.any()):
                order = max if self.drop_broken else min
                error = order(self.broken, key=lambda each: each.time)
                error.frames_written = self.frames_given
                raise error
            if self._jumps * self._stride >= self._end:
                return
            self._step()

    @own_torch()
    @without_gradients
    def _step(self) -> None:
        """Make one jump and put its frames on `_pending`."""
        times, offsets, wanted = self._schedule.of_jump(self._jumps)
        state, step = self.state, replace(self._step_of_grid, number=self._jumps)
        what = self.operator, self.ensemble, state, offsets, step
        told: tuple[Tensor | None, Tensor | None] = None, None
        if self.leaping is not None:
            begins = self._jumps == 0
            positions, velocities = self.leaping.frame(state, self._alive, step, begins)
        elif self.adaptive is None:
            positions, velocities = advance(*what)
        else:
            divided = self.adaptive.advance(*what, self._alive)
            positions, velocities = divided.positions, divided.velocities
            told = divided.expected, divided.strides
            self._failure = divided.failure
        times = times[: positions.shape[1]]  # fewer where a calculator failed
        wanted = min(wanted, len(times))
        valid = torch.from_numpy(self._alive.numpy()[:, None].repeat(len(times), 1))
        frames = Frames(
            state.numbers, state.masses, state.charge, times, positions, velocities, valid, *told
        )
        first = self._mark_broken(frames)
        # Copies, as the frames are for others to do with as they like.
        end = state.replace(positions=_last(positions), velocities=_last(velocities))
        if self.broken:
            end = choose(self._alive.to(state.device), end, state)
        frames = frames.part(0, wanted)
        if self.broken:
            frames = frames.without_invalid() if self.drop_broken else frames.part(0, first)
        self._pending = frames
        if self._failure is None:
            self.state = end
            self._jumps += 1

    def _mark_broken(self, frames: Frames) -> int:
        """Find what broke, mark its frames as not valid, and return the earliest's index."""
        first = self._guard.first_broken(frames.positions, frames.velocities)
        count = len(frames)
        if int(first.numpy().min()) == count:
            return count
        newly = (first < count) & self._alive
        for row in torch.nonzero(newly).flatten().tolist():
            index = int(first[row])
            frames.valid[row, index:] = False
            time = float(frames.times[index])
            lost = None if self.leaping is None else self.leaping.explain(row, time)
            frame = frames.positions[row, index], frames.velocities[row, index]
            self.broken.append(lost or self._guard.explain(row, time, *frame))
        self._alive &= ~newly
        return int(first[newly].min()) if bool(newly.any()) else count


def roll_out(propagator: Propagator, duration: float) -> Iterator[Frames]:
    """Go on for a time, or to where the last replica breaks.

    For replicas that are looked at together: those that break are dropped, and
    `Propagator.broken` says when and why.

    Parameters
    ----------
    propagator
        With `drop_broken`.
    duration
        fs.

    Yields
    ------
    Frames
        As `Propagator.run`.
    """
    try:
        yield from propagator.run(duration)
    except BrokenStateError:
        if propagator.drop_broken:
            return
        raise


def described_error(error: BrokenStateError) -> dict[str, Any]:
    """What it takes to raise a broken replica's error again."""
    return {
        "message": str(error),
        "replica": error.replica,
        "time": error.time,
        "atoms": list(error.atoms),
        "frames_written": error.frames_written,
    }


def _last(frames: Tensor) -> Tensor:
    """Return a copy of the last of frames ``[B, T, N, 3]``."""
    return tensor(array(frames)[:, -1].copy(), frames)


def _on_grid(time: Fraction, unit: Fraction) -> Fraction:
    """Return a time as the simple fraction of a unit that it is, up to rounding.

    So that grids in a time step that is no decimal number of fs fit into each other exactly.
    """
    ratio = (time / unit).limit_denominator(SIMPLE)
    near = ratio * unit
    return near if abs(near - time) <= ROUNDING * max(time, unit) else time
