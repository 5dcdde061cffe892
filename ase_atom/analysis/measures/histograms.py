"""Distributions of two trajectories as histograms in independent blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.plots import Curve
from ase_atom.analysis.statistics import (
    Estimate,
    correlated_mean,
    divergence_estimate,
    resampled,
)

BINS = 60
RESAMPLES = 500
MOST_BLOCKS = 256
_TAILS = (0.05, 99.95)  # percentiles between which histograms have their bins


@dataclass(frozen=True)
class Histograms:
    """One coordinate's histograms in independent blocks, of either side.

    Attributes
    ----------
    label
        The coordinate.
    edges
        Of the bins, ``[bins + 1]``; what lies beyond is counted in the outermost bins.
    trajectory, reference
        Counts, ``[K, bins]``.
    divergence
        Between the two.
    """

    label: str
    edges: np.ndarray
    trajectory: np.ndarray
    reference: np.ndarray
    divergence: Estimate


def block_frames(series: Sequence[Sequence[np.ndarray]]) -> tuple[int, float]:
    """Frames of one block so long that blocks are independent, and the effective samples.

    Two statistical inefficiencies long, of whichever series is slowest.
    """
    estimates = [correlated_mean(one) for one in series]
    count = sum(len(run) for run in series[0])
    samples = min((e.samples for e in estimates if e.error > 0), default=float(count))
    return max(1, math.ceil(2 * count / max(samples, 1.0))), samples


def block_numbers(lengths: Sequence[int], size: int) -> tuple[np.ndarray, int]:
    """Number of the block of every frame, ``[T]``, and how many blocks there are.

    Blocks do not reach across runs; what is left over joins a run's last block. More blocks than
    `MOST_BLOCKS` would make error bars no better: they are made longer.
    """
    size = max(size, sum(lengths) // MOST_BLOCKS)
    numbers, count = [], 0
    for length in lengths:
        here = max(1, length // size)
        numbers.append(count + np.minimum(np.arange(length) // size, here - 1))
        count += here
    return np.concatenate(numbers), count


def block_histograms(values: Sequence[np.ndarray], edges: np.ndarray, size: int) -> np.ndarray:
    """Histograms of ``[T, P]`` values of each run, in blocks of frames, ``[K, bins]``."""
    bins = len(edges) - 1
    numbers, count = block_numbers([len(run) for run in values], size)
    pooled = np.concatenate(values)
    place = np.clip(np.searchsorted(edges, pooled, side="right") - 1, 0, bins - 1)
    flat = (numbers[:, None] * bins + place).ravel()
    return np.bincount(flat, minlength=count * bins).reshape(count, bins).astype(float)


def compare_distributions(
    label: str, ours: list[np.ndarray], theirs: list[np.ndarray], pair: Pair
) -> Histograms:
    """Histograms of ``[T, P]`` values of each run, and the divergence of the two sides."""
    every = np.concatenate([run.ravel() for run in (*ours, *theirs)])
    low, high = np.percentile(every, _TAILS)
    if high <= low:
        low, high = low - 1e-6, high + 1e-6
    edges = np.linspace(low, high, BINS + 1)
    centre = every.mean()
    sizes, samples = [], []
    for side in (ours, theirs):
        series = [[run.mean(1) for run in side], [((run - centre) ** 2).mean(1) for run in side]]
        size, effective = block_frames(series)
        sizes.append(size)
        samples.append(effective)
    return histograms_of(label, edges, (ours, theirs), sizes, samples, pair)


def histograms_of(
    label: str,
    edges: np.ndarray,
    values: Sequence[Sequence[np.ndarray]],
    sizes: Sequence[int],
    samples: Sequence[float],
    pair: Pair,
) -> Histograms:
    """Histograms in blocks of so many frames, with the effective samples of either side."""
    if pair.paired:  # whole runs, drawn together
        sizes = [max(len(run) for run in side) for side in values]
    blocks = [block_histograms(side, edges, size) for side, size in zip(values, sizes, strict=True)]
    found = divergence_estimate(*blocks, pair.random, RESAMPLES, pair.paired)
    return Histograms(label, edges, *blocks, replace(found, samples=min(samples)))


def _bands(
    blocks: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised histogram and its 95 % bootstrap band, ``[bins]`` each."""
    total = blocks.sum(0)
    drawn = resampled(blocks, RESAMPLES, random)
    drawn /= drawn.sum(1, keepdims=True)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return total / total.sum(), low, high


def curves(
    one: Histograms,
    random: np.random.Generator,
    shape: Callable[[np.ndarray, np.ndarray], np.ndarray],
    style: str = "steps",
) -> tuple[Curve, ...]:
    """Curves of both sides; ``shape`` takes bin probabilities and those without resampling."""
    centres = 0.5 * (one.edges[1:] + one.edges[:-1])
    drawn = []
    for role, blocks in (("reference", one.reference), ("trajectory", one.trajectory)):
        plain, *band = _bands(blocks, random)
        ends = np.sort([shape(end, plain) for end in band], axis=0)
        drawn.append(Curve(role, centres, shape(plain, plain), role, *ends, style=style))
    return tuple(drawn)
