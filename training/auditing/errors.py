"""Errors on the bursts of one compound, with bootstrap intervals, and how they go with likeness."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ase_atom.operator import Operator
from ase_atom.state import PhaseState
from training.data.frames import FrameData
from training.data.store import Burst
from training.evaluation.metrics import root_ratio, squared_errors

LOST = 100.0
"""A molecule whose error is so many times its displacement has come apart: how far says nothing."""


def is_lost(errors: ArrayLike) -> NDArray:
    """Where errors are no numbers, or above `LOST`."""
    return ~(np.asarray(errors, dtype=float) <= LOST)


def median(errors: ArrayLike, axis: int) -> NDArray:
    """Median of errors, of which lost ones are the largest; infinite if it is lost itself."""
    return np.median(np.where(is_lost(errors), np.inf, errors), axis=axis)


def written(error: float) -> str:
    """An error as text."""
    return "lost" if is_lost(error) else f"{error:.3f}"


@dataclass(frozen=True)
class Error:
    """RMS position error over RMS displacement, with a 95 % bootstrap interval over bursts."""

    value: float
    low: float
    high: float


def squares(
    operator: Operator, bursts: Sequence[Burst], lags: Sequence[float], starts: int
) -> NDArray:
    """Squared error and squared displacement of each burst at each lag, ``[B, L, 2]``, Å².

    They are summed over a burst's starts, which share its energy among the modes and overlap.

    Parameters
    ----------
    operator
        What is measured.
    bursts
        Of one compound.
    lags
        fs.
    starts
        States of each burst, evenly spaced.

    Raises
    ------
    DataError
        If a lag is no multiple of the frame interval, or longer than the shortest burst.
    """
    data = FrameData.from_bursts(bursts)
    steps = torch.tensor([data.frames_of(lag, "lag") for lag in lags])
    rows = data.starts(int(steps.max()), starts)
    frames = torch.cat(rows)
    times = steps.double() * data.interval
    found = []
    for part in frames.split(64):
        burst = data.burst[part]
        state = PhaseState(
            data.numbers[burst],
            data.masses[burst],
            data.positions[part],
            data.velocities[part],
            data.charge[burst],
        )
        with torch.no_grad():
            x = operator.positions(state, times)
        later = part[:, None] + steps
        reference = data.positions[later], data.velocities[later]
        found.append(squared_errors(state.positions, reference, (x, None)).sum(2))
    each = torch.cat(found)
    return torch.stack([part.sum(0) for part in each.split([len(row) for row in rows])]).numpy()


def ratios(sums: NDArray) -> NDArray:
    """RMS position error over RMS displacement, ``[..., L]``, of sums ``[..., L, 2]``."""
    return root_ratio(sums[..., 0], sums[..., 1])


def relative(sums: NDArray, draws: int, rng: np.random.Generator) -> list[Error]:
    """Errors at each lag from the squares of `squares`, with intervals from resampled bursts."""
    count = len(sums)
    chosen = rng.integers(count, size=(draws, count))
    # Those that are lost may be no numbers.
    with np.errstate(over="ignore", invalid="ignore"):
        spread = ratios(sums[chosen].sum(1))
        values = ratios(sums.sum(0))
        low, high = np.percentile(spread, [2.5, 97.5], axis=0)
    return [Error(*map(float, each)) for each in zip(values, low, high, strict=True)]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with a 95 % bootstrap interval over compounds."""

    value: float
    low: float
    high: float
    compounds: int


def correlate(x: Sequence[float], y: Sequence[float], draws: int = 2000) -> Correlation | None:
    """How two quantities go together over compounds; None for fewer than four, or all alike."""
    pairs = np.array([x, y], float)
    if pairs.shape[1] < 4 or np.ptp(pairs, axis=1).min() == 0:
        return None

    def rank(x: NDArray, y: NDArray) -> float:
        # A draw of one compound alone has no order.
        alike = np.ptp(x) == 0 or np.ptp(y) == 0
        return np.nan if alike else float(stats.spearmanr(x, y).statistic)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            tuple(pairs),
            rank,
            n_resamples=draws,
            vectorized=False,
            paired=True,
            method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (-1.0, 1.0)
    return Correlation(rank(*pairs), float(low), float(high), pairs.shape[1])


@dataclass(frozen=True)
class Pairing:
    """Two operators on the same compounds.

    Attributes
    ----------
    ratio
        Geometric mean of the second's error over the first's; NaN where there are no compounds.
    better
        Compounds on which the second errs less.
    compounds
        Their number, without those that one of the two has lost.
    probability
        Of Wilcoxon's signed-rank test on the logarithms, two-sided.
    """

    ratio: float
    better: int
    compounds: int
    probability: float


def pair(first: Sequence[float], second: Sequence[float]) -> Pairing:
    """Compare errors of two operators, compound by compound."""
    a, b = np.array(first, dtype=float), np.array(second, dtype=float)
    kept = ~(is_lost(a) | is_lost(b))
    if not kept.any():
        return Pairing(float("nan"), 0, 0, float("nan"))
    logs = np.log(b[kept]) - np.log(a[kept])
    chance = float(stats.wilcoxon(logs).pvalue) if np.any(logs) else 1.0
    return Pairing(float(np.exp(logs.mean())), int((logs < 0).sum()), len(logs), chance)
