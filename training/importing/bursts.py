"""A checked trajectory as reference bursts: velocities, an even time grid, division by time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BPoly, CubicHermiteSpline

from ase_atom.errors import ConfigError, DataError
from ase_atom.units import AMU_A2_FS2_IN_EV
from training.data.burst import Burst
from training.importing.checking import (
    accelerations,
    check_geometry,
    check_motion,
    check_temperature,
    thermostat_share,
)
from training.importing.reading import Frames, read_frames

LONGEST_INTERVAL = 2.0
"""Frames further apart than this, in fs, do not resolve the motion of hydrogens."""
GRID = 1.0
"""Time between frames of a burst, fs."""
WEAK = 0.1
"""Largest part of a thermostat in the energy's changes over one jump, see `thermostat_share`."""


def import_trajectory(
    path: Path,
    *,
    name: str,
    index: int = 0,
    interval: float | None = None,
    theory: str | None = None,
    format: str | None = None,
) -> Burst:
    """Read and check a trajectory, and make a burst of it.

    Parameters
    ----------
    path
        See `training.importing.reading.read_frames`.
    name, index
        Of the burst: its key is ``name/index``.
    interval
        Time between frames, fs; by default what the file says.
    theory
        Level of theory.
    format
        ASE's name of the file's format.

    Returns
    -------
    Burst
        With a frame every `GRID` fs, without the trajectory's first and last frame.

    Raises
    ------
    DataError
        If the trajectory cannot be what it is said to be, or a thermostat moved it.
    ConfigError
        If the level of theory is empty.
    """
    if theory is not None and not theory.strip():
        raise ConfigError("the level of theory is empty: name it, or leave it out")
    frames = read_frames(path, format)
    interval = _interval(frames, interval)
    smiles = check_geometry(frames)
    check_motion(frames, interval)
    frames = centred(frames)
    velocities = from_differences(frames, interval)
    given = frames.velocities
    frames = trimmed(frames)
    temperature = check_temperature(str(path), velocities, frames.masses)
    if given is not None:
        velocities = _compared(frames, given[1:-1], velocities)
    share = _checked_share(frames, velocities, interval)
    positions, velocities, forces, energies = on_grid(frames, velocities, interval)
    return Burst(
        key=f"{name}/{index:05d}",
        smiles=smiles,
        numbers=frames.numbers,
        masses=frames.masses,
        positions=positions,
        velocities=velocities,
        energies=energies,
        forces=forces,
        interval=GRID,
        temperature_K=round(temperature, 1),
        seed=0,
        attrs={
            "theory": theory or "unknown",
            "ensemble": "nve",
            "source": path.name,
            "source_interval_fs": interval,
            "thermostat_share": share,
        },
    )


def _interval(frames: Frames, given: float | None) -> float:
    """The time between frames, from the user or the file, fs."""
    path = frames.name
    if given is not None and frames.interval and abs(frames.interval / given - 1) > 1e-3:
        raise DataError(f"{path}: its frames are {frames.interval:g} fs apart, not {given:g}")
    interval = frames.interval if given is None else given
    if interval is None:
        raise DataError(
            f"{path} does not say how far frames are apart: give --interval in fs; geometries that "
            "are no path, of ase-atom sample, go with --harvest beside a trajectory"
        )
    if not 0 < interval <= LONGEST_INTERVAL:
        raise DataError(
            f"{path}: frames {interval:g} fs apart do not resolve how hydrogens move: write one "
            f"every {GRID:g} fs, or at least every {LONGEST_INTERVAL:g}"
        )
    return interval


def _checked_share(frames: Frames, velocities: NDArray, interval: float) -> float:
    """The share of a thermostat in the changes of the energy, see `thermostat_share`."""
    path, lag = frames.name, max(1, round(16 / interval))
    if len(velocities) <= lag:
        raise DataError(
            f"{path}: its {len(velocities) + 2} frames span {(len(velocities) + 1) * interval:g} "
            "fs, hardly one jump of 16 fs: give a longer trajectory"
        )
    kinetic = 0.5 * AMU_A2_FS2_IN_EV * (velocities**2 * frames.masses[:, None]).sum((1, 2))
    share = thermostat_share(frames.energies, kinetic, lag)
    if share > WEAK:
        raise DataError(
            f"{path}: its total energy changes by {share:.2f} of the kinetic energy's own change "
            "within 16 fs: a thermostat's kicks cannot be learned; run without one, or with one "
            "that acts over picoseconds"
        )
    return share


