"""Strides that are divided where jumps err too much, and forces where even short ones do."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ase_atom.errors import ConfigError, FallbackError
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.ensembles import Ensemble, Step, Thermostat
from ase_atom.propagation.fallback import Fallback
from ase_atom.propagation.parts import SAME_TIME, Divided, Part, Span, make_part
from ase_atom.propagation.stepwise import Stepwise
from ase_atom.state import PhaseState
from ase_atom.units import format_time

TOLERANCE = 0.12
"""Expected error of a jump up to which it is made."""

SHORTEST, LONGEST = 4.0, 64.0
"""fs, between which a stride is halved and doubled."""

STRETCH = 16.0
"""fs, at most, for which forces take over before jumps are tried again."""

_ROOM = 0.4  # of the tolerance, below which twice the stride is tried


class Adaptive:
    """Jumps as long as their expected error allows.

    A stride of the grid is divided into 2, 4, 8 … equal jumps, each at least `SHORTEST` and each a
    whole step of the ensemble. A jump of some length starts at a multiple of that length, so the
    times of a run do not depend on how it is cut. The estimate is taken from the state before the
    ensemble's noise, and the least trusted molecule of a batch decides for all. Where the shortest
    jump of a molecule errs more than is allowed, the fallback moves that molecule, if there is one,
    until a jump of `STRETCH` is good again: the same step of the ensemble around velocity Verlet in
    the place of the jump.

    Strides and hand-overs that depend on the state bias an ensemble; docs/trust.md measures by how
    much.

    Parameters
    ----------
    tolerance
        Expected relative error up to which a jump is made.
    fallback
        Moves molecules where jumps err too much.

    Attributes
    ----------
    time
        fs that each stride, and the fallback as 0, has moved molecules, summed over these.
    exceeded
        fs moved by the shortest jumps although these err more than the tolerance.

    Raises
    ------
    ConfigError
        For a tolerance that is not above zero and at most one.
    """

    def __init__(self, tolerance: float = TOLERANCE, fallback: Fallback | None = None) -> None:
        number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
        if not (number and 0 < tolerance <= 1):
            raise ConfigError(
                f"tolerance must be above 0 and at most 1, not {tolerance!r}: it is a relative "
                "error, such as 0.05"
            )
        self.tolerance, self.fallback = float(tolerance), fallback
        self.time: defaultdict[float, float] = defaultdict(float)
        self.exceeded = 0.0
        self._last = 0.0  # length of the jump before, fs
        self._grows = False
        self._out: list[int] = []  # molecules that the fallback moves

    @classmethod
    def asked(cls, tolerance: float | None, calculator: Any = None) -> Adaptive | None:
        """Return one for a tolerance, a calculator to fall back on, or both; None for neither.

        Raises
        ------
        ConfigError
            For a tolerance or a calculator that cannot be meant.
        """
        if tolerance is None and calculator is None:
            return None
        fallback = None if calculator is None else Fallback(calculator)
        return cls(TOLERANCE if tolerance is None else tolerance, fallback)

    def check(self, operator: OperatorLike, ensemble: Ensemble, state: PhaseState) -> None:
        """Check that it goes with an operator, an ensemble and the molecules.

        Raises
        ------
        ConfigError
            For steps by forces, an operator without an error estimate, a fallback without a
            thermostat, or one that fails on the first molecule.
        """
        if isinstance(operator, Stepwise):
            raise ConfigError(
                "a tolerance or a fallback is for jumps, and the molecules move by steps of "
                f"{operator.timestep:g} fs: leave it out"
            )
        if operator.error_estimate is None:
            name = type(operator).__name__ if operator.card is None else operator.card.name
            raise ConfigError(
                f"{name} was never calibrated and does not know its error: no tolerance can be kept"
            )
        if self.fallback is not None:
            if not isinstance(ensemble, Thermostat):
                raise ConfigError(
                    f"a fallback goes with a thermostat, not with {ensemble.title}: another "
                    "potential has another energy, and what is to be kept would jump"
                )
            self.fallback.check(state)

    def advance(
        self,
        operator: OperatorLike,
        ensemble: Ensemble,
        state: PhaseState,
        offsets: Tensor,
        step: Step,
        alive: Tensor,
    ) -> Divided:
        """Return the frames of one stride of the grid; see `ase_atom.propagation.advance`.

        Molecules that are not ``alive``, ``[B]``, are not asked.
        """
        instants = offsets.tolist()
        parts: list[Part] = []
        begin = 0.0
        while begin < step.stride - SAME_TIME:
            part = self.part(operator, ensemble, state, step, begin, instants, alive)
            parts.append(part)
            if part.failure is not None:
                break
            state, alive, begin = part.after, part.alive, part.span.end
        return Divided.of(parts)

    def part(
        self,
        operator: OperatorLike,
        ensemble: Ensemble,
        state: PhaseState,
        step: Step,
        begin: float,
        instants: Sequence[float],
        alive: Tensor,
    ) -> Part:
        """Choose and make one of the jumps that a stride is divided into.

        Parameters
        ----------
        operator, ensemble
            What moves the molecules.
        state
            Where they are, ``[B, N]``.
        step
            The grid's.
        begin
            Time in the stride in fs, from which the jump starts.
        instants
            Times of frames in the stride in fs, rising.
        alive
            Molecules that count, ``[B]``.

        Raises
        ------
        FallbackError
            If the calculator fails before the first frame; nothing is counted then.
        """
        ticks = 2 ** max(0, math.floor(math.log2(step.stride / SHORTEST) + 1e-9))
        tick, before = step.stride / ticks, self.state_dict()
        done = round(begin / tick)
        size, over, expected = self._choose(operator, state, tick, _largest(done, ticks), alive)
        forces = over if self.fallback is not None else torch.zeros_like(over)
        span = Span(done * tick, (done + size) * tick, forces, expected)
        start = ensemble.enter(state, replace(step, stride=span.length))
        try:
            return make_part(operator, ensemble, self.fallback, span, start, step, instants, alive)
        except FallbackError:
            self.take_back(before)
            raise

    def _choose(
        self, operator: OperatorLike, state: PhaseState, tick: float, largest: int, alive: Tensor
    ) -> tuple[int, Tensor, Tensor]:
        """Return the next jump's length in ticks, which molecules exceed the tolerance, and errors.

        The errors are those of `Span.expected`.
        """
        estimate = operator.error_estimate
        assert estimate is not None
        stretch = min(largest, 2 ** max(0, math.floor(math.log2(STRETCH / tick) + 1e-9)))
        over = torch.zeros(state.batch_size, dtype=torch.bool)
        over[self._out] = True
        over &= alive
        asked = torch.zeros(state.batch_size, dtype=torch.int64)  # length of the jump judged last
        expected = torch.full((state.batch_size,), math.nan, dtype=torch.float64)
        if bool(over.any()):  # those that are moved by forces already
            rows = over.nonzero().flatten()
            found = estimate(state.select(rows), stretch * tick).cpu()
            expected[rows], asked[rows] = found.double(), stretch
            over[rows[found <= self.allowed(stretch * tick)]] = False
        rows = (alive & ~over).nonzero().flatten()
        size = stretch if bool(over.any()) else largest
        if len(rows) and self._last:
            before = max(1, round(self._last / tick))
            size = min(largest, 2 * before if self._grows else before)
        good: list[int] = []
        worst = 0.0
        while len(rows):
            found = estimate(state.select(rows), size * tick).cpu()
            expected[rows], asked[rows] = found.double(), size
            fine = found <= self.allowed(size * tick)
            good += [size] * int(fine.sum())
            if bool(fine.any()):
                worst = float(found[fine].max())
            rows = rows[~fine]
            if size == 1:
                break
            size //= 2
        over[rows] = True
        if good:
            size = min(good) if self.fallback is not None or not len(rows) else 1
            self._last, self._grows = size * tick, worst < _ROOM * self.allowed(size * tick)
        elif self.fallback is not None or not bool(alive.any()):
            size = stretch
        else:
            size, self._last, self._grows = 1, tick, False
        self._count(int(alive.sum()), int(over.sum()), size * tick)
        self._out = over.nonzero().flatten().tolist() if self.fallback is not None else []
        known = (asked == size) | (over if self.fallback is not None else False)
        return size, over, expected.masked_fill(~known, math.nan)

    def _count(self, moved: int, over: int, length: float) -> None:
        """Note what moved how many molecules for a time in fs."""
        by_jumps = moved if self.fallback is None else moved - over
        if by_jumps:
            self.time[length] += by_jumps * length
        if over and self.fallback is None:
            self.exceeded += over * length
        elif over:
            self.time[0.0] += over * length

    def allowed(self, stride: float) -> float:
        """Return the expected error up to which a jump of so many fs is made.

        The tolerance, and less for jumps shorter than `STRETCH`: independent errors of so many more
        jumps then add up to the same.
        """
        return self.tolerance * min(1.0, math.sqrt(stride / STRETCH))

    def sentence(self) -> str:
        """Say how the time was divided among strides and forces."""
        total = sum(self.time.values())
        if not total:
            return "no jump was made"
        parts = [
            f"{format_time(stride)} {share(self.time[stride] / total)}"
            for stride in sorted((each for each in self.time if each), reverse=True)
        ]
        text = "strides: " + ", ".join(parts) if parts else "no strides"
        if self.fallback is not None:
            forces = f"{share(self.time[0.0] / total)} of the time, {self.fallback.calls} calls"
            text += f"; {self.fallback.name}: {forces}"
        elif self.exceeded:
            text += (
                f"; above the tolerance of {self.tolerance:g} at the shortest in "
                f"{share(self.exceeded / total)} of the time"
            )
        return text

    def record(self) -> dict[str, Any]:
        """Return what `sentence` says as plain values."""
        return {
            "tolerance": self.tolerance,
            "time_by_stride_fs": {
                f"{key:g}": value for key, value in sorted(self.time.items()) if key
            },
            "time_by_fallback_fs": self.time[0.0],
            "time_above_tolerance_fs": self.exceeded,
            "fallback": None if self.fallback is None else self.fallback.name,
            "fallback_calls": 0 if self.fallback is None else self.fallback.calls,
        }

    def settings(self) -> dict[str, str]:
        """Return what must be the same where a run goes on, in words."""
        named = {} if self.fallback is None else {"fallback": self.fallback.name}
        return {"tolerance": f"{self.tolerance:g}", **named}

    def state_dict(self) -> dict[str, Any]:
        """Return what later strides depend on, and the counts."""
        return {
            "last": self._last,
            "grows": self._grows,
            "out": list(self._out),
            "time": [[key, value] for key, value in self.time.items()],
            "exceeded": self.exceeded,
            "calls": 0 if self.fallback is None else self.fallback.calls,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where another of the same settings was."""
        self._last, self._grows = float(saved["last"]), bool(saved["grows"])
        self._out = [int(row) for row in saved["out"]]
        known = {float(key): float(value) for key, value in saved["time"]}
        self.time = defaultdict(float, known)
        self.exceeded = float(saved["exceeded"])
        if self.fallback is not None:
            self.fallback.calls = int(saved["calls"])

    def take_back(self, saved: Mapping[str, Any]) -> None:
        """Forget what was chosen since a `state_dict`, but not the calls that it took."""
        calls = 0 if self.fallback is None else self.fallback.calls
        self.load_state_dict({**saved, "calls": calls})

    def __repr__(self) -> str:
        name = None if self.fallback is None else self.fallback.name
        return f"Adaptive(tolerance={self.tolerance:g}, fallback={name})"


def refuse_leaps(adaptive: Adaptive | None) -> None:
    """Refuse a tolerance of leaps.

    Raises
    ------
    ConfigError
        If there is one.
    """
    if adaptive is not None:
        raise ConfigError("leaps have no tolerance: the thermal band judges each of them")


def share(part: float) -> str:
    """Write a part of the time."""
    return f"{100 * part:.0f} %" if part >= 0.01 else f"{100 * part:.1g} %"


def _largest(done: int, ticks: int) -> int:
    """Return the longest jump in ticks that may start so many ticks into a stride."""
    return ticks if done == 0 else done & -done
