"""The motion of one trajectory along the normal modes of its molecule: a spectrum of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.measures.spectra import Band, Spectrum, find_bands
from ase_atom.analysis.measures.spectra import power_spectrum as windowed
from ase_atom.analysis.molecule.harmonic import HarmonicGuess, NormalModes
from ase_atom.analysis.molecule.minima import find_minima
from ase_atom.analysis.power import (
    checked_interval,
    checked_window,
    derivative_gain,
    motions,
    write_columns,
)
from ase_atom.errors import DataError
from ase_atom.files import replace_file
from ase_atom.superposition import superposing_rotations

_STARTS = 6  # frames that are relaxed to find the minima
_MOST_RELABELLINGS = 48
_CLEARLY = 0.02  # Å nearer to the minimum
_MANY = 4096  # frames by which minima are counted


@dataclass(frozen=True)
class ModeSpectra:
    """Power spectra of the velocities along normal modes.

    Attributes
    ----------
    wavenumbers
        cm⁻¹, ``[n]``.
    harmonic
        Wavenumbers of the modes, cm⁻¹, negative for imaginary ones, ``[M]``.
    powers
        Of each mode, of unit area, cm, ``[M, n]``.
    bands
        The highest band of each mode; None if none stands out.
    window, resolution, windows, source
        As of `ase_atom.analysis.power.PowerSpectrum`.
    minima
        How many minima the frames relax to. The modes are those of the one most visited.
    visited
        Share of the frames that are nearest to that minimum.
    """

    wavenumbers: NDArray[Any]
    harmonic: NDArray[Any]
    powers: NDArray[Any]
    bands: tuple[Band | None, ...]
    window: float
    resolution: float
    windows: int
    source: str
    minima: int
    visited: float

    def write_csv(self, path: Path) -> None:
        """Write wavenumbers, and the power of each mode in a column named by its wavenumber."""
        names = [f"mode{n}_{value:.1f}" for n, value in enumerate(self.harmonic, 1)]
        write_columns(path, ["wavenumber_cm-1", *names], [self.wavenumbers, *self.powers])

    def draw(self, path: Path, title: str = "") -> None:
        """Draw the modes above each other, with their harmonic wavenumbers as marks."""
        from matplotlib.figure import Figure

        count = len(self.powers)
        figure = Figure(figsize=(7, 1.5 + 0.25 * count), layout="constrained")
        axes = figure.subplots()
        for row, (power, harmonic) in enumerate(zip(self.powers, self.harmonic, strict=True), 1):
            axes.fill_between(self.wavenumbers, row, row + 0.9 * power / power.max(), lw=0.5)
            if harmonic > 0:
                axes.plot([harmonic, harmonic], [row, row + 0.9], "k-", lw=0.8)
        axes.set_xlim(0, self.wavenumbers[-1])
        axes.set_ylim(0.8, count + 1.2)
        axes.set_xlabel("wavenumber (cm⁻¹)")
        axes.set_ylabel("normal mode; line: harmonic")
        axes.set_title(title, fontsize=10)
        replace_file(path, lambda scratch: figure.savefig(scratch, dpi=150, format=path.suffix[1:]))


def mode_spectra(
    trajectory: Trajectory,
    calculator: Calculator,
    highest: float | None = None,
    window: float | None = None,
) -> ModeSpectra:
    """Compute the power spectrum of the velocity along each normal mode.

    Some frames are relaxed with the calculator. The modes are those of the minimum that most
    frames are nearest to. Every frame is laid on it, atoms that are equivalent exchanged where
    that brings it nearer, and its velocities in the Eckart frame are projected on the modes.

    Parameters
    ----------
    trajectory
        With times.
    calculator
        Energies and forces of any level of theory.
    highest, window
        As of `ase_atom.analysis.power.power_spectrum`.

    Raises
    ------
    DataError
        As of `power_spectrum`, or if the calculator fails or no frame relaxes to a minimum.
    ConfigError
        For a window that is longer than the runs, or too short.
    """
    interval, top = checked_interval(trajectory, highest)
    runs = motions(trajectory, interval)
    chosen = checked_window(trajectory, [(len(v) - 1) * interval for _, v in runs], window)
    guess = _minima(trajectory, calculator)
    minima, counts = len(guess.minima), _visits(guess, trajectory.pooled("positions", _MANY))
    most = int(counts.argmax())
    minimum = guess.minima[most]
    rates = [_along(minimum, guess.relabellings[:_MOST_RELABELLINGS], x, v) for x, v in runs]
    gain, bands, powers = None, [], []
    for mode in range(rates[0].shape[1]):
        found = windowed([rate[:, mode : mode + 1] for rate in rates], interval, chosen, top)
        assert found is not None  # windows are checked
        if gain is None:
            gain = derivative_gain(trajectory, interval, found.wavenumbers)
        found = replace(found, windows=found.windows * gain)
        powers.append(found.power)
        bands.append(_highest(found))
    assert found is not None
    return ModeSpectra(
        found.wavenumbers,
        minimum.wavenumbers,
        np.stack(powers),
        tuple(bands),
        chosen,
        found.resolution,
        len(found.windows),
        "velocities" if trajectory.has_velocities else "positions",
        minima,
        float(counts[most] / counts.sum()),
    )


def _minima(trajectory: Trajectory, calculator: Calculator) -> HarmonicGuess:
    try:
        found = find_minima(trajectory.structures(_STARTS), calculator)
    except Exception as error:  # calculators raise whatever they like
        text = str(error).strip() or type(error).__name__
        raise DataError(
            f"{calculator.name} failed while frames of {trajectory.short_name} were relaxed "
            f"({text.splitlines()[0]})"
        ) from error
    if found is None:
        raise DataError(
            f"no frame of {trajectory.short_name} relaxes to a minimum of {calculator.name}, and "
            "without one there are no normal modes"
        )
    return found


def _visits(guess: HarmonicGuess, frames: NDArray[Any]) -> NDArray[Any]:
    """Count the frames ``[T, N, 3]`` that are nearest to each minimum."""
    masses = guess.minima[0].masses
    centre = np.einsum("n,tnx->tx", masses / masses.sum(), frames)[:, None]
    return np.bincount(guess.nearest(frames - centre)[0], minlength=len(guess.minima))


def _along(
    minimum: NormalModes, relabellings: NDArray[Any], x: NDArray[Any], v: NDArray[Any]
) -> NDArray[Any]:
    """Velocities along the modes of a minimum, Å amu½/fs, ``[T, M]``."""
    weights = minimum.masses / minimum.masses.sum()
    x = x - np.einsum("n,tnx->tx", weights, x)[:, None]
    v = v - np.einsum("n,tnx->tx", weights, v)[:, None]
    ways = [(order, sign) for order in relabellings for sign in (1.0, -1.0)]
    out = np.empty((len(x), len(minimum.squares)))
    roots = np.repeat(np.sqrt(minimum.masses), 3)
    chosen = _kept_ways(minimum, ways, x)
    for index in np.unique(chosen):
        order, sign = ways[index]
        rows = chosen == index
        there, going = sign * x[rows][:, order], sign * v[rows][:, order]
        frame, _ = superposing_rotations(there, minimum.positions, minimum.masses)
        _, internal, _ = minimum.in_eckart_frame(there @ frame, going @ frame)
        out[rows] = (internal.reshape(len(internal), -1) * roots) @ minimum.vectors
    return out


def _kept_ways(
    minimum: NormalModes, ways: Sequence[tuple[NDArray[Any], float]], x: NDArray[Any]
) -> NDArray[Any]:
    """Index of the way in which each frame is laid on the minimum, ``[T]``.

    A symmetric minimum has several that are as good, and under some of them a mode changes its
    sign: so each frame keeps the way of the one before it until another is clearly better.
    """
    total = minimum.masses.sum()
    distances = np.empty((len(ways), len(x)))
    for index, (order, sign) in enumerate(ways):
        _, misfit = superposing_rotations(sign * x[:, order], minimum.positions, minimum.masses)
        distances[index] = np.sqrt(np.clip(misfit, 0, None) / total)
    best, kept = distances.argmin(0), np.empty(len(x), dtype=int)
    now = best[0]
    for frame in range(len(x)):
        if distances[now, frame] > distances[best[frame], frame] + _CLEARLY:
            now = best[frame]
        kept[frame] = now
    return kept


def _highest(spectrum: Spectrum) -> Band | None:
    found = find_bands(spectrum, np.random.default_rng(0))
    return max(found, key=lambda band: band.height, default=None)
