"""Strides that are divided where jumps err too much, and forces where even short ones do."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.ensembles import Ensemble, Step, Thermostat
from ase_atom.propagation.fallback import Fallback
from ase_atom.propagation.steps import advance, finish, jump, reversible_jump
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
        if not (isinstance(tolerance, int | float) and 0 < tolerance <= 1):
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
            For an operator without an error estimate, a fallback without a thermostat, or one that
            fails on the first molecule.
        """
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
    ) -> tuple[Tensor, Tensor]:
        """Return the frames of one stride of the grid; see `ase_atom.propagation.advance`.

        Molecules that are not ``alive``, ``[B]``, are not asked.
        """
        ticks = 2 ** max(0, math.floor(math.log2(step.stride / SHORTEST) + 1e-9))
        tick = step.stride / ticks
        instants = offsets.tolist()
        xs, vs, done, taken = [], [], 0, 0
        while done < ticks:
            largest = _largest(done, ticks)
            size, over = self._choose(operator, state, tick, largest, alive)
            begin, end = done * tick, (done + size) * tick
            here = [t for t in instants[taken:] if t < end - 1e-9]
            last = taken + len(here) < len(instants) and instants[taken + len(here)] <= end + 1e-9
            times = torch.tensor([t - begin for t in here] + [size * tick], dtype=torch.float64)
            part = replace(step, stride=size * tick)
            x, v = self._move(operator, ensemble, state, times, part, over)
            count = len(here) + last
            xs.append(x[:, :count])
            vs.append(v[:, :count])
            taken += count
            finite = (torch.isfinite(x[:, -1]) & torch.isfinite(v[:, -1])).flatten(1).all(1)
            goes_on = (finite & alive.to(finite.device))[:, None, None]
            state = state.replace(
                positions=torch.where(goes_on, x[:, -1], state.positions),
                velocities=torch.where(goes_on, v[:, -1], state.velocities),
            )
            alive = alive & finite.cpu()
            done += size
        return torch.cat(xs, dim=1), torch.cat(vs, dim=1)

    def _choose(
        self, operator: OperatorLike, state: PhaseState, tick: float, largest: int, alive: Tensor
    ) -> tuple[int, Tensor]:
        """Return the length of the next jump in ticks, and which molecules exceed the tolerance."""
        estimate = operator.error_estimate
        assert estimate is not None
        stretch = min(largest, 2 ** max(0, math.floor(math.log2(STRETCH / tick) + 1e-9)))
        over = torch.zeros(state.batch_size, dtype=torch.bool)
        over[self._out] = True
        over &= alive
        if bool(over.any()):  # those that are moved by forces already
            rows = over.nonzero().flatten()
            found = estimate(state.select(rows), stretch * tick).cpu()
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
        return size, over

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

    def _move(
        self,
        operator: OperatorLike,
        ensemble: Ensemble,
        state: PhaseState,
        times: Tensor,
        step: Step,
        over: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Make one jump, and move with forces the molecules that exceed the tolerance."""
        if self.fallback is None or not bool(over.any()):
            return advance(operator, ensemble, state, times, step)
        start = ensemble.enter(state, step)
        rows, others = over.nonzero().flatten(), (~over).nonzero().flatten()
        x = state.positions.new_empty((state.batch_size, len(times), *state.positions.shape[1:]))
        v = torch.empty_like(x)
        if len(others):
            make = reversible_jump if ensemble.reversible else jump
            x[others], v[others] = make(operator, start.select(others), times)
        x[rows], v[rows], before, after = self.fallback.path(start.select(rows), times)

        def potential(asked: PhaseState) -> Tensor:
            energies = step.potential(asked).clone()
            at_start = torch.equal(asked.positions, start.positions)
            energies[rows] = (before if at_start else after).to(energies)
            return energies

        return finish(ensemble, start, x, v, replace(step, potential=potential))

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

    def __repr__(self) -> str:
        name = None if self.fallback is None else self.fallback.name
        return f"Adaptive(tolerance={self.tolerance:g}, fallback={name})"


def share(part: float) -> str:
    """Write a part of the time."""
    return f"{100 * part:.0f} %" if part >= 0.01 else f"{100 * part:.1g} %"


def _largest(done: int, ticks: int) -> int:
    """Return the longest jump in ticks that may start so many ticks into a stride."""
    return ticks if done == 0 else done & -done
