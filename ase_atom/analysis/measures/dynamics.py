"""Dynamics: vibrational spectra, velocity autocorrelation, relaxation of torsions."""

from __future__ import annotations

import math

import numpy as np
from ase.data import chemical_symbols
from scipy.ndimage import gaussian_filter1d

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.inputs.velocities import step_ratio
from ase_atom.analysis.lines import Line, Missing
from ase_atom.analysis.measures.bands import compare_bands
from ase_atom.analysis.measures.motion import Motion
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.measures.relaxation import compare_relaxation
from ase_atom.analysis.measures.spectra import (
    STEP,
    Spectrum,
    autocorrelation,
    choose_window,
    longest_interval,
    normalised,
    nyquist,
    power_spectrum,
    smoothing,
)
from ase_atom.analysis.plots import Curve, Mark, Panel, Plot, Section
from ase_atom.analysis.statistics import Estimate
from ase_atom.superposition import superposing_rotations

_HIGHEST = {True: 4000.0, False: 2600.0}  # cm⁻¹, with and without hydrogen
_SHORTEST_WINDOW = 200.0  # fs
_LONGEST_LAG = 2000.0  # fs, of the autocorrelation that is drawn


def compare_dynamics(
    pair: Pair, motions: tuple[list[Motion], list[Motion]] | None, reasons: list[str]
) -> tuple[Section, tuple[Spectrum, Spectrum] | None]:
    """Compare dynamics.

    Parameters
    ----------
    pair
        The two trajectories.
    motions
        Of the runs of either; None if one has no velocities.
    reasons
        Why it has none.

    Returns
    -------
    The section, and the spectra of both sides if there are any.
    """
    section = Section("dynamics")
    ratio = step_ratio(pair.trajectory)
    if ratio is not None:
        section.lines.append(
            Line(
                "dynamics",
                "motion beside velocities",
                "distance moved over what velocities say",
                "",
                ratio,
                Estimate(1.0),
                pair.tolerances.step,
            )
        )
    spectra = None
    if motions is None:
        for name in ("vibrational spectrum", "velocity autocorrelation"):
            section.missing.append(Missing("dynamics", name, "; ".join(reasons)))
    else:
        spectra = _compare_spectra(pair, motions, section)
    compare_relaxation(pair, section)
    return section, spectra


def _compare_spectra(
    pair: Pair, motions: tuple[list[Motion], list[Motion]], section: Section
) -> tuple[Spectrum, Spectrum] | None:
    highest = _HIGHEST[bool((pair.reference.numbers == 1).any())]
    for side in pair.sides:
        reason = ""
        if side.interval is None:
            reason = f"the times of {side.short_name} are unknown or uneven"
        elif nyquist(side.interval) < highest:
            reason = (
                f"{side.short_name} has a frame every {side.interval:g} fs, which shows "
                f"wavenumbers up to {nyquist(side.interval):.0f} cm⁻¹ and folds higher ones onto "
                f"these: {longest_interval(highest):g} fs at most would do"
            )
        if reason:
            section.missing.append(Missing("dynamics", "vibrational spectrum", reason))
            return None
    window = choose_window([[(len(r) - 1) * side.interval for r in side] for side in pair.sides])
    if window is None or window < _SHORTEST_WINDOW:
        section.missing.append(
            Missing(
                "dynamics",
                "vibrational spectrum",
                f"runs are too short: {_SHORTEST_WINDOW:g} fs are wanted",
            )
        )
        return None
    signals = [
        _body_signals(pair, side, parts) for side, parts in zip(pair.sides, motions, strict=True)
    ]
    spectra = tuple(
        power_spectrum(signal, side.interval, window, highest)
        for signal, side in zip(signals, pair.sides, strict=True)
    )
    lines, bands = compare_bands(pair, *spectra, window)
    section.lines += lines
    section.plots += [
        _spectrum_plot(pair, spectra, bands),
        _element_plot(pair, signals, window, highest),
        _autocorrelation_plot(pair, signals),
    ]
    resolution = max(one.resolution for one in spectra)
    section.remarks.append(
        f"Spectra are of windows of {window / 1000:.3g} ps, which resolve {resolution:.0f} cm⁻¹ "
        "(full width of a sharp line in a Hann window), of mass-weighted velocities without "
        "translation and rotation, turned into the molecule's frame. Bands are named after the "
        "coordinate that moves most there."
    )
    return spectra


