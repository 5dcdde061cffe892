"""Numbers with error bars: relative errors by burst, bootstrap intervals, block averages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Order of the last axis of an array of squared sums.
POSITION_ERROR, DISPLACEMENT, VELOCITY_ERROR, VELOCITY = range(4)


def squared_sums(
    numbers: ArrayLike,
    elements: ArrayLike,
    start: NDArray,
    reference: tuple[NDArray, NDArray],
    predicted: tuple[NDArray, NDArray],
) -> NDArray:
    """Squared errors and their scales, summed over the atoms of each element.

    Parameters
    ----------
    numbers
        Atomic numbers, ``[N]``.
    elements
        Atomic numbers that the result is split into, ``[E]``.
    start
        Positions at the starts, Å, ``[S, N, 3]``.
    reference, predicted
        Positions in Å and velocities in Å/fs at the lags, each ``[S, L, N, 3]``.

    Returns
    -------
    Array ``[S, L, E, 4]``: squared position error, squared displacement from the start, squared
    velocity error, squared velocity.
    """
    numbers = np.asarray(numbers)
    positions, velocities = reference
    fields = (
        predicted[0] - positions,
        positions - start[:, None],
        predicted[1] - velocities,
        velocities,
    )
    by_atom = np.stack([np.einsum("slnx,slnx->sln", field, field) for field in fields], axis=-1)
    return np.stack([by_atom[:, :, numbers == element].sum(2) for element in elements], axis=2)


def relative_errors(sums: NDArray) -> tuple[NDArray, NDArray]:
    """RMS error over RMS scale, of positions and of velocities.

    Parameters
    ----------
    sums
        ``[..., 4]`` as from `squared_sums`, already summed over whatever is pooled.

    Returns
    -------
    position, velocity
        Each ``[...]``; NaN where the scale is zero or nothing was counted.
    """
    return tuple(
        _root_ratio(sums[..., error], sums[..., scale])
        for error, scale in ((POSITION_ERROR, DISPLACEMENT), (VELOCITY_ERROR, VELOCITY))
    )


def _root_ratio(numerator: NDArray, denominator: NDArray) -> NDArray:
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return np.sqrt(out)


@dataclass(frozen=True)
class Intervals:
    """Relative errors with a bootstrap interval; every array has the shape of the lags."""

    position: NDArray
    position_low: NDArray
    position_high: NDArray
    velocity: NDArray
    velocity_low: NDArray
    velocity_high: NDArray

    def as_dict(self) -> dict[str, list[float | None]]:
        """Lists for JSON, with None for what is not defined."""
        return {name: to_list(value) for name, value in vars(self).items()}


def bootstrap_by_burst(
    sums: NDArray, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Relative errors and their percentile intervals when whole bursts are resampled.

    Frames of one burst are correlated, so a burst, not a frame, is the unit that is drawn with
    replacement (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).

    Parameters
    ----------
    sums
        ``[bursts, L, 4]`` as from `squared_sums`, summed over elements.
    resamples, level, seed
        Number of resamples, coverage of the interval and seed of the draw.

    Returns
    -------
    Intervals
        The bounds are NaN if there is only one burst.
    """
    bursts = len(sums)
    position, velocity = relative_errors(sums.sum(0))
    unknown = np.full_like(position, np.nan)
    if bursts < 2:
        return Intervals(position, unknown, unknown, velocity, unknown, unknown)
    counts = np.random.default_rng(seed).multinomial(
        bursts, np.full(bursts, 1 / bursts), size=resamples
    )
    drawn_position, drawn_velocity = relative_errors(np.tensordot(counts, sums, axes=1))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low_x, high_x = _quantiles(drawn_position, tails)
    low_v, high_v = _quantiles(drawn_velocity, tails)
    return Intervals(position, low_x, high_x, velocity, low_v, high_v)


def _quantiles(drawn: NDArray, tails: list[float]) -> NDArray:
    """Quantiles over the first axis; NaN for a lag that no resample defines."""
    defined = np.isfinite(drawn).all(0)
    out = np.full((2, drawn.shape[1]), np.nan)
    out[:, defined] = np.quantile(drawn[:, defined], tails, axis=0)
    return out


def block_average(series: ArrayLike, least_blocks: int = 8) -> tuple[float, float]:
    """Mean of a correlated series and the standard error of that mean.

    Neighbours are averaged pairwise again and again; the standard error of the blocks grows until
    they are longer than the correlation time. The largest value is returned (Flyvbjerg and
    Petersen, J. Chem. Phys. 91, 461 (1989)).

    Parameters
    ----------
    series
        Equally spaced values, ``[n]``.
    least_blocks
        Blockings that leave fewer blocks than this are too noisy to count.

    Returns
    -------
    mean, standard_error
        The error is NaN for fewer than two values.
    """
    blocks = np.asarray(series, dtype=float)
    mean = float(blocks.mean()) if len(blocks) else float("nan")
    if len(blocks) < 2:
        return mean, float("nan")
    errors = []
    while not errors or len(blocks) >= least_blocks:
        errors.append(blocks.std(ddof=1) / np.sqrt(len(blocks)))
        even = len(blocks) // 2 * 2
        if even < 4:
            break
        blocks = blocks[:even].reshape(-1, 2).mean(1)
    return mean, float(max(errors))


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Mean of independent values and its standard error (NaN for fewer than two)."""
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return float("nan"), float("nan")
    if len(values) == 1:
        return float(values[0]), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def slopes(times: ArrayLike, series: ArrayLike) -> NDArray:
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
