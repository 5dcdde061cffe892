"""Whether two rows of a table differ by more than chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_SHORTEST_CLUSTER = 4000  # frames
_RESAMPLES = 9999


def clusters_of(starts: NDArray, delta: int, molecule: NDArray | None = None) -> NDArray:
    """Index of each start's stretch of time, ``[S]``.

    Windows that overlap share their fate, and a molecule remembers for longer than a window, so
    that starts count as independent only if they lie in different stretches, of 4 Δ frames and at
    least 4000. Stretches begin anew after a gap as long, as between blocks of a split by time; less
    than half a stretch at an end joins the one before.
    """
    starts = np.asarray(starts)
    molecules = np.zeros_like(starts) if molecule is None else np.asarray(molecule)
    length = max(4 * delta, _SHORTEST_CLUSTER)
    found, count = np.empty(len(starts), dtype=int), 0
    for each in np.unique(molecules):
        rows = np.flatnonzero(molecules == each)
        rows = rows[np.argsort(starts[rows], kind="stable")]
        for run in np.split(rows, np.flatnonzero(np.diff(starts[rows]) > length) + 1):
            since = starts[run] - starts[run[0]]
            stretches = max(1, round((int(since[-1]) + 1) / length))
            found[run] = count + np.minimum(since // length, stretches - 1)
            count += stretches
    return np.unique(found, return_inverse=True)[1].ravel()


def paired_test(first: NDArray, second: NDArray, clusters: NDArray) -> float:
    """Two-sided p of a paired sign-flip test of the mean difference of errors.

    The errors of a stretch of time are summed, and the sign of the difference of each sum is
    flipped at random: exactly where there are few stretches, else 9999 times.

    Parameters
    ----------
    first, second
        Squared errors from the same starts, means over seeds, ``[S]``.
    clusters
        Stretch of time of each start, ``[S]``.

    Returns
    -------
    float
        p; 1 with a single stretch, of which nothing can be learned.
    """
    count = int(clusters.max()) + 1
    if count < 2:
        return 1.0
    sums = [np.bincount(clusters, weights=side, minlength=count) for side in (first, second)]
    result = stats.permutation_test(
        sums,
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)