def centred(frames: Frames) -> Frames:
    """The same about a centre of mass at rest, which may drift evenly."""
    weights = (frames.masses / frames.masses.sum())[:, None]
    found = {}
    for what in ("positions", "velocities"):
        values = getattr(frames, what)
        if values is not None:
            found[what] = values - (weights * values).sum(1, keepdims=True)
    return replace(frames, **found)


def trimmed(frames: Frames) -> Frames:
    """Without the first and the last frame."""
    names = ("positions", "forces", "energies", "velocities")
    values = {name: getattr(frames, name) for name in names}
    return replace(frames, **{name: None if v is None else v[1:-1] for name, v in values.items()})


def from_differences(frames: Frames, interval: float) -> NDArray:
    """Velocities from positions and forces, Å/fs, ``[T − 2, N, 3]``, at all but the end frames.

    Central differences, corrected by the accelerations: v = (x₊ − x₋)/2h − h (a₊ − a₋)/12, exact
    to the fourth order where differences alone are to the second (8 % off for O-H at 1 fs).
    """
    x, a, h = frames.positions, accelerations(frames), interval
    return (x[2:] - x[:-2]) / (2 * h) - h * (a[2:] - a[:-2]) / 12


def _compared(frames: Frames, given: NDArray, found: NDArray) -> NDArray:
    """The file's velocities where they agree with those from differences.

    Raises
    ------
    DataError
        If they are a multiple of those, or unlike.
    """
    slope = float((given * found).sum() / (found**2).sum())
    likeness = float((given * found).sum() / np.sqrt((given**2).sum() * (found**2).sum()))
    if likeness < 0.9:
        raise DataError(
            f"{frames.name}: its velocities are not those of its positions (correlation "
            f"{likeness:.2f}): take them out of the file, they follow from the positions"
        )
    if abs(slope - 1) > 0.03:
        raise DataError(
            f"{frames.name}: its velocities are {slope:.4g} times those of its positions: correct "
            "their unit or the time between frames, or take them out of the file"
        )
    # A leapfrog's velocities are of half a step earlier: like enough, but not of these positions.
    return given if likeness > 0.9995 else found


def on_grid(
    frames: Frames, velocities: NDArray, interval: float
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Positions, velocities, forces and energies every `GRID` fs.

    Every n-th frame where the interval divides the grid; else polynomials of the fifth degree
    through positions, velocities and accelerations (positions and velocities), and of the third
    through forces with their slopes, and through energies, whose slope is −F·v.
    """
    every = round(GRID / interval)
    if every >= 1 and abs(every * interval - GRID) < 1e-6:
        chosen = slice(None, None, every)
        return (
            frames.positions[chosen],
            velocities[chosen],
            frames.forces[chosen],
            frames.energies[chosen],
        )
    times = interval * np.arange(len(velocities))
    grid = GRID * np.arange(int(times[-1] / GRID + 1e-9) + 1)
    sides = [frames.positions, velocities, accelerations(frames)]
    path = BPoly.from_derivatives(times, np.stack(sides, axis=1))
    slopes = -(frames.forces * velocities).sum((1, 2))
    forces = CubicHermiteSpline(times, frames.forces, np.gradient(frames.forces, interval, axis=0))
    energies = CubicHermiteSpline(times, frames.energies, slopes)
    return path(grid), path.derivative()(grid), forces(grid), energies(grid)


def divide(burst: Burst, share: float, gap: float = 50.0, shortest: float = 80.0) -> list[Burst]:
    """Two bursts of one: its first part to learn from and, after a gap, its last to measure on.

    Parameters
    ----------
    burst
        A long one.
    share
        Of its length to hold out.
    gap
        Between the parts, fs, so that the second does not begin where the first ends.
    shortest
        Length of the shorter part at least, fs.

    Raises
    ------
    DataError
        If it is too short.
    """
    frames = len(burst.energies)
    late = max(round(share * frames), round(shortest / burst.interval))
    early = frames - late - round(gap / burst.interval)
    if early * burst.interval < shortest:
        raise DataError(
            f"{burst.key}: {(frames - 1) * burst.interval:g} fs are too few to learn from one part "
            "and measure on another: give a longer trajectory, or several"
        )
    name, _, index = burst.key.partition("/")
    pieces = []
    for part, number, first, last in (
        ("train", 2 * int(index), 0, early),
        ("validation", 2 * int(index) + 1, frames - late, frames),
    ):
        key = f"{name}/{number:05d}"
        pieces.append(burst.cut(first, last, key=key, part=part, piece_of=burst.key))
    return pieces
