"""How fast torsions forget where they were."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ase_atom.analysis.lines import Line, Missing
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.measures.spectra import autocorrelation
from ase_atom.analysis.plots import Curve, Panel, Plot, Section
from ase_atom.analysis.statistics import LEAST_BLOCKS, Estimate
from ase_atom.units import PS

_SOKAL = 5.0  # the integral is cut at so many correlation times
_MOST_LAGS = 1000


def compare_relaxation(pair: Pair, section: Section) -> None:
    """Add the autocorrelation times of torsions to a section."""
    classes = pair.coordinates.of_kind("torsion")
    if not classes:
        return
    if None in (pair.trajectory.interval, pair.reference.interval):
        section.missing.append(Missing("dynamics", "relaxation of torsions", "times are unknown"))
        return
    panels = []
    for one in classes:
        sides, drawn = [], []
        for role, side in zip(("trajectory", "reference"), pair.sides, strict=True):
            signals = [_signals(one.values(run.positions)) for run in side]
            centre = np.concatenate(signals).mean(0)
            signals = [run - centre for run in signals]
            sides.append(correlation_time(signals, side.interval))
            lags = min(_MOST_LAGS, max(2, min(map(len, signals)) // 2))
            values = autocorrelation(signals, lags)
            drawn.append(Curve(role, side.interval / PS * np.arange(lags), values, role))
        section.lines.append(
            Line(
                "dynamics",
                "relaxation of torsions",
                f"torsion {one.label}: correlation time",
                "ps",
                *(side.scaled(1 / PS) for side in sides),
                pair.tolerances.relaxation,
                "ratio",
            )
        )
        panels.append(Panel(one.label, "time / ps", "autocorrelation", tuple(drawn)))
    section.plots.append(
        Plot(
            "relaxation",
            "dynamics",
            "Relaxation of torsions",
            "Autocorrelation of (cos φ, sin φ) about its mean, each torsion by itself, averaged "
            "over equivalent ones.",
            tuple(panels),
        )
    )


def _signals(torsions: np.ndarray) -> np.ndarray:
    """Cosines and sines of torsions in degrees, ``[T, 2 P]``."""
    return np.concatenate([np.cos(np.radians(torsions)), np.sin(np.radians(torsions))], axis=1)


def correlation_time(signals: Sequence[np.ndarray], interval: float) -> Estimate:
    """Integrated autocorrelation time in fs of centred signals ``[T, C]`` of each run.

    The integral is cut at five times its own value (Sokal, in Functional Integration, 1997); the
    error is a jackknife over runs, or over eight pieces where runs are few. Runs together shorter
    than twenty times the result do not determine it, and leave it few samples.
    """
    pieces = list(signals)
    if len(pieces) < LEAST_BLOCKS:
        cut = math.ceil(LEAST_BLOCKS / len(pieces))
        pieces = [part for run in pieces for part in np.array_split(run, cut)]
    pieces = [piece for piece in pieces if len(piece) > 3]
    whole = _integral(signals)
    if not pieces or not math.isfinite(whole):
        return Estimate(math.nan, math.nan, 0.0, math.nan)
    longest = min(max(map(len, pieces)), max(map(len, signals)))
    left = np.array(
        [_integral(pieces[:k] + pieces[k + 1 :]) for k in range(len(pieces))]
        if len(pieces) > 1
        else [math.nan]
    )
    count = len(left)
    error = math.sqrt((count - 1) / count * float(((left - left.mean()) ** 2).sum()))
    frames = sum(len(run) for run in signals)
    samples = frames / (2 * whole)
    if longest < _SOKAL * whole:
        samples = 0.0  # the integral was cut by the length of the runs
    return Estimate(whole * interval, error * interval, samples, count - 1.0)


def _integral(signals: Sequence[np.ndarray]) -> float:
    """Integrated autocorrelation time in frames."""
    lags = max(2, max(map(len, signals)) // 2)
    values = autocorrelation(signals, lags)
    running = 0.5 + np.cumsum(values[1:])
    inside = np.arange(1, lags) >= _SOKAL * running
    cut = int(np.argmax(inside)) if inside.any() else lags - 2
    return float(max(running[cut], 0.5))
