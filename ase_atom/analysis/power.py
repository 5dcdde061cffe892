"""The power spectrum of one trajectory's velocities, whole and by element."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.inputs.velocities import position_grain
from ase_atom.analysis.measures.spectra import (
    SPEED_OF_LIGHT,
    choose_window,
    longest_interval,
    nyquist,
)
from ase_atom.analysis.measures.spectra import (
    power_spectrum as windowed,
)
from ase_atom.errors import ConfigError, DataError
from ase_atom.files import replace_file
from ase_atom.units import thermal_speed

HIGHEST = {True: 4000.0, False: 2600.0}
"""cm⁻¹, above all bands of molecules with and without hydrogen."""

NOISE = 0.1
"""Of a thermal speed: what rounded positions may add to velocities taken from them."""

SHORTEST_WINDOW = 200.0
"""fs; a shorter one resolves 240 cm⁻¹ and worse."""


@dataclass(frozen=True)
class PowerSpectrum:
    """A power spectrum of velocities.

    Attributes
    ----------
    wavenumbers
        cm⁻¹, ``[n]``.
    total
        Mass-weighted power of all atoms, of unit area, cm, ``[n]``.
    elements
        The part of each element in it, ``[n]``, by symbol.
    window
        fs, tapered by a Hann window; windows overlap by half.
    resolution
        Full width at half maximum of a sharp line, cm⁻¹.
    windows
        How many were averaged.
    source
        ``velocities`` or ``positions`` of the file.
    """

    wavenumbers: NDArray[Any]
    total: NDArray[Any]
    elements: Mapping[str, NDArray[Any]]
    window: float
    resolution: float
    windows: int
    source: str

    def write_csv(self, path: Path) -> None:
        """Write wavenumber, total and elements in columns."""
        names = ["wavenumber_cm-1", "total_cm", *(f"{symbol}_cm" for symbol in self.elements)]
        write_columns(path, names, [self.wavenumbers, self.total, *self.elements.values()])

    def draw(self, path: Path, title: str = "") -> None:
        """Draw it to a picture."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.wavenumbers, self.total, "k-", lw=1, label="all atoms")
        for symbol, power in self.elements.items():
            axes.plot(self.wavenumbers, power, lw=0.8, label=symbol)
        axes.set_xlim(0, self.wavenumbers[-1])
        axes.set_ylim(0, None)
        axes.set_xlabel("wavenumber (cm⁻¹)")
        axes.set_ylabel("power of velocities (cm)")
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False)
        replace_file(path, lambda scratch: figure.savefig(scratch, dpi=150, format=path.suffix[1:]))


def write_columns(path: Path, names: Sequence[str], columns: Sequence[NDArray[Any]]) -> None:
    """Write columns of numbers, the first of wavenumbers, as CSV in place of the file there."""

    def rows(scratch: Path) -> None:
        with scratch.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            for row in zip(*columns, strict=True):
                writer.writerow([f"{row[0]:g}", *(f"{value:.6e}" for value in row[1:])])

    replace_file(path, rows)


def power_spectrum(
    trajectory: Trajectory, highest: float | None = None, window: float | None = None
) -> PowerSpectrum:
    """Compute the power spectrum of mass-weighted velocities about the centre of mass.

    By Welch's method (IEEE Trans. Audio Electroacoust. 15, 70 (1967)). Rotation shows below some
    100 cm⁻¹. Where a file has no velocities, the spectrum is that of the positions, times ω².

    Parameters
    ----------
    trajectory
        With times.
    highest
        Of the spectrum, cm⁻¹; by default above all bands.
    window
        fs; by default as long as the runs allow with error, at most 8 ps.

    Raises
    ------
    DataError
        If frames are too far apart for the bands, or too few, or times are unknown.
    ConfigError
        For a window that is longer than the runs, or too short.
    """
    interval, top = checked_interval(trajectory, highest)
    fields = [velocities for _, velocities in motions(trajectory, interval)]
    chosen = checked_window(trajectory, [(len(run) - 1) * interval for run in fields], window)
    masses, numbers = trajectory.masses, trajectory.numbers
    roots = np.sqrt(masses)[:, None]
    share = (masses / masses.sum())[None, :, None]
    signals = []
    for velocities in fields:
        about = velocities - (share * velocities).sum(1, keepdims=True)
        signals.append(roots * about)
    parts = {}
    for number in np.unique(numbers):
        own = [run[:, numbers == number].reshape(len(run), -1) for run in signals]
        found = windowed(own, interval, chosen, top)
        assert found is not None
        parts[chemical_symbols[number]] = found
    first = next(iter(parts.values()))
    # Windows of the elements are of the same pieces: powers add up.
    gain = derivative_gain(trajectory, interval, first.wavenumbers)
    powers = {symbol: one.windows.sum(0) * gain for symbol, one in parts.items()}
    step = float(first.wavenumbers[1] - first.wavenumbers[0])
    area = step * sum(float(power.sum()) for power in powers.values())
    elements = {symbol: power / area for symbol, power in powers.items()}
    return PowerSpectrum(
        first.wavenumbers,
        np.sum(list(elements.values()), axis=0),
        elements,
        chosen,
        first.resolution,
        len(first.windows),
        "velocities" if trajectory.has_velocities else "positions",
    )


