"""Infrared spectra, from the dipoles of frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
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
from ase_atom.errors import ConfigError, DataError
from ase_atom.operator.protocol import Charges
from ase_atom.state import PhaseState

_AT_ONCE = 64
"""Frames of which an operator computes the dipoles together."""

_HIGHEST = {True: 4000.0, False: 2600.0}  # cm⁻¹, with and without hydrogen


def with_dipoles(
    trajectory: Trajectory,
    calculator: Calculator,
    name: str = "--energy",
    done: Callable[[], object] = lambda: None,
) -> Trajectory:
    """Return a trajectory with the dipole of every frame about its centre of mass, in e Å.

    Parameters
    ----------
    trajectory
        One molecule.
    calculator
        Computes dipoles.
    name
        What the calculator is called in messages.
    done
        Called after each frame.

    Raises
    ------
    ConfigError
        If the calculator has no dipoles.
    DataError
        If it fails, naming the frame.
    """
    if "dipole" not in calculator.implemented_properties:
        raise ConfigError(
            f"an infrared spectrum needs a calculator that has dipoles, and that of {name} has none"
        )
    atoms = trajectory.atoms()
    atoms.calc = calculator
    share = (trajectory.masses / trajectory.masses.sum())[:, None]
    runs = []
    for run in trajectory:
        dipoles = np.empty((len(run), 3))
        for frame, positions in enumerate(run.positions):
            atoms.positions = positions - (share * positions).sum(0)
            try:
                dipoles[frame] = atoms.get_dipole_moment()
            except Exception as error:  # calculators raise whatever they like
                text = str(error).strip() or type(error).__name__
                raise DataError(
                    f"{name} failed at frame {frame} of {run.name or trajectory.short_name} "
                    f"({text.splitlines()[0]})"
                ) from error
            done()
        runs.append(replace(run, dipoles=dipoles))
    return replace(trajectory, segments=tuple(runs))


def with_learned_dipoles(
    trajectory: Trajectory,
    charges: Charges,
    done: Callable[[float], object] = lambda frames: None,
) -> Trajectory:
    """Return a trajectory with the dipole of every frame by learned atomic charges, in e Å.

    Parameters
    ----------
    trajectory
        One molecule, that they are for.
    charges
        Those of an operator.
    done
        Called with the number of frames that were added.
    """
    atoms = trajectory.atoms()
    runs = []
    for run in trajectory:
        dipoles = np.empty((len(run), 3))
        for first in range(0, len(run), _AT_ONCE):
            positions = torch.from_numpy(np.asarray(run.positions[first : first + _AT_ONCE]))
            states = PhaseState.from_atoms([atoms] * len(positions)).replace(
                positions=positions.double()
            )
            dipoles[first : first + len(positions)] = charges.dipole(states).numpy()
            done(len(positions))
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
    chapter 21). The difference between frames that takes the derivative is corrected for exactly.
    """
    rates: list[np.ndarray] = [
        np.diff(run.dipoles, axis=0) / side.interval for run in side if len(run) > 1
    ]
    found = power_spectrum(rates, side.interval, window - side.interval, highest)
    half = SPEED_OF_LIGHT * found.wavenumbers * side.interval  # ω Δt / 2π
    return replace(found, windows=found.windows / np.sinc(half) ** 2)
