"""Infrared spectra, from the dipoles of frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from scipy.ndimage import gaussian_filter1d

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Missing
from ase_atom.analysis.measures.bands import compare_bands
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.measures.spectra import (
    SPEED_OF_LIGHT,
    STEP,
    Spectrum,
    choose_window,
    nyquist,
    power_spectrum,
    smoothing,
)
from ase_atom.analysis.plots import Curve, Mark, Panel, Plot, Section
from ase_atom.errors import ConfigError

_HIGHEST = {True: 4000.0, False: 2600.0}  # cm⁻¹, with and without hydrogen


def with_dipoles(trajectory: Trajectory, calculator: Calculator) -> Trajectory:
    """Return a trajectory with the dipole of every frame, in e Å.

    Raises
    ------
    ConfigError
        If the calculator has no dipoles.
    """
    if "dipole" not in calculator.implemented_properties:
        raise ConfigError("an infrared spectrum needs --energy with a calculator that has dipoles")
    atoms = Atoms(trajectory.numbers)
    atoms.calc = calculator
    runs = []
    for run in trajectory:
        dipoles = np.empty((len(run), 3))
        for frame, positions in enumerate(run.positions):
            atoms.positions = positions
            dipoles[frame] = atoms.get_dipole_moment()
        runs.append(replace(run, dipoles=dipoles))
    return replace(trajectory, segments=tuple(runs))


def compare_infrared(
    pair: Pair, sides: tuple[Trajectory, Trajectory], source: str, section: Section
) -> None:
    """Add the infrared spectrum to a section, where both sides have dipoles."""
    reason = _obstacle(pair, sides)
    window = None
    if not reason:
        window = choose_window([[(len(r) - 1) * side.interval for r in side] for side in sides])
        if window is None or window < 200.0:
            reason = "runs are too short"
    if reason:
        section.missing.append(Missing("dynamics", "infrared spectrum", reason))
        return
    highest = _HIGHEST[bool((pair.reference.numbers == 1).any())]
    spectra = [infrared_spectrum(side, window, highest) for side in sides]
    lines, bands = compare_bands(pair, *spectra, window, "infrared")
    section.lines += lines
    drawn = []
    for role, one in zip(("trajectory", "reference"), spectra, strict=True):
        sigma = smoothing(one.resolution) / STEP
        samples = gaussian_filter1d(one.drawn(pair.random), sigma, axis=1)
        low, high = np.quantile(samples, (0.025, 0.975), axis=0)
        power = gaussian_filter1d(one.power, sigma)
        drawn.append(Curve(role, one.wavenumbers, power, role, low, high))
    marks = tuple(Mark(position, name) for position, name in bands)
    section.plots.append(
        Plot(
            "infrared",
            "dynamics",
            "Infrared spectrum",
            f"Power spectrum of the dipole's rate ({source}), classical, of unit area, smoothed, "
            "with 95 % bootstrap bands.",
            (Panel("", "wavenumber / cm⁻¹", "absorption / cm", tuple(drawn), marks),),
            columns=1,
        )
    )


def _obstacle(pair: Pair, sides: tuple[Trajectory, Trajectory]) -> str:
    highest = _HIGHEST[bool((pair.reference.numbers == 1).any())]
    for side in sides:
        if any(run.dipoles is None for run in side):
            return f"{side.short_name} has no dipoles, and --infrared was not asked for"
        if side.interval is None or nyquist(side.interval) < highest:
            return f"the frames of {side.short_name} are too far apart, or their times unknown"
    return ""


def infrared_spectrum(side: Trajectory, window: float, highest: float) -> Spectrum:
    """Power spectrum of the time derivative of the dipole.

    The absorption of a classical system is proportional to it (McQuarrie, Statistical Mechanics,
    chapter 21). The central difference that takes the derivative is corrected for exactly.
    """
    rates: list[np.ndarray] = [
        (run.dipoles[2:] - run.dipoles[:-2]) / (2 * side.interval) for run in side if len(run) > 2
    ]
    found = power_spectrum(rates, side.interval, window - 2 * side.interval, highest)
    phase = 2 * np.pi * SPEED_OF_LIGHT * found.wavenumbers * side.interval
    response = np.sinc(phase / np.pi)
    # Near the Nyquist wavenumber a central difference is blind.
    return replace(found, windows=found.windows / np.maximum(response, 0.1) ** 2)
