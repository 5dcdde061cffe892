"""Equipartition between the normal modes of relaxed structures."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import Calculator

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.analysis.lines import Missing
from ase_atom.analysis.measures.motion import Motion, inverse_inertia
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.measures.thermodynamics import equipartition_line, ratio_of_means
from ase_atom.analysis.molecule.harmonic import HarmonicGuess
from ase_atom.analysis.plots import Curve, Panel, Plot, Section
from ase_atom.analysis.statistics import Estimate
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

_STRUCTURES = 6  # frames of the reference that are relaxed
_MOST_FRAMES = 4000
_MOST_RELABELLINGS = 48


def compare_modes(
    pair: Pair,
    motions: tuple[list[Motion], list[Motion]],
    calculator: Calculator,
    source: str,
    section: Section,
) -> None:
    """Add the temperature of every normal mode to a section.

    Velocities are turned into the frame of the nearest minimum, under relabelling of equivalent
    atoms and reflection, and projected on its modes; what rotation takes of a mode in a frame is
    allowed for. Modes of different minima are pooled by rank.
    """
    from ase_atom.analysis.molecule.minima import find_minima

    guess = find_minima(pair.reference.structures(_STRUCTURES), calculator)
    if guess is None:
        section.missing.append(
            Missing("thermodynamics", "temperature by mode", f"{source} relaxed no frame")
        )
        return
    guess = HarmonicGuess(guess.minima, pair.coordinates.relabellings[:_MOST_RELABELLINGS])
    wavenumbers = guess.minima[0].wavenumbers
    series = [
        _mode_series(side, parts, guess) for side, parts in zip(pair.sides, motions, strict=True)
    ]
    ratios = [_mode_ratios(side) for side in series]
    for rank, wavenumber in enumerate(wavenumbers):
        name = f"temperature of mode {rank + 1}, {wavenumber:.0f} cm⁻¹, over all"
        section.lines.append(
            equipartition_line(
                pair,
                "equipartition between modes",
                name,
                tuple([run[:, rank] for run in side] for side in series),
                tuple([run.mean(1) for run in side] for side in series),
                pair.tolerances.mode_temperature,
            )
        )
    drawn = []
    for role, found in zip(("trajectory", "reference"), ratios, strict=True):
        values = np.array([one.value for one in found])
        reach = 1.96 * np.array([one.error for one in found])
        places = np.arange(len(values), dtype=float)
        drawn.append(
            Curve(role, places, values, role, values - reach, values + reach, style="points")
        )
    ticks = tuple(f"{wavenumber:.0f}" for wavenumber in wavenumbers)
    section.plots.append(
        Plot(
            "modes",
            "thermodynamics",
            "Temperature by mode",
            f"Kinetic temperature of each normal mode of {_minima(len(guess.minima))} by {source}, "
            "over that of all modes, with 95 % intervals; wavenumbers of the lowest minimum.",
            (Panel("", "mode / cm⁻¹", "temperature over all", tuple(drawn), ticks=ticks),),
            columns=1,
        )
    )


def _minima(count: int) -> str:
    return "one minimum" if count == 1 else f"{count} minima"


def _mode_series(side: Trajectory, motions: list[Motion], guess: HarmonicGuess) -> list[np.ndarray]:
    """Temperatures of the modes in evenly spread frames of each run, K, ``[T, M]``."""
    step = max(1, side.frames // _MOST_FRAMES)
    return [
        _mode_temperatures(
            run[::step], motion.vibration[::step], side.masses, motion.turning, guess
        )
        for run, motion in zip(side, motions, strict=True)
    ]


def _mode_ratios(series: list[np.ndarray]) -> list[Estimate]:
    """Temperature of each mode over that of all."""
    whole = [run.mean(1) for run in series]
    return [
        ratio_of_means([run[:, mode] for run in series], whole)
        for mode in range(series[0].shape[1])
    ]


def _mode_temperatures(
    run: Segment, vibration: np.ndarray, masses: np.ndarray, turning: int, guess: HarmonicGuess
) -> np.ndarray:
    """Kinetic temperature of every mode in every frame, K, ``[T, M]``."""
    roots = np.sqrt(masses)[:, None]
    x = run.positions - np.einsum("n,tnx->tx", masses / masses.sum(), run.positions)[:, None]
    choice, order, sign, frame, _ = guess.nearest(x)
    flip = sign[:, None, None]
    x = (np.take_along_axis(x, order[:, :, None], 1) * flip) @ frame
    v = (np.take_along_axis(vibration, order[:, :, None], 1) * flip) @ frame
    out = np.empty((len(x), guess.minima[0].vectors.shape[1]))
    for index, minimum in enumerate(guess.minima):
        rows = choice == index
        if not rows.any():
            continue
        vectors = minimum.vectors.reshape(len(masses), 3, -1)
        speeds = np.einsum("tnx,nxm->tm", roots * v[rows], vectors)
        outer = np.einsum("n,tnx,tny->txy", masses, x[rows], x[rows])
        inertia = np.trace(outer, axis1=1, axis2=2)[:, None, None] * np.eye(3) - outer
        # Rotation about axis a moves atom n by a × x: its overlap with each mode.
        turned = np.stack([np.cross(axis, x[rows]) for axis in np.eye(3)], axis=1)
        overlap = np.einsum("tanx,nxm->tam", roots * turned, vectors)
        inverse = inverse_inertia(inertia, turning)
        lost = np.einsum("tam,tab,tbm->tm", overlap, inverse, overlap)
        out[rows] = AMU_A2_FS2_IN_EV * speeds**2 / KB / np.clip(1 - lost, 0.05, None)
    return out
