"""Temperatures by part, element and mode; kinetic energies beside the chi-square."""

from __future__ import annotations

import math

import numpy as np
from ase.data import chemical_symbols
from scipy.stats import chi2

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line, Missing, Verdict, judge
from ase_atom.analysis.measures.histograms import Histograms, compare_distributions, curves
from ase_atom.analysis.measures.motion import Temperatures
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.measures.stretches import compare_stretches
from ase_atom.analysis.plots import Curve, Panel, Plot, Section
from ase_atom.analysis.statistics import Estimate, correlated_mean, paired_difference, width
from ase_atom.units import KB

_CONSERVED = 0.2  # scatter of the total energy within runs, of that of the kinetic energy
_CANONICAL = ("langevin", "bussi", "nvt", "canonical", "nose", "andersen", "csvr")


def compare_thermodynamics(pair: Pair, sides: tuple[Temperatures, Temperatures]) -> Section:
    """Compare temperatures and kinetic energies of two trajectories with velocities."""
    section = Section("thermodynamics")
    ours, theirs = sides
    tolerance = pair.tolerances.temperature
    group = ("thermodynamics", "temperature")
    note = f"trajectory: {ours.counted()}; reference: {theirs.counted()}"
    section.lines.append(
        pair.mean_line(
            group, "temperature", "K", ours.overall, theirs.overall, tolerance, "ratio", note
        )
    )
    parts = [("vibration", False), ("rotation", True), ("translation", True)]
    for name, removable in parts:
        here, there = getattr(ours, name), getattr(theirs, name)
        fixed = {"rotation": "rotation_fixed", "translation": "com_fixed"}.get(name)
        if removable and (getattr(ours, fixed) or getattr(theirs, fixed)):
            continue  # conservation speaks of this
        section.lines.append(
            pair.mean_line(
                ("thermodynamics", "temperature by part"),
                f"temperature of {name}",
                "K",
                here,
                there,
                tolerance,
                "ratio",
            )
        )
    for number in ours.elements:
        symbol = chemical_symbols[number]
        section.lines.append(
            pair.mean_line(
                ("thermodynamics", "temperature by element"),
                f"temperature of {symbol}",
                "K",
                ours.elements[number],
                theirs.elements[number],
                tolerance,
                "ratio",
            )
        )
    compare_stretches(pair, section)
    if len(ours.elements) > 1:
        section.lines += _equipartition(ours, theirs, pair)
    section.plots.append(_element_plot(sides))
    _kinetic_energy(pair, ours, theirs, section)
    section.remarks.append(
        "Temperatures of elements are those of vibration: translation and rotation as a whole are "
        "taken out, and each atom counts as many degrees of freedom as that leaves it."
    )
    return section


def _equipartition(ours: Temperatures, theirs: Temperatures, pair: Pair) -> list[Line]:
    """Each element's temperature over that of the whole vibration."""
    return [
        equipartition_line(
            pair,
            "equipartition between elements",
            f"temperature of {chemical_symbols[number]} over all",
            (ours.elements[number], theirs.elements[number]),
            (ours.vibration, theirs.vibration),
            pair.tolerances.temperature,
        )
        for number in ours.elements
    ]


def equipartition_line(
    pair: Pair,
    group: str,
    name: str,
    parts: tuple[list[np.ndarray], list[np.ndarray]],
    wholes: tuple[list[np.ndarray], list[np.ndarray]],
    tolerance: float,
) -> Line:
    """Return a line on a part's temperature over that of the whole.

    Microcanonical runs from few starts keep what energy their starts put where, for as long as
    modes exchange it slowly: the reference's own ratio is then what a sound trajectory should
    have. Only where both are canonical is it the one that theory demands, and even then only if the
    reference, tested alone at the same tolerance, does not exceed it.
    """
    sides = [ratio_of_means(top, bottom) for top, bottom in zip(parts, wholes, strict=True)]
    kinds = {ensemble_of(side, side.kinetic_energies()) for side in pair.sides}
    if kinds == {"canonical"}:
        alone = judge([Line("", "", "", "", sides[1], Estimate(1.0), tolerance)])[0]
        if alone.verdict is not Verdict.DIFFERS:
            note = f"the reference's own is {sides[1].value:.3f} ± {sides[1].error:.3f}"
            return Line(
                "thermodynamics", group, name, "", sides[0], Estimate(1.0), tolerance, note=note
            )
    paired = None
    if pair.paired:
        rests = [
            [
                (a.mean() - side.value * b.mean()) / _pooled(bottom)
                for a, b in zip(top, bottom, strict=True)
            ]
            for side, top, bottom in zip(sides, parts, wholes, strict=True)
        ]
        paired = paired_difference(*rests)
    note = "the reference is not at one either: runs keep the energies of their starts"
    return Line(
        *("thermodynamics", group, name, "", *sides, tolerance),
        note=note if abs(sides[1].value - 1) > tolerance else "",
        paired=paired,
    )


def _pooled(series: list[np.ndarray]) -> float:
    return float(np.concatenate(series).mean())


