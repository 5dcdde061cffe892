"""Numbers with error bars: means of correlated series, slopes, resampled histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

LEAST_BLOCKS = 8
"""Blockings that leave fewer blocks say too little about their scatter."""


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Attributes
    ----------
    value
        The number.
    error
        Its standard error; zero for what is known exactly, NaN for what cannot be said.
    samples
        Effective number of independent samples: variance over squared error; infinite if exact.
    freedom
        Degrees of freedom of the error, for Student's distribution.
    block
        Number of frames after which samples count as independent.
    """

    value: float
    error: float = 0.0
    samples: float = math.inf
    freedom: float = math.inf
    block: int = 1

    def scaled(self, factor: float) -> Estimate:
        """Return the same in another unit."""
        return Estimate(
            self.value * factor, self.error * abs(factor), self.samples, self.freedom, self.block
        )

    def root(self) -> Estimate:
        """Return the square root, the error to first order."""
        value = math.sqrt(max(self.value, 0.0))
        error = self.error / (2 * value) if value > 0 else 0.0 * self.error
        return Estimate(value, error, self.samples, self.freedom, self.block)


def correlated_mean(series: Sequence[ArrayLike], least_blocks: int = LEAST_BLOCKS) -> Estimate:
    """Mean of runs of correlated values, and its standard error by blocking.

    Blocks of 1, 2, 4, … frames are averaged within each run; the standard error from the scatter
    of block means grows until blocks are longer than the correlation time. The largest value is
    taken (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989)). Where there are enough runs,
    whole runs are the last level, so that what differs between runs and never changes within
    them, such as the energy of microcanonical ones, is seen.

    Parameters
    ----------
    series
        Equally spaced values of each run, ``[T]``.
    least_blocks
        Levels with fewer blocks are not looked at, but for the first.

    Returns
    -------
    Estimate
        The error is NaN for fewer than two values.
    """
    runs = [np.asarray(run, dtype=float).ravel() for run in series]
    runs = [run for run in runs if len(run)]
    if not runs:
        return Estimate(math.nan, math.nan, 0.0, math.nan)
    pooled = np.concatenate(runs)
    mean = float(pooled.mean())
    if len(pooled) < 2:
        return Estimate(mean, math.nan, float(len(pooled)), math.nan)
    variance = float(pooled.var(ddof=1))
    # Rounding of equal values is no scatter.
    if variance <= (1e-13 * max(abs(mean), 1e-300)) ** 2:
        return Estimate(mean, 0.0, float(len(pooled)), len(pooled) - 1.0)
    error, freedom, length = -1.0, 1.0, 1
    for size, blocks in _levels(runs, least_blocks):
        found = float(blocks.std(ddof=1)) / math.sqrt(len(blocks))
        if found > error:
            error, freedom, length = found, len(blocks) - 1.0, size
    samples = min(variance / error**2, len(pooled)) if error > 0 else float(len(pooled))
    return Estimate(mean, error, samples, freedom, length)


