"""The divided stride under way, for front ends that move one molecule time step by time step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ase_atom.errors import FallbackError
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation.adaptive import Adaptive
from ase_atom.propagation.ensembles import Step
from ase_atom.propagation.parts import SAME_TIME, Divided, Part, Span, make_part
from ase_atom.propagation.path import Path
from ase_atom.propagation.steps import carry_on
from ase_atom.propagation.stochastic import Noise
from ase_atom.state import PhaseState
from ase_atom.units import format_time


@dataclass(frozen=True)
class _Chosen:
    """A part whose frames are decoded: its span, where they begin, and `Adaptive`'s state then."""

    span: Span
    start: PhaseState
    choices: dict[str, Any]


class DividedPath(Path):
    """A path whose strides are divided where jumps err too much.

    The frames that are decoded at a time are those of one part of the stride, or of several where a
    part ends between two frames. After a change from outside inside a part, what moved the molecule
    there moves it to the end of that part. Later parts are chosen anew.

    Parameters
    ----------
    adaptive
        Divides the strides. The others are those of `Path`.

    Attributes
    ----------
    told
        Expected error and stride of each decoded frame, see `Divided`, ``[T]``; None before the
        first jump.
    """

    def __init__(self, *arguments: Any, adaptive: Adaptive, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.adaptive = adaptive
        self.told: tuple[Tensor, Tensor] | None = None
        self._chosen: list[_Chosen] = []
        self._failure: FallbackError | None = None

    def begin(
        self, state: PhaseState, noise: Noise, *, place: int | None = None, changed: bool = False
    ) -> None:
        """Decode the frames of the next part, or the rest of the one under way.

        Raises
        ------
        FallbackError
            If the calculator failed. The path stays where it is, and the next call tries again.
        """
        place = self.place % self.frames if place is None else place
        state, before = self._own(state), self.adaptive.state_dict()
        with own_torch(self.threads), torch.no_grad():
            try:
                if self._failure is not None and not changed:
                    raise self._failure
                start = self.ensemble.prepare(state) if changed else state
                parts, chosen = self._made(start, noise, place, changed)
            except FallbackError as error:
                self._failure = None
                self.adaptive.take_back(before)
                time = format_time(self.steps * self.timestep)
                raise FallbackError(f"{error} after {time}") from error
            divided = Divided.of(parts)
            x, v = divided.positions, divided.velocities
            if not bool(parts[-1].alive) and bool(torch.isfinite(x[:, -1:]).all()):
                # It broke between two frames, and there is no next one.
                x, v = (
                    torch.cat([each, torch.full_like(state.positions[:, None], math.nan)], 1)
                    for each in (x, v)
                )
            good = int(self._guard.first_broken(x, v)[0])
        self.place = self.first = place
        self.start, self.good = parts[0].start, good
        self.positions, self.velocities = x[0], v[0]
        self.told = divided.expected[0], divided.strides[0]
        self._chosen, self._failure = chosen, divided.failure

    def _made(
        self, state: PhaseState, noise: Noise, place: int, changed: bool
    ) -> tuple[list[Part], list[_Chosen]]:
        """Make parts until one ends at a frame, or a calculator fails, or the molecule breaks."""
        now = place * self.timestep
        step = self._step(noise)
        instants = [n * self.timestep for n in range(place + 1, self.frames + 1)]
        parts: list[Part] = []
        chosen: list[_Chosen] = []
        begin, alive = now, torch.ones(1, dtype=torch.bool)
        while True:
            under_way = [] if parts else [c for c in self._chosen if c.span.contains(now)]
            if under_way:
                part = self._rest(under_way[0], state, step, instants, place, changed)
            else:
                what = self.operator, self.ensemble, state, step, begin, instants, alive
                part = self.adaptive.part(*what)
            parts.append(part)
            chosen.append(_Chosen(part.span, part.start, self.adaptive.state_dict()))
            state, begin, alive = part.after, part.span.end, part.alive
            at_frame = any(abs(t - begin) <= SAME_TIME for t in instants)
            if at_frame or part.failure is not None or not bool(alive):
                return parts, chosen

    def _rest(
        self,
        under_way: _Chosen,
        state: PhaseState,
        step: Step,
        instants: list[float],
        place: int,
        changed: bool,
    ) -> Part:
        """Go on inside a part to its end, from where the molecule is now."""
        span = under_way.span
        if under_way is not self._chosen[-1]:
            self.adaptive.take_back(under_way.choices)
        forces = bool(span.forces)
        # What forces gain or lose is not corrected at the end of their stretch, either.
        if changed and not forces and (left := self.left(place)) is not None:
            own = replace(step, stride=span.length)
            state = carry_on(self.ensemble, state, left, under_way.start, own)
        alive = torch.ones(1, dtype=torch.bool)
        fallback, since = self.adaptive.fallback, place * self.timestep
        return make_part(
            self.operator, self.ensemble, fallback, span, state, step, instants, alive, since
        )

    # -- to be continued by another process --------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """As that of `Path`, with how the stride under way was divided."""
        told = {} if self.told is None else {"expected": self.told[0], "strides": self.told[1]}
        chosen = {
            str(number): {
                "begin": each.span.begin,
                "end": each.span.end,
                "forces": each.span.forces,
                "expected": each.span.expected,
                "positions": each.start.positions,
                "velocities": each.start.velocities,
                "choices": each.choices,
            }
            for number, each in enumerate(self._chosen)
        }
        return super().state_dict() | {
            "adaptive": self.adaptive.state_dict(),
            "told": told,
            "parts": chosen,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """As that of `Path`."""
        super().load_state_dict(saved)
        self.adaptive.load_state_dict(saved["adaptive"])
        told = saved["told"]
        self.told = (told["expected"], told["strides"]) if told else None
        self._chosen = [
            _Chosen(
                Span(part["begin"], part["end"], part["forces"], part["expected"]),
                self._atoms.replace(positions=part["positions"], velocities=part["velocities"]),
                part["choices"],
            )
            for part in saved["parts"].values()
        ]
