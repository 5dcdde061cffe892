"""Numbers with error bars: means of correlated series, slopes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
