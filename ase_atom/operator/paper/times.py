"""Which instants the tokens stand at: the published grid, an anchor, and whatever is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_SAME = 1e-9  # two instants closer than this share of a grid step are one


@dataclass(frozen=True, eq=False)
class TimePlan:
    """Instants of the tokens, in grid steps τ = segment / P after the state.

    The first C tokens of an atom, its *context*, stand on the grid 1, 2, ..., P (after 0, with an
    anchor) whatever is asked for, and they alone are attended to. So the answer at one time does
    not depend on the other times asked for with it. Times off the grid get Q tokens of their own.

    Attributes
    ----------
    steps
        Instants of all tokens of an atom, context first, ``[C + Q]``.
    context
        Number C.
    read
        Token that answers each time asked for, ``[T]``.
    lags
        Every t − t' that occurs between a token and a context token, ``[D]``.
    windows
        How often each lag occurs for each token, ``[C + Q, D]``.
    """

    steps: Tensor
    context: int
    read: Tensor
    lags: Tensor
    windows: Tensor


def plan_times(times: Tensor, segment: float, timesteps: int, anchor: bool) -> TimePlan:
    """Plan the tokens for ``times`` (fs, ``[T]``) within one segment."""
    asked = tuple(times.detach().double().cpu().tolist())
    return _plan(asked, segment, timesteps, anchor)


@lru_cache(maxsize=64)
def _plan(asked: tuple[float, ...], segment: float, timesteps: int, anchor: bool) -> TimePlan:
    steps = [float(k) for k in range(0 if anchor else 1, timesteps + 1)]
    context = len(steps)
    read = []
    for time in asked:
        step = time * timesteps / segment
        found = next((k for k, s in enumerate(steps) if abs(s - step) < _SAME), len(steps))
        if found == len(steps):
            steps.append(step)
        read.append(found)
    lags: dict[float, int] = {}
    pairs = [[lags.setdefault(t - s, len(lags)) for s in steps[:context]] for t in steps]
    windows = torch.zeros(len(steps), len(lags), dtype=torch.float64)
    for row, columns in enumerate(pairs):
        for column in columns:
            windows[row, column] += 1
    return TimePlan(
        steps=torch.tensor(steps, dtype=torch.float64),
        context=context,
        read=torch.tensor(read, dtype=torch.long),
        lags=torch.tensor(list(lags), dtype=torch.float64),
        windows=windows,
    )
