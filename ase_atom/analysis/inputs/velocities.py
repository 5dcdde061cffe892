"""Velocities: differentiated where a file has none, and held against the motion where it has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.analysis.statistics import Estimate, correlated_mean
from ase_atom.units import thermal_speed

# Central difference of eighth order (Fornberg, Math. Comp. 51, 699 (1988)); its relative error for
# an oscillation of angular frequency ω is (ω Δt)⁸/630.
_WEIGHTS = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])
_FASTEST = {True: 0.72, False: 0.45}
"""rad/fs, with and without hydrogen: an O–H stretch at 3800 cm⁻¹, a triple bond at 2400."""
_FINEST_PHASE = 1.0  # ω Δt up to which differentiation is trusted: a relative error of 0.2 %
_NOISE = 0.05  # of a thermal speed: what rounded positions may add to differentiated velocities
_SMOOTHING = 25.0  # fs, longer than two periods of any stretch


def fastest(trajectory: Trajectory) -> float:
    """Highest angular frequency to be expected of the elements, rad/fs."""
    return _FASTEST[bool((trajectory.numbers == 1).any())]


def with_velocities(trajectory: Trajectory) -> tuple[Trajectory, str]:
    """Return the trajectory with velocities, differentiated from its positions if need be.

    Returns
    -------
    The trajectory, shorter by four frames at either end of each run if it was differentiated, and
    an empty string; or as it was, and why it has none.
    """
    if trajectory.has_velocities:
        return trajectory, ""
    interval = trajectory.interval
    if interval is None:
        return trajectory, f"{trajectory.short_name} has no velocities, and its times are unknown"
    longest = _FINEST_PHASE / fastest(trajectory)
    if interval > longest:
        return trajectory, (
            f"{trajectory.short_name} has no velocities, and frames {interval:g} fs apart are too "
            f"far for differentiating positions: at most {longest:.2g} fs would do"
        )
    grain = position_grain(trajectory)
    # Rounding to a grain g has a standard deviation of g/√12.
    noise = grain / np.sqrt(12.0) * np.sqrt(2 * (_WEIGHTS**2).sum()) / interval
    speed = float(thermal_speed(trajectory.masses, 300.0).min())
    if noise > _NOISE * speed:
        return trajectory, (
            f"{trajectory.short_name} has no velocities, and its positions, rounded to {grain:g} Å,"
            " are too coarse to be differentiated"
        )
    order = len(_WEIGHTS)
    runs = [
        replace(run[order:-order], velocities=_differentiate(run.positions, interval))
        for run in trajectory
        if len(run) > 2 * order
    ]
    if not runs:
        return trajectory, f"{trajectory.short_name} has no velocities and too few frames"
    made = replace(trajectory, segments=tuple(runs), velocity_source="differentiated")
    return made.noting(
        "it has no velocities: positions were differentiated, which took four frames off either end"
    ), ""


def _differentiate(positions: np.ndarray, interval: float) -> np.ndarray:
    order = len(_WEIGHTS)
    count = len(positions) - 2 * order
    out = np.zeros((count, *positions.shape[1:]))
    for step, weight in enumerate(_WEIGHTS, start=1):
        ahead = positions[order + step : order + step + count]
        behind = positions[order - step : order - step + count]
        out += weight * (ahead - behind)
    return out / interval


def position_grain(trajectory: Trajectory) -> float:
    """Grid in Å that all positions lie on, as compressed and text formats have it; else zero."""
    some = trajectory.pooled("positions", 50)
    for grain in (1e-2, 1e-3, 1e-4):
        steps = some / grain
        # Single precision leaves about 1e-6 Å about each point of the grid.
        if np.abs(steps - np.rint(steps)).max() < 0.05 and np.ptp(some) > grain:
            return grain
    return 0.0


def step_ratio(trajectory: Trajectory) -> Estimate | None:
    """How far atoms move between frames over how far their velocities say that they move.

    Both sides are smoothed over time alike, so that only slow motion is compared, where an integral
    of velocities by Simpson's rule is exact. One for sound trajectories; one half if frames are
    twice as close as their times say.

    Returns
    -------
    Estimate or None
        None where velocities do not come from a file, or frames are too far apart.
    """
    interval = trajectory.interval
    if trajectory.velocity_source != "given" or interval is None:
        return None
    if interval * fastest(trajectory) > 0.98 * np.pi:
        return None
    half = max(1, round(_SMOOTHING / interval))
    window = np.hanning(2 * half + 1)[1:-1]
    window /= window.sum()
    products, squares = [], []
    for run in trajectory:
        if len(run) < 4 * half + 8:
            continue
        moved, told = _steps(run, interval, trajectory.masses)
        moved, told = (_smooth(field, window) for field in (moved, told))
        products.append((moved * told).sum((1, 2)))
        squares.append((told * told).sum((1, 2)))
    if not products:
        return None
    top, bottom = correlated_mean(products), correlated_mean(squares)
    if bottom.value <= 0:
        return None
    ratio = top.value / bottom.value
    # Errors of a ratio are those of its residuals, far smaller than those of either part.
    residual = correlated_mean([p - ratio * s for p, s in zip(products, squares, strict=True)])
    return Estimate(
        ratio, residual.error / bottom.value, residual.samples, residual.freedom, residual.block
    )


def _steps(run: Segment, interval: float, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mass-weighted motion over two frames, and the integral of velocities over them."""
    weight = np.sqrt(masses)[:, None]
    moved = run.positions[2:] - run.positions[:-2]
    v = run.velocities
    assert v is not None  # of runs without, nothing is asked
    told = (interval / 3.0) * (v[:-2] + 4 * v[1:-1] + v[2:])
    return weight * moved, weight * told


def _smooth(field: np.ndarray, window: np.ndarray) -> np.ndarray:
    from scipy.signal import oaconvolve

    smooth: np.ndarray = oaconvolve(field, window[:, None, None], mode="valid", axes=0)
    return smooth
