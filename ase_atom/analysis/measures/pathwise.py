"""Paths from common starts: how fast two trajectories part."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.analysis.lines import Line, Missing
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.plots import Curve, Mark, Panel, Plot, Section
from ase_atom.analysis.statistics import Estimate, draw_counts, resampled
from ase_atom.units import format_time

_SAME_TIME = 2e-3  # fs, plus as much of the time itself
_RESAMPLES = 1000
_EARLY = 100.0  # fs, at which a path is judged
_PAIRS = 2000  # of random frames
_FEW = 5  # runs, of which a bootstrap draws too much alike


def compare_paths(pair: Pair, why_not: str) -> Section:
    """Compare runs that start from the same states.

    Parameters
    ----------
    pair
        The two trajectories.
    why_not
        Why paths are not comparable, empty if they are.
    """
    section = Section("pathwise")
    if why_not:
        section.missing.append(Missing("pathwise", "paths from common starts", why_not))
        return section
    pair, broken = _whole(pair)
    if broken:
        section.remarks.append(f"{broken} runs that end before the others were left out.")
    found = common_times(pair.trajectory, pair.reference)
    if found is None:
        section.missing.append(
            Missing(
                "pathwise",
                "paths from common starts",
                "the two have no times in common: frames of one fall between those of the other",
            )
        )
        return section
    times, ours, theirs = found
    positions, velocities, plain = path_errors(pair, ours, theirs)
    level, error = climate(pair.reference, pair.random)
    mean, low, high = _band(positions, pair.random)
    _facts(section, pair, times, positions, mean, plain, (level, error))
    early = int(np.searchsorted(times, min(_EARLY, times[-1]), side="right")) - 1
    if early > 0:
        starts = len(positions)
        value = float(mean[early])
        error = float(high[early] - low[early]) / (2 * 1.96) if starts > 1 else math.nan
        section.lines.append(
            Line(
                "pathwise",
                "position error",
                f"position error after {format_time(float(times[early]))}",
                "Å",
                Estimate(value, error, 2.0 * starts, max(starts - 1.0, 1.0)),
                None,
                pair.tolerances.path,
                "alone",
                f"root mean square over atoms and {starts} starts, after superposition",
            )
        )
    moving = None if velocities is None else _band(velocities, pair.random)
    section.plots.append(_plot(pair, times, (mean, low, high), moving, level, len(positions)))
    return section


def _plot(
    pair: Pair,
    times: np.ndarray,
    positions: tuple[np.ndarray, np.ndarray, np.ndarray],
    velocities: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    level: float,
    starts: int,
) -> Plot:
    """Errors against time; each is a mean with the two edges of its band."""

    def curve(name: str, band: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Curve:
        mean, low, high = (side[1:] for side in band)
        return Curve(name, times[1:], mean, "difference", low, high)

    marks = (
        Mark(pair.tolerances.path, f"{pair.tolerances.path:g} Å", "y"),
        Mark(level, "two random frames", "y"),
    )
    drawn = (curve("position error", positions),)
    panels = [Panel("positions", "time / fs", "RMSD / Å", drawn, marks, log_x=True, log_y=True)]
    if velocities is not None:
        panels.append(
            Panel(
                "velocities",
                "time / fs",
                "RMS error / RMS velocity",
                (curve("velocity error", velocities),),
                (Mark(math.sqrt(2.0), "uncorrelated", "y"),),
                log_x=True,
                log_y=True,
            )
        )
    return Plot(
        "paths",
        "pathwise",
        "Errors of paths from common starts",
        f"Root mean square over atoms and {starts} starts, each frame superposed on "
        "the reference's, with 95 % bootstrap bands over starts.",
        tuple(panels),
        columns=2,
    )


def _whole(pair: Pair) -> tuple[Pair, int]:
    """Leave out runs that end long before the longest, and say how many."""
    lengths = np.array([len(run) for run in pair.trajectory])
    kept = np.flatnonzero(lengths > 0.9 * lengths.max())
    sides = [replace(side, segments=tuple(side.segments[k] for k in kept)) for side in pair.sides]
    return replace(pair, trajectory=sides[0], reference=sides[1]), len(lengths) - len(kept)


def common_times(
    trajectory: Trajectory, reference: Trajectory
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Times from the starts at which both have frames, and the frames' indices, ``[L]`` each.

    None if there is none but the start.
    """
    steps = [side.interval for side in (trajectory, reference)]
    if None in steps:
        return None
    shortest = [min(len(run) for run in side) for side in (trajectory, reference)]
    ours = steps[0] * np.arange(shortest[0])
    frames = np.rint(ours / steps[1]).astype(int)
    gap = np.abs(ours - frames * steps[1])
    fits = (gap <= _SAME_TIME + 1e-6 * ours) & (frames < shortest[1])
    if fits.sum() < 2:
        return None
    return ours[fits], np.flatnonzero(fits), frames[fits]