def motions(trajectory: Trajectory, interval: float) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Positions and velocities of each run at the same times, each ``[T, N, 3]``.

    Where the file has no velocities, they are displacements between frames over the interval, and
    positions are halfway between frames.

    Raises
    ------
    DataError
        If the file has no velocities, and rounds positions so much that theirs would be noise.
    """
    if trajectory.has_velocities:
        given = trajectory.series("positions"), trajectory.series("velocities")
        return list(zip(*given, strict=True))
    halfway = [0.5 * (run.positions[1:] + run.positions[:-1]) for run in trajectory]
    return list(zip(halfway, _differences(trajectory, interval), strict=True))


def derivative_gain(
    trajectory: Trajectory, interval: float, wavenumbers: NDArray[Any]
) -> NDArray[Any]:
    """What the power by `motions` is to be multiplied by at each wavenumber, ``[n]``."""
    if trajectory.has_velocities:
        return np.ones_like(wavenumbers)
    half = np.pi * SPEED_OF_LIGHT * interval * wavenumbers  # ω Δt / 2
    gain: NDArray[Any] = 1.0 / np.sinc(half / np.pi) ** 2
    return gain


def checked_interval(trajectory: Trajectory, highest: float | None) -> tuple[float, float]:
    """Return the time between frames in fs and the highest wavenumber in cm⁻¹.

    Raises
    ------
    DataError
        If times are unknown, or frames so far apart that bands fold.
    ConfigError
        For a wavenumber that cannot be meant.
    """
    above_all = HIGHEST[bool((trajectory.numbers == 1).any())]
    top = above_all if highest is None else highest
    if not 0 < top <= 2e5:
        raise ConfigError(f"the highest wavenumber must lie in (0, 200000] cm⁻¹, not {top:g}")
    interval, name = trajectory.interval, trajectory.short_name
    if interval is None:
        raise DataError(f"the times of {name} are unknown or uneven, and a spectrum needs them")
    needed = max(top, above_all)
    if nyquist(interval) < needed:
        raise DataError(
            f"frames of {name} are {interval:g} fs apart: wavenumbers above "
            f"{nyquist(interval):.0f} cm⁻¹ fold onto those below, and bands go up to "
            f"{needed:.0f} cm⁻¹; write a frame every {longest_interval(needed):g} fs or less "
            f"(ase-atom run --frame-interval {longest_interval(needed):g}fs)"
        )
    return interval, top


def checked_window(trajectory: Trajectory, lengths: list[float], window: float | None) -> float:
    """Return the length of the windows in fs, of runs of some lengths.

    Raises
    ------
    DataError
        If the runs are too short for any.
    ConfigError
        For one that is too short, or longer than the runs.
    """
    chosen = choose_window([lengths]) if window is None else window
    if chosen is None or chosen < SHORTEST_WINDOW or chosen > max(lengths):
        if window is None:
            name = trajectory.short_name
            raise DataError(f"{name} is too short for a spectrum: runs of 1 ps and more are wanted")
        raise ConfigError(
            f"the window must be {SHORTEST_WINDOW:g} fs to the {max(lengths):g} fs of the longest "
            f"run, not {window:g} fs"
        )
    return chosen


def _differences(trajectory: Trajectory, interval: float) -> list[NDArray[Any]]:
    """Return displacements between frames over the interval, ``[T - 1, N, 3]`` of each run.

    Of an oscillation they are its velocities times sin(ω Δt/2)/(ω Δt/2), which the spectrum is
    divided by.

    Raises
    ------
    DataError
        If the file rounds positions so much that this would be noise.
    """
    # Rounding to a grain g has a standard deviation of g/√12, and a difference √2 times that.
    grain = position_grain(trajectory)
    speed = float(thermal_speed(trajectory.masses, 300.0).min())
    if grain / np.sqrt(6.0) / interval > NOISE * speed:
        raise DataError(
            f"{trajectory.short_name} has no velocities, and its positions are rounded to "
            f"{grain:g} Å, too coarse for a spectrum: a .dcd, .trr, .nc, .h5 or .traj file would do"
        )
    return [np.diff(run.positions, axis=0) / interval for run in trajectory.segments]