def _body_signals(pair: Pair, side: Trajectory, parts: list[Motion]) -> list[np.ndarray]:
    """Mass-weighted vibrational velocities in the frame that a fixed structure turns with."""
    masses = side.masses
    weights = masses / masses.sum()
    target = pair.reference.segments[0].positions[0]
    target = target - weights @ target
    roots = np.sqrt(masses)[:, None]
    out = []
    for run, motion in zip(side, parts, strict=True):
        centred = run.positions - np.einsum("n,tnx->tx", weights, run.positions)[:, None]
        frames, _ = superposing_rotations(centred, target, masses)
        out.append(((roots * motion.vibration) @ frames).reshape(len(run), -1))
    return out


def _spectrum_plot(
    pair: Pair, spectra: tuple[Spectrum, Spectrum], bands: list[tuple[float, str]]
) -> Plot:
    drawn = []
    for role, one in (("reference", spectra[1]), ("trajectory", spectra[0])):
        sigma = smoothing(one.resolution) / STEP
        power = gaussian_filter1d(one.power, sigma)
        samples = gaussian_filter1d(one.drawn(pair.random), sigma, axis=1)
        low, high = np.quantile(samples, (0.025, 0.975), axis=0)
        drawn.append(Curve(role, one.wavenumbers, power, role, low, high))
    marks = tuple(Mark(position, name) for position, name in bands)
    panel = Panel("", "wavenumber / cm⁻¹", "power / cm", tuple(drawn), marks)
    return Plot(
        "spectrum",
        "dynamics",
        "Vibrational density of states",
        "Power spectrum of the velocities, of unit area, smoothed, with 95 % bootstrap bands; the "
        "reference's bands are named.",
        (panel,),
        columns=1,
    )


def _element_plot(
    pair: Pair, signals: list[list[np.ndarray]], window: float, highest: float
) -> Plot:
    numbers = np.repeat(pair.reference.numbers, 3)
    panels = []
    for number in np.unique(numbers):
        drawn = []
        for role, side, signal in zip(
            ("reference", "trajectory"), reversed(pair.sides), reversed(signals), strict=True
        ):
            own = [run[:, numbers == number] for run in signal]
            found = power_spectrum(own, side.interval, window, highest)
            power = gaussian_filter1d(
                normalised(found.windows.sum(0)), smoothing(found.resolution) / STEP
            )
            drawn.append(Curve(role, found.wavenumbers, power, role))
        panels.append(
            Panel(chemical_symbols[number], "wavenumber / cm⁻¹", "power / cm", tuple(drawn))
        )
    return Plot(
        "spectrum-elements",
        "dynamics",
        "Vibrational density of states by element",
        "Each of unit area.",
        tuple(panels),
    )


def _autocorrelation_plot(pair: Pair, signals: list[list[np.ndarray]]) -> Plot:
    drawn = []
    for role, side, signal in zip(
        ("reference", "trajectory"), reversed(pair.sides), reversed(signals), strict=True
    ):
        shortest = min(len(run) for run in signal)
        lags = max(2, min(shortest // 2, math.ceil(_LONGEST_LAG / side.interval)))
        values = autocorrelation(signal, lags)
        drawn.append(Curve(role, side.interval * np.arange(lags), values, role))
    panel = Panel("", "time / fs", "⟨v(0)·v(t)⟩ / ⟨v²⟩", tuple(drawn))
    return Plot(
        "autocorrelation",
        "dynamics",
        "Velocity autocorrelation",
        "Mass-weighted velocities of the vibration in the molecule's frame.",
        (panel,),
        columns=1,
    )