def path_errors(
    pair: Pair, ours: np.ndarray, theirs: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Errors of every start at every time, ``[S, L]``.

    Returns
    -------
    RMSD in Å after superposition; relative velocity error, turned along, or None; and the mean
    square error of positions as they are over atoms and coordinates, Å².
    """
    positions, velocities, plain = [], [], []
    moving = pair.trajectory.has_velocities and pair.reference.has_velocities
    for mine, other in zip(pair.trajectory, pair.reference, strict=True):
        target = other.positions[theirs]
        run = mine[ours]
        plain.append(((run.positions - target) ** 2).mean((1, 2)))
        superposed = run.aligned(target)
        positions.append(np.sqrt(((superposed.positions - target) ** 2).sum(2).mean(1)))
        if moving:
            there = other.velocities[theirs]
            there = there - there.mean(1, keepdims=True)
            speeds = superposed.velocities - superposed.velocities.mean(1, keepdims=True)
            scale = np.sqrt((there**2).mean())
            velocities.append(np.sqrt(((speeds - there) ** 2).mean((1, 2))) / scale)
    return np.stack(positions), np.stack(velocities) if moving else None, np.stack(plain)


def climate(reference: Trajectory, random: np.random.Generator) -> tuple[float, float]:
    """RMSD in Å that two random frames of the reference have, root mean square over pairs.

    Frames of different runs where there are several. The second number is its standard error, by
    the bootstrap over runs, or over ten blocks of frames where there are few.
    """
    frames = reference.pooled("positions")
    labels = np.repeat(np.arange(len(reference.segments)), [len(run) for run in reference])
    first, second = random.integers(len(frames), size=(2, 4 * _PAIRS))
    if len(reference.segments) > 1:
        apart = labels[first] != labels[second]
        first, second = first[apart], second[apart]
    first, second = first[:_PAIRS], second[:_PAIRS]
    superposed = Segment(frames[first]).aligned(frames[second])
    squares = ((superposed.positions - frames[second]) ** 2).sum(2).mean(1)
    if len(reference.segments) < _FEW:
        labels = np.arange(len(frames)) * 10 // len(frames)
    chosen = draw_counts(labels.max() + 1, _RESAMPLES, random)
    weights = chosen[:, labels[first]] * chosen[:, labels[second]]
    total = weights.sum(1)
    levels = np.sqrt((weights @ squares)[total > 0] / total[total > 0])
    return float(np.sqrt(squares.mean())), float(levels.std())


def _band(
    errors: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Root mean square over starts and its 95 % bootstrap band, ``[L]`` each."""
    squares = errors**2
    count = len(squares)
    mean = np.sqrt(squares.mean(0))
    if count < 2:
        return mean, mean, mean
    drawn = np.sqrt(resampled(squares, _RESAMPLES, random) / count)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return mean, low, high


def first_passage(times: np.ndarray, errors: np.ndarray, limit: float) -> np.ndarray:
    """Time at which each start's error first passes a limit, infinite if it never does, ``[S]``."""
    passed = errors > limit
    at = passed.argmax(1)
    return np.where(passed.any(1), times[at], np.inf)


def _facts(
    section: Section,
    pair: Pair,
    times: np.ndarray,
    errors: np.ndarray,
    mean: np.ndarray,
    plain: np.ndarray,
    climatological: tuple[float, float],
) -> None:
    level, error = climatological
    limit, end = pair.tolerances.path, format_time(float(times[-1]))

    def median(passages: np.ndarray) -> str:
        draws = pair.random.choice(passages, size=(_RESAMPLES, len(passages)))
        with np.errstate(invalid="ignore"):
            middle = float(np.median(passages))
            low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975), method="nearest")
        shown = [format_time(x) if math.isfinite(x) else f"> {end}" for x in (middle, low, high)]
        return f"{shown[0]} (95 %: {shown[1]} to {shown[2]}; median over {len(passages)} starts)"

    count = len(errors)
    drawn = np.sqrt(resampled(errors**2, _RESAMPLES, pair.random) / count)
    (reached,) = first_passage(times, mean[None], 0.95 * level)
    when = format_time(float(reached)) if math.isfinite(reached) else f"not within {end}"
    if count > 1:
        passages = first_passage(times, drawn, 0.95 * level)
        soon, late = np.quantile(passages, (0.025, 0.975), method="nearest")
        if math.isfinite(soon):
            last = format_time(float(late)) if math.isfinite(late) else f"> {end}"
            when += f" (95 %: {format_time(float(soon))} to {last}; over {count} starts)"
    section.facts += [
        (f"error passes {limit:g} Å", median(first_passage(times, errors, limit))),
        ("climatological level", f"{level:.2f} ± {error:.2f} Å, the RMSD of two random frames"),
        ("error reaches 95 % of it", when),
        (
            f"S2S at {end}",
            f"{_mean(plain[:, -1])} Å², mean square error of the last frame over atoms, "
            "coordinates and starts, not superposed",
        ),
        (
            f"S2T to {end}",
            f"{_mean(plain[:, 1:].mean(1))} Å², the same over all {len(times) - 1} frames",
        ),
    ]


def _mean(values: np.ndarray) -> str:
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{values.mean():.3g} ± {error:.1g}"