def ratio_of_means(top: list[np.ndarray], bottom: list[np.ndarray]) -> Estimate:
    """Ratio of the means of two series of one run each, whose errors are correlated."""
    whole = _pooled(bottom)
    ratio = _pooled(top) / whole
    residual = correlated_mean([a - ratio * b for a, b in zip(top, bottom, strict=True)])
    return Estimate(ratio, residual.error / whole, residual.samples, residual.freedom)


def ensemble_of(trajectory: Trajectory, kinetic: list[np.ndarray] | None) -> str:
    """``nve``, ``canonical``, or empty where nothing tells.

    What the file says counts; else the total energy, if there are energies, is looked at.
    """
    said = trajectory.facts.get("ensemble", "").lower()
    if said.startswith("nve"):
        return "nve"
    if any(name in said for name in _CANONICAL):
        return "canonical"
    if kinetic is None or not trajectory.has_energies:
        return ""
    total = [e + k for e, k in zip(trajectory.series("energies"), kinetic, strict=True)]
    scatter = [math.sqrt(float(np.mean([run.var() for run in x]))) for x in (total, kinetic)]
    return "nve" if scatter[0] < _CONSERVED * scatter[1] else "canonical"


def _kinetic_energy(pair: Pair, ours: Temperatures, theirs: Temperatures, section: Section) -> None:
    kind = ensemble_of(pair.trajectory, pair.trajectory.kinetic_energies())
    if kind == "canonical":
        kelvin = float(np.concatenate(ours.overall).mean())
        expected = KB * kelvin * math.sqrt(ours.freedom / 2)
        section.lines.append(
            Line(
                "thermodynamics",
                "kinetic energy",
                "width of the kinetic energy, beside the chi-square",
                "eV",
                width(ours.kinetic_energy(not ours.com_fixed, not ours.rotation_fixed)),
                Estimate(expected),
                pair.tolerances.width,
                "ratio",
                ours.counted(),
            )
        )
    else:
        reason = (
            "the trajectory is microcanonical, where kinetic energies scatter less than the "
            "chi-square says"
            if kind == "nve"
            else "nothing says whether the trajectory is canonical, and only then the chi-square "
            "is what its kinetic energies should follow"
        )
        section.missing.append(
            Missing("thermodynamics", "kinetic energy beside the chi-square", reason)
        )
    # Of the motion that is thermal on both sides.
    com = not (ours.com_fixed or theirs.com_fixed)
    rotation = not (ours.rotation_fixed or theirs.rotation_fixed)
    energies = [side.kinetic_energy(com, rotation) for side in (ours, theirs)]
    freedom = ours.inner + 3 * com + ours.turning * rotation
    found = compare_distributions(
        "kinetic energy", *([run[:, None] for run in side] for side in energies), pair
    )
    section.lines.append(
        Line(
            "thermodynamics",
            "kinetic energy",
            "kinetic energy: divergence",
            "nat",
            found.divergence,
            None,
            pair.tolerances.divergence,
            "alone",
        )
    )
    section.plots.append(_kinetic_plot(pair, energies[0], freedom, found))


def _element_plot(sides: tuple[Temperatures, Temperatures]) -> Plot:
    names = ["all", "vibration", "rotation", "translation"]
    symbols = [chemical_symbols[number] for number in sides[0].elements]
    drawn = []
    for role, side in zip(("trajectory", "reference"), sides, strict=True):
        found = [
            correlated_mean(series)
            for series in (
                side.overall,
                side.vibration,
                side.rotation,
                side.translation,
                *side.elements.values(),
            )
        ]
        values = np.array([one.value for one in found])
        reach = 1.96 * np.array([one.error for one in found])
        drawn.append(
            Curve(
                role,
                np.arange(len(found), dtype=float),
                values,
                role,
                values - reach,
                values + reach,
                "points",
            )
        )
    panel = Panel("", "", "temperature / K", tuple(drawn), ticks=(*names, *symbols))
    caption = (
        "Mean kinetic temperatures with 95 % intervals; of all thermal motion, of its parts, and "
        f"of the vibration of each element. Trajectory: {sides[0].counted()}; reference: "
        f"{sides[1].counted()}."
    )
    return Plot("temperatures", "thermodynamics", "Temperatures", caption, (panel,), columns=1)


def _kinetic_plot(pair: Pair, energies: list[np.ndarray], freedom: int, found: Histograms) -> Plot:
    step = found.edges[1] - found.edges[0]
    drawn = curves(found, pair.random, lambda p, _: p / step)
    kelvin = 2 * float(np.concatenate(energies).mean()) / (KB * freedom)
    centres = 0.5 * (found.edges[1:] + found.edges[:-1])
    density = chi2.pdf(centres, freedom, scale=0.5 * KB * kelvin)
    label = f"chi-square, N_f = {freedom}, {kelvin:.0f} K"
    expected = Curve(label, centres, density, "expected")
    panel = Panel("", "kinetic energy / eV", "density / eV⁻¹", (*drawn, expected))
    caption = (
        "Distribution of the kinetic energy of motion that is thermal in both. A canonical "
        "trajectory follows the chi-square; a microcanonical one is narrower."
    )
    return Plot("kinetic-energy", "thermodynamics", "Kinetic energy", caption, (panel,), columns=1)
