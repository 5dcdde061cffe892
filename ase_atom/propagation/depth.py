"""Looks, now and then during a run, at the error that its jumps are expected to have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.expectation import DOUBTFUL, HOPELESS, percent
from ase_atom.propagation.frames import Frames
from ase_atom.units import format_time

JUMPS = 64
"""Jumps between two looks, at least: each look costs as much as some two of them."""

DENSE = 16
"""Looks at this distance are twice as many; from then on there are so many until a run has become
twice as long."""

PARTS = 4
"""Parts of a run that are judged each by itself."""


@dataclass(frozen=True)
class Course:
    """Expected error of one molecule's jumps along a run.

    Attributes
    ----------
    looks
        How many there were.
    error
        RMS over all looks and replicas.
    parts
        Begin and end in fs of each part of the run, and the RMS in it.
    """

    looks: int
    error: float
    parts: tuple[tuple[float, float, float], ...]

    @property
    def worst(self) -> tuple[float, float, float]:
        """The part with the largest error."""
        return max(self.parts, key=lambda part: part[2])

    def __str__(self) -> str:
        text = f"{percent(self.error)} along the run"
        if len(self.parts) > 1:
            low, high = (pick(part[2] for part in self.parts) for pick in (min, max))
            text += f", {percent(low).removesuffix(' %')} to {percent(high)} by its parts"
        return text

    def warning(self) -> str | None:
        """What to say of a run that left the operator's depth; None of one that did not."""
        begin, end, error = self.worst
        if not error >= HOPELESS or self.parts[0][2] >= DOUBTFUL:
            return None
        return (
            f"jumps from {format_time(begin)} to {format_time(end)} are expected to err by "
            f"{percent(error)}, and those at the start by {percent(self.parts[0][2])}: see what "
            "became of the molecule"
        )


class DepthWatch:
    """Look at some of a run's frames, and note the expected error of the next jump.

    Which frames are looked at does not depend on how long the run will be, so that one that goes on
    looks at the same: first every `JUMPS` jumps, later ever less often.

    Parameters
    ----------
    operator
        Calibrated.
    stride, interval
        Of jumps and of frames, fs.
    """

    def __init__(self, operator: OperatorLike, stride: float, interval: float) -> None:
        assert operator.error_estimate is not None
        self._estimate, self._stride, self._interval = operator.error_estimate, stride, interval
        self._every = max(1, math.ceil(JUMPS * stride / interval - 1e-6))
        self._times: list[float] = []
        self._errors: list[np.ndarray] = []

    def look(self, frames: Frames) -> Frames:
        """Return frames with the expected error at those that are looked at.

        At the others it is not a number.
        """
        shape = frames.valid.shape
        expected = torch.full(shape, math.nan, dtype=torch.float64)
        for place, time in enumerate(frames.times.tolist()):
            index, rest = divmod(round(time / self._interval), self._every)
            good = frames.valid[:, place]
            if not rest and _is_due(index) and bool(good.any()):
                state = frames.state(place).select(good.nonzero().flatten())
                with torch.no_grad():
                    expected[good, place] = self._estimate(state, self._stride).double().cpu()
                self._times.append(time)
                self._errors.append(expected[:, place].numpy())
        return replace(frames, expected=expected)

    def course(self, rows: Sequence[int]) -> Course | None:
        """Return what was seen of a molecule, whose replicas are some rows; None of nothing."""
        if not self._times:
            return None
        squares = np.stack(self._errors)[:, list(rows)] ** 2
        there = np.isfinite(squares).any(1)
        times, squares = np.array(self._times)[there], squares[there]
        if not len(times):
            return None
        bounds = np.linspace(0, times[-1], min(PARTS, len(times)) + 1).tolist()
        parts = []
        for begin, end in pairwise(bounds):
            chosen = (times > begin) & (times <= end)
            if chosen.any():
                parts.append((begin, end, _root_mean(squares[chosen])))
        return Course(len(times), _root_mean(squares), tuple(parts))

    def state_dict(self) -> dict[str, Any]:
        """Return all that was seen."""
        errors = np.stack(self._errors) if self._errors else np.zeros((0, 0))
        return {"times": torch.tensor(self._times), "errors": torch.from_numpy(errors)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on with what another watch of the same run has seen."""
        self._times = saved["times"].tolist()
        self._errors = list(saved["errors"].numpy())


def _is_due(index: int) -> bool:
    """Whether the frame after so many times the least distance is looked at."""
    return index > 0 and index % 2 ** max(0, index.bit_length() - DENSE.bit_length()) == 0


def _root_mean(squares: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(squares)))
