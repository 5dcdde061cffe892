"""Vibrational densities of states: power spectra of velocities, and their bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from ase_atom.analysis.statistics import resampled
from ase_atom.units import PS

SPEED_OF_LIGHT = 2.99792458e-5
"""cm/fs"""

STEP = 1.0
"""cm⁻¹ between points of every spectrum."""

LONGEST_WINDOW = 8 * PS  # fs; a longer one resolves no more than anharmonicity leaves
LEAST_WINDOWS = 8
_HANN_WIDTH = 1.44  # full width at half maximum of a Hann window's power, in units of 1/T
_RESAMPLES = 300
_PROMINENCE = 0.03  # of the highest band
_CERTAINTY = 2.0  # a band stands out of its surroundings by so many standard errors


@dataclass(frozen=True)
class Spectrum:
    """A power spectrum, of unit area.

    Attributes
    ----------
    wavenumbers
        cm⁻¹, ``[n]``, from zero in steps of `STEP`.
    windows
        Power in each window or, where there are enough runs, in each run, ``[K, n]``.
    resolution
        Full width of a sharp line, cm⁻¹.
    """

    wavenumbers: np.ndarray
    windows: np.ndarray
    resolution: float

    @property
    def power(self) -> np.ndarray:
        """Mean over windows, of unit area, cm, ``[n]``."""
        return normalised(self.windows.sum(0))

    def drawn(self, random: np.random.Generator) -> np.ndarray:
        """Bootstrap resamples of `power`, ``[R, n]``."""
        return normalised(resampled(self.windows, _RESAMPLES, random))


def normalised(power: np.ndarray) -> np.ndarray:
    """Return a spectrum with unit area under it."""
    return power / (power.sum(-1, keepdims=True) * STEP)


def nyquist(interval: float) -> float:
    """Highest wavenumber that frames so far apart can show, cm⁻¹."""
    return 1.0 / (2 * SPEED_OF_LIGHT * interval)


def longest_interval(wavenumber: float) -> float:
    """Longest time between frames that shows a wavenumber, fs; two digits, rounded down."""
    exact = 1.0 / (2 * SPEED_OF_LIGHT * wavenumber)
    digit = 1 - math.floor(math.log10(exact))
    return math.floor(exact * 10.0**digit) / 10.0**digit


def resolution_of(window: float) -> float:
    """Full width that a window of so many fs gives to a sharp line, cm⁻¹."""
    return _HANN_WIDTH / (SPEED_OF_LIGHT * window)


def choose_window(runs: Sequence[Sequence[float]]) -> float | None:
    """A window in fs that fits into both sides often enough, None if there is none.

    Parameters
    ----------
    runs
        Lengths in fs of the runs of either side.
    """
    longest = LONGEST_WINDOW
    for lengths in runs:
        usable = sorted(lengths)
        # As long as the runs' median; one long run is cut so that error bars can be given.
        middle = usable[len(usable) // 2]
        total = sum(lengths)
        longest = min(longest, middle, total / (0.5 * (LEAST_WINDOWS + 1)))
    return longest if longest > 0 else None


def power_spectrum(
    series: Sequence[np.ndarray], interval: float, window: float, highest: float
) -> Spectrum | None:
    """Power spectrum of velocities, or other signals, by Welch's method.

    Windows overlap by half and are tapered by a Hann window (Welch, IEEE Trans. Audio
    Electroacoust. 15, 70 (1967)); by the Wiener–Khinchin theorem their mean power is the Fourier
    transform of the autocorrelation. Those of one run are summed where runs are many: what differs
    between runs, such as their energies, then shows in the error bars.

    Parameters
    ----------
    series
        Signals of each run, ``[T, C]``, weighted as they are to be summed over C.
    interval
        fs between frames.
    window
        fs.
    highest
        cm⁻¹ up to which the spectrum is wanted.

    Returns
    -------
    Spectrum or None
        None if no run is as long as the window.
    """
    length = int(window / interval + 1e-6)
    if length < 8:
        return None
    taper = np.hanning(length + 2)[1:-1]
    grid = np.arange(0.0, highest + STEP, STEP)
    padded = max(length, math.ceil(1.0 / (SPEED_OF_LIGHT * interval * 2 * STEP)))
    own = np.fft.rfftfreq(padded, interval) / SPEED_OF_LIGHT
    groups = []
    for run in series:
        starts = range(0, len(run) - length + 1, max(1, length // 2))
        found = []
        for start in starts:
            piece = run[start : start + length]
            piece = (piece - piece.mean(0)) * taper[:, None]
            power = (np.abs(np.fft.rfft(piece, padded, axis=0)) ** 2).sum(1)
            found.append(np.interp(grid, own, power))
        if found:
            groups.append(np.stack(found))
    if not groups:
        return None
    if len(groups) >= LEAST_WINDOWS:
        windows = np.stack([group.mean(0) for group in groups])
    else:
        windows = np.concatenate(groups)
    return Spectrum(grid, windows, resolution_of(length * interval))


def autocorrelation(series: Sequence[np.ndarray], lags: int) -> np.ndarray:
    """Normalised autocorrelation of signals ``[T, C]`` of each run, up to so many frames.

    Each lag is averaged over all pairs of frames of one run.
    """
    total = np.zeros(lags)
    pairs = np.zeros(lags)
    for run in series:
        count = len(run)
        padded = 1 << (2 * count - 1).bit_length()
        power = (np.abs(np.fft.rfft(run, padded, axis=0)) ** 2).sum(1)
        found = np.fft.irfft(power, padded)[: min(lags, count)]
        total[: len(found)] += found
        pairs[: len(found)] += count - np.arange(len(found))
    out = total / np.maximum(pairs, 1)
    return out / out[0]


@dataclass(frozen=True)
class Band:
    """A band of a spectrum.

    Attributes
    ----------
    position
        cm⁻¹.
    error
        Standard error of the position from the bootstrap, cm⁻¹.
    height
        Of the smoothed spectrum there, cm.
    """

    position: float
    error: float
    height: float


def smoothing(resolution: float) -> float:
    """Standard deviation in cm⁻¹ by which spectra are smoothed before bands are looked for."""
    return max(6.0, 0.5 * resolution)


def find_bands(spectrum: Spectrum, random: np.random.Generator) -> list[Band]:
    """Find the maxima of a smoothed spectrum that stand out of its noise, by position.

    A band's prominence must be at least 3 % of the highest band, and twice the bootstrap's
    standard error of the power there.
    """
    sigma = smoothing(spectrum.resolution) / STEP
    power = gaussian_filter1d(spectrum.power, sigma)
    drawn = gaussian_filter1d(spectrum.drawn(random), sigma, axis=1)
    scatter = drawn.std(0)
    peaks, facts = find_peaks(power, prominence=_PROMINENCE * power.max())
    bands = []
    for peak, prominence in zip(peaks, facts["prominences"], strict=True):
        if len(spectrum.windows) > 1 and prominence < _CERTAINTY * scatter[peak]:
            continue
        reach = round(2 * sigma)
        low, high = max(0, peak - reach), min(len(power), peak + reach + 1)
        places = low + drawn[:, low:high].argmax(1)
        error = float(places.std(ddof=1)) * STEP if len(spectrum.windows) > 1 else math.nan
        bands.append(Band(_vertex(power, peak), error, float(power[peak])))
    return bands


def _vertex(power: np.ndarray, peak: int) -> float:
    """Position of a maximum by the parabola through its three points, cm⁻¹."""
    if not 0 < peak < len(power) - 1:
        return peak * STEP
    left, middle, right = power[peak - 1 : peak + 2]
    curvature = left - 2 * middle + right
    shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return (peak + float(np.clip(shift, -0.5, 0.5))) * STEP


def time_scale(ours: Spectrum, theirs: Spectrum) -> tuple[float, float]:
    """Factor by which our wavenumbers are to be multiplied to fit theirs best, and the overlap.

    The overlap ∫ √(S₁ S₂) is one for equal spectra (Bhattacharyya's coefficient).
    """
    sigma = 3 * smoothing(max(ours.resolution, theirs.resolution)) / STEP
    mine, other = (gaussian_filter1d(side.power, sigma) for side in (ours, theirs))
    grid = ours.wavenumbers

    def overlap(factor: float) -> float:
        moved = np.interp(grid / factor, grid, mine, right=0.0) / factor
        return float(np.sqrt(np.clip(moved * other, 0, None)).sum() * STEP)

    factors = np.exp(np.linspace(np.log(0.1), np.log(10.0), 921))
    found = [overlap(factor) for factor in factors]
    best = int(np.argmax(found))
    return float(factors[best]), found[best]