def _levels(runs: Sequence[np.ndarray], least_blocks: int) -> Iterator[tuple[int, np.ndarray]]:
    longest = max(len(run) for run in runs)
    size = 1
    while size <= longest:
        blocks = np.concatenate(
            [run[: len(run) // size * size].reshape(-1, size).mean(1) for run in runs]
        )
        if len(blocks) < (2 if size == 1 else least_blocks):
            break
        yield size, blocks
        size *= 2
    if len(runs) >= least_blocks:
        sizes = np.array([len(run) for run in runs], dtype=float)
        means = np.array([run.mean() for run in runs])
        centre = (sizes * means).sum() / sizes.sum()
        # Runs weigh by their lengths: scaled so that the plain scatter gives the weighted error.
        yield longest, centre + (means - centre) * sizes / sizes.mean()


class Blocks:
    """A series that is averaged over ever longer blocks as it grows, so that memory does not.

    Parameters
    ----------
    most
        Blocks that are kept; beyond, neighbours become one.

    Attributes
    ----------
    size
        Values in each block.
    count
        Values taken in.
    """

    def __init__(self, most: int = 1024) -> None:
        self.most = most
        self.size = 1
        self.count = 0
        self._sum = 0.0
        self._blocks = np.empty(0)
        self._rest = np.empty(0)  # of the block under way

    def add(self, values: np.ndarray) -> None:
        """Take in the next values, ``[T]``."""
        self.count += len(values)
        self._sum += float(np.sum(values))
        self._rest = np.concatenate([self._rest, values])
        while True:
            whole = len(self._rest) // self.size * self.size
            means = self._rest[:whole].reshape(-1, self.size).mean(1)
            self._blocks = np.concatenate([self._blocks, means])
            self._rest = self._rest[whole:]
            if len(self._blocks) <= self.most:
                return
            if len(self._blocks) % 2:
                self._rest = np.concatenate([np.full(self.size, self._blocks[-1]), self._rest])
            self._blocks = self._blocks[: len(self._blocks) // 2 * 2].reshape(-1, 2).mean(1)
            self.size *= 2

    @property
    def mean(self) -> float:
        """Mean of all values; NaN before any."""
        return self._sum / self.count if self.count else math.nan

    @property
    def blocks(self) -> np.ndarray:
        """Means of the whole blocks; of fewer values than make a block, their mean."""
        if self.count and not len(self._blocks):
            return np.array([self.mean])
        return self._blocks

    def state_dict(self) -> dict[str, Any]:
        """Return all that later values are added to: numbers and arrays."""
        return {
            "size": self.size,
            "count": self.count,
            "sum": self._sum,
            "blocks": self._blocks,
            "rest": self._rest,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on with another series."""
        self.size, self.count, self._sum = int(saved["size"]), int(saved["count"]), saved["sum"]
        self._blocks, self._rest = np.asarray(saved["blocks"]), np.asarray(saved["rest"])


def mean_of_blocks(runs: Sequence[Blocks]) -> Estimate:
    """Mean of runs of correlated values, each in blocks, with the error of `correlated_mean`."""
    runs = [run for run in runs if run.count]
    if not runs:
        return correlated_mean([])
    found = correlated_mean([run.blocks for run in runs])
    mean = sum(run.mean * run.count for run in runs) / sum(run.count for run in runs)
    return replace(found, value=mean)


def paired_difference(ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike]) -> Estimate:
    """Mean difference of runs that belong together in pairs, such as those from common starts.

    What the two runs of a pair share, above all their energy, cancels. The error is from the
    scatter of the pairs' differences.

    Parameters
    ----------
    ours, theirs
        Values of each run, ``[T]``; run ``i`` of one belongs to run ``i`` of the other.
    """
    differences = [
        np.asarray(a, dtype=float).mean() - np.asarray(b, dtype=float).mean()
        for a, b in zip(ours, theirs, strict=True)
    ]
    value, error = mean_and_error(differences)
    return Estimate(value, error, float(len(differences)), len(differences) - 1.0)


def width(series: Sequence[ArrayLike]) -> Estimate:
    """Standard deviation of runs of correlated values, with its standard error."""
    runs = [np.asarray(run, dtype=float) for run in series]
    mean = np.concatenate([run.ravel() for run in runs]).mean()
    # The mean over equivalent coordinates of one frame, so that blocks run along time.
    squares = [((run - mean) ** 2).reshape(len(run), -1).mean(1) for run in runs]
    return correlated_mean(squares).root()


def block_average(series: ArrayLike, least_blocks: int = LEAST_BLOCKS) -> tuple[float, float]:
    """Mean of one correlated series and its standard error, see `correlated_mean`."""
    found = correlated_mean([series], least_blocks)
    return found.value, found.error


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Mean of independent values and its standard error (NaN for fewer than two)."""
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return float("nan"), float("nan")
    if len(values) == 1:
        return float(values[0]), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def slopes(times: ArrayLike, series: ArrayLike) -> np.ndarray:
    """Least-squares slope of each series, ``[R]``, of values ``[n, R]`` at ``times`` ``[n]``.

    NaN where a series holds fewer than two finite values.
    """
    times = np.asarray(times, dtype=float)
    series = np.asarray(series, dtype=float)
    out = np.full(series.shape[1], np.nan)
    for index, values in enumerate(series.T):
        good = np.isfinite(values)
        if good.sum() > 1:
            out[index] = np.polyfit(times[good], values[good], 1)[0]
    return out


def to_list(values: ArrayLike) -> list[float | None]:
    """Plain numbers for JSON, None in the place of anything that is not finite."""
    return [float(value) if np.isfinite(value) else None for value in np.ravel(values)]


def resampled(blocks: np.ndarray, resamples: int, random: np.random.Generator) -> np.ndarray:
    """Sums over blocks drawn with replacement, ``[R, …]``, of blocks ``[K, …]``.

    The bootstrap for dependent data: blocks long enough to be independent are what is drawn
    (Künsch, Ann. Stat. 17, 1217 (1989)).
    """
    return np.tensordot(draw_counts(len(blocks), resamples, random).astype(float), blocks, axes=1)


def draw_counts(count: int, resamples: int, random: np.random.Generator) -> np.ndarray:
    """How often each of ``count`` blocks is drawn with replacement, ``[R, count]``."""
    return random.multinomial(count, np.full(count, 1 / count), size=resamples)


def divergence(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Jensen–Shannon divergence in nats of histograms over their last axis.

    Between 0 and ln 2. Counts need not be normalised (Lin, IEEE Trans. Inf. Theory 37, 145
    (1991)).
    """
    p = first / first.sum(-1, keepdims=True)
    q = second / second.sum(-1, keepdims=True)
    found: np.ndarray = _entropy(0.5 * (p + q)) - 0.5 * (_entropy(p) + _entropy(q))
    return found


def _entropy(p: np.ndarray) -> np.ndarray:
    found: np.ndarray = -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)
    return found


def divergence_estimate(
    first: np.ndarray,
    second: np.ndarray,
    random: np.random.Generator,
    resamples: int = 500,
    paired: bool = False,
) -> Estimate:
    """Jensen–Shannon divergence of two sampled distributions, freed of its bias.

    Finite samples of one distribution always seem to diverge. The bootstrap over blocks shows by
    how much resampling alone raises the divergence, and that is subtracted once (Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 10); a small negative value means none.

    Parameters
    ----------
    first, second
        Histograms of independent blocks, ``[K, bins]``.
    random
        For the draws.
    resamples
        How many.
    paired
        Whether block ``i`` of one belongs to block ``i`` of the other: they are then drawn
        together.
    """
    plain = float(divergence(first.sum(0), second.sum(0)))
    fewest = min(len(first), len(second))
    if fewest < 2:
        return Estimate(plain, math.nan, float(fewest), math.nan)
    if paired:
        both = resampled(np.stack([first, second], axis=1), resamples, random)
        drawn = divergence(both[:, 0], both[:, 1])
    else:
        drawn = divergence(*(resampled(side, resamples, random) for side in (first, second)))
    corrected = 2 * plain - float(drawn.mean())
    return Estimate(corrected, float(drawn.std(ddof=1)), float(fewest), fewest - 1.0)
