"""Relative errors of positions and velocities by burst, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ase_atom.analysis.statistics import resampled, to_list

#: Order of the last axis of an array of squared sums.
POSITION_ERROR, DISPLACEMENT, VELOCITY_ERROR, VELOCITY = range(4)


def squared_errors(
    start: Tensor, reference: tuple[Tensor, Tensor], predicted: tuple[Tensor, Tensor | None]
) -> Tensor:
    """Squared errors and their scales, of each atom at each lag.

    Parameters
    ----------
    start
        Positions at the starts, Å, ``[S, N, 3]``.
    reference, predicted
        Positions in Å and velocities in Å/fs at the lags, each ``[S, L, N, 3]``; velocities of the
        prediction may be None.

    Returns
    -------
    Tensor
        float64 ``[S, L, N, 4]``: squared position error, squared displacement from the start,
        squared velocity error, squared velocity; the first two alone without velocities.
    """
    x, v = reference
    fields = [predicted[0] - x, x - start[:, None]]
    if predicted[1] is not None:
        fields += [predicted[1] - v, v]
    return torch.stack([field.double().square().sum(-1) for field in fields], dim=-1)


def by_element(squares: NDArray, numbers: ArrayLike, elements: ArrayLike) -> NDArray:
    """Sums over the atoms of each element, ``[S, L, E, 4]``, of squares ``[S, L, N, 4]``."""
    numbers = np.asarray(numbers)
    return np.stack([squares[:, :, numbers == element].sum(2) for element in elements], axis=2)


def relative_errors(sums: NDArray) -> tuple[NDArray, NDArray]:
    """RMS error over RMS scale, of positions and of velocities.

    Parameters
    ----------
    sums
        ``[..., 4]`` of `squared_errors`, already summed over what is pooled.

    Returns
    -------
    position, velocity
        Each ``[...]``; NaN where the scale is zero or nothing was counted.
    """
    return tuple(
        root_ratio(sums[..., error], sums[..., scale])
        for error, scale in ((POSITION_ERROR, DISPLACEMENT), (VELOCITY_ERROR, VELOCITY))
    )


def root_ratio(numerator: NDArray, denominator: NDArray) -> NDArray:
    """√(numerator / denominator), NaN where the denominator is zero."""
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
        ``[bursts, L, 4]`` as from `squared_errors`, summed over elements.
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
    drawn = resampled(sums, resamples, np.random.default_rng(seed))
    drawn_position, drawn_velocity = relative_errors(drawn)
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
