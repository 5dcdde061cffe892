"""Potential energies beside the reference's, and the drift of the total energy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line, Missing
from ase_atom.analysis.measures.histograms import Histograms, compare_distributions, curves
from ase_atom.analysis.measures.motion import Temperatures, rotational_freedom
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.plots import Curve, Panel, Plot, Section
from ase_atom.analysis.statistics import (
    LEAST_BLOCKS,
    Estimate,
    correlated_mean,
    mean_and_error,
    slopes,
)
from ase_atom.errors import DataError
from ase_atom.units import KB, PS

LEAST_FRAMES = 20
_OTHER_ZERO = 1.0  # eV per atom; energies further apart are of different methods


def with_energies(trajectory: Trajectory, calculator: Calculator, frames: int) -> Trajectory:
    """Return evenly spread frames of a trajectory with the calculator's potential energies.

    Raises
    ------
    DataError
        If the calculator fails at more than a tenth of the frames.
    """
    step = max(1, math.ceil(trajectory.frames / frames))
    runs, failed = [], 0
    atoms = trajectory.atoms()
    atoms.calc = calculator
    for run in trajectory:
        # Evenly spaced, so that blocks mean times, and in the middle of what they stand for.
        some = run[min(step // 2, len(run) - 1) :: step]
        energies = np.array([_energy(atoms, positions) for positions in some.positions])
        good = np.isfinite(energies)
        failed += int((~good).sum())
        runs.append(replace(some[good], energies=energies[good]))
    if failed > 0.1 * sum(len(run) + failed for run in runs):
        raise DataError(f"the energy cannot be computed at {failed} frames of {trajectory.name}")
    return replace(trajectory, segments=tuple(run for run in runs if len(run)))


def _energy(atoms: Atoms, positions: np.ndarray) -> float:
    atoms.positions = positions
    try:
        return float(atoms.get_potential_energy())
    except Exception:  # calculators raise whatever their program says where they do not converge
        atoms.calc.reset()
        return math.nan


def compare_energies(
    pair: Pair,
    sides: tuple[Trajectory, Trajectory],
    kinetics: tuple[Temperatures, Temperatures] | None,
    ensembles: tuple[str, str],
    source: str,
    section: Section,
) -> None:
    """Add lines on energies to a section.

    Parameters
    ----------
    pair
        The trajectories as a whole.
    sides
        The same, or some of their frames, with energies.
    kinetics
        For the degrees of freedom; None without velocities.
    ensembles
        Of either.
    source
        What computed the energies, in words.
    section
        To be added to.
    """
    own, other = ([run.energies for run in side] for side in sides)
    gap = abs(np.concatenate(own).mean() - np.concatenate(other).mean())
    if gap > _OTHER_ZERO * len(pair.reference.numbers):
        section.missing.append(
            Missing(
                "thermodynamics",
                "potential energies",
                f"those given are {gap:.0f} eV apart, and so of different methods",
            )
        )
    else:
        _potential(pair, own, other, kinetics, source, section)
    if ensembles[0] == "nve" and kinetics is not None:
        _drift(pair, sides, ensembles, source, section)
    else:
        reason = (
            "there are no velocities"
            if kinetics is None
            else "the trajectory is not known to be microcanonical, and only then it is conserved"
        )
        section.missing.append(Missing("thermodynamics", "drift of the total energy", reason))


def _potential(
    pair: Pair,
    own: list[np.ndarray],
    other: list[np.ndarray],
    kinetics: tuple[Temperatures, Temperatures] | None,
    source: str,
    section: Section,
) -> None:
    if kinetics is None:
        inner = 3 * len(pair.reference.numbers) - 3 - rotational_freedom(pair.reference)
    else:
        inner = kinetics[1].inner
    group = ("thermodynamics", "potential energy")
    share = 1000 * pair.tolerances.temperature * 0.5 * KB * pair.temperature * max(inner, 1)
    scaled = [[1000 * run for run in side] for side in (own, other)]
    floor = np.concatenate(scaled[1]).mean()
    shifted = [[run - floor for run in side] for side in scaled]
    section.lines += [
        pair.mean_line(
            group,
            "mean potential energy, from the reference's",
            "meV",
            *shifted,
            share,
            note=f"{source}; the tolerance is {100 * pair.tolerances.temperature:g} % of "
            "equipartition's share",
        ),
        pair.width_line(
            group, "width of the potential energy", "meV", *shifted, pair.tolerances.width
        ),
    ]
    found = compare_distributions(
        "potential energy", *([run[:, None] for run in side] for side in shifted), pair
    )
    section.lines.append(
        Line(
            *group,
            "potential energy: divergence",
            "nat",
            found.divergence,
            None,
            pair.tolerances.divergence,
            "alone",
        )
    )
    section.plots.append(_potential_plot(found, pair, source))


def _potential_plot(found: Histograms, pair: Pair, source: str) -> Plot:
    step = found.edges[1] - found.edges[0]
    panel = Panel(
        "",
        "potential energy from the reference's mean / meV",
        "density / meV⁻¹",
        curves(found, pair.random, lambda p, _: p / step),
    )
    return Plot(
        "potential-energy",
        "thermodynamics",
        "Potential energy",
        f"Distribution of the potential energy ({source}) with 95 % bootstrap bands.",
        (panel,),
        columns=1,
    )


def _drift(
    pair: Pair,
    sides: tuple[Trajectory, Trajectory],
    ensembles: tuple[str, str],
    source: str,
    section: Section,
) -> None:
    drawn, found = [], {}
    for role, side, kind in zip(("trajectory", "reference"), sides, ensembles, strict=True):
        # A run that broke at once says nothing of drift.
        side = replace(side, segments=tuple(run for run in side if len(run) > 2))
        if kind != "nve" or any(run.times is None for run in side):
            continue
        totals = [
            1000 * (run.energies + kinetic) / len(side.numbers)
            for run, kinetic in zip(side, side.kinetic_energies(), strict=True)
        ]
        found[role] = _slope(side, totals)
        count = min(len(total) for total in totals)
        stack = np.stack([total[:count] - total[0] for total in totals])
        times = (side.segments[0].times[:count] - side.segments[0].times[0]) / PS
        reach = 1.96 * stack.std(0, ddof=1) / math.sqrt(len(stack)) if len(stack) > 1 else None
        mean = stack.mean(0)
        band = (None, None) if reach is None else (mean - reach, mean + reach)
        drawn.append(Curve(role, times, mean, role, *band))
    if "trajectory" not in found:
        section.missing.append(
            Missing("thermodynamics", "drift of the total energy", "times are unknown")
        )
        return
    note = source
    if "reference" in found:
        note += f"; the reference drifts by {found['reference'].value:.3g} meV/atom/ps"
    section.lines.append(
        Line(
            "thermodynamics",
            "total energy",
            "drift of the total energy",
            "meV/atom/ps",
            found["trajectory"],
            None,
            pair.tolerances.drift,
            "alone",
            note,
        )
    )
    section.plots.append(
        Plot(
            "total-energy",
            "thermodynamics",
            "Total energy",
            f"Change of the total energy ({source}) from the start of each run, mean over runs "
            "with 95 % intervals.",
            (Panel("", "time / ps", "change / meV per atom", tuple(drawn)),),
            columns=1,
        )
    )


def _slope(side: Trajectory, totals: list[np.ndarray]) -> Estimate:
    """Mean least-squares slope of runs, meV/atom/ps."""
    times = [run.times / PS for run in side]
    each = [float(slopes(t, e[:, None])[0]) for t, e in zip(times, totals, strict=True)]
    each = [slope for slope in each if math.isfinite(slope)]
    if len(each) >= LEAST_BLOCKS:
        value, error = mean_and_error(each)
        return Estimate(value, error, 2.0 * len(each), len(each) - 1.0)
    # What scatters about the lines, over the spread of times.
    rest = [e - np.polyval(np.polyfit(t, e, 1), t) for t, e in zip(times, totals, strict=True)]
    scatter = correlated_mean(rest)
    length = float(np.mean([np.ptp(t) for t in times]))
    error = scatter.error * math.sqrt(12.0) / length
    return Estimate(float(np.mean(each)), error, scatter.samples, max(scatter.freedom, 1.0))
