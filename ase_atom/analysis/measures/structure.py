"""Structure: distributions of bonds, angles, torsions and distances beside the reference's."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
from ase.data import chemical_symbols
from ase.units import kJ, mol

from ase_atom.analysis.lines import Line, Tolerances
from ase_atom.analysis.measures.histograms import (
    Histograms,
    block_frames,
    compare_distributions,
    curves,
    histograms_of,
)
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.molecule.coordinates import CoordinateClass
from ase_atom.analysis.plots import Panel, Plot, Section
from ase_atom.units import KB

_TORSION_EDGES = np.linspace(-180.0, 180.0, 73)


def compare_structure(pair: Pair) -> Section:
    """Compare bonds, angles, torsions and interatomic distances."""
    section = Section("structure")
    found: dict[str, list[Histograms]] = {"bond": [], "angle": [], "torsion": []}
    for one in pair.coordinates.classes:
        ours, theirs = ([one.values(run.positions) for run in side] for side in pair.sides)
        if one.kind == "torsion":
            histograms = _torsion(one, ours, theirs, pair)
        else:
            section.lines += _mean_and_width(one, ours, theirs, pair)
            histograms = compare_distributions(f"{one.kind} {one.label}", ours, theirs, pair)
        found[one.kind].append(histograms)
        section.lines.append(_divergence_line(histograms, pair.tolerances))
    distances = _pair_distances(pair)
    section.lines += [_divergence_line(one, pair.tolerances) for one in distances]
    section.plots = [
        *_density_plots(found["bond"], "bonds", "Bond lengths", "length / Å", pair.random),
        *_density_plots(found["angle"], "angles", "Angles", "angle / °", pair.random),
        *_profile_plots(found["torsion"], pair.temperature, pair.random),
        *_density_plots(
            distances, "distances", "Distances between elements", "distance / Å", pair.random
        ),
    ]
    section.remarks.append(
        "Coordinates that the symmetry of the molecule's graph makes equivalent, such as the three "
        "positions of a methyl group, are pooled."
        + (
            " The molecule has stereocentres, so torsions φ and −φ are kept apart."
            if pair.coordinates.chiral
            else " It has no stereocentre, so mirror images are one ensemble, and torsions φ and "
            "−φ are pooled too."
        )
    )
    return section


def _mean_and_width(
    one: CoordinateClass, ours: list[np.ndarray], theirs: list[np.ndarray], pair: Pair
) -> list[Line]:
    unit, tolerance = {
        "bond": ("Å", pair.tolerances.bond_mean),
        "angle": ("°", pair.tolerances.angle_mean),
    }[one.kind]
    name = f"{one.kind} {one.label}"
    means = [[run.mean(1) for run in side] for side in (ours, theirs)]
    return [
        pair.mean_line(
            ("structure", f"{one.kind} means"), f"{name}: mean", unit, *means, tolerance
        ),
        pair.width_line(
            ("structure", f"{one.kind} widths"),
            f"{name}: width",
            unit,
            ours,
            theirs,
            pair.tolerances.width,
        ),
    ]


def _divergence_line(histograms: Histograms, tolerances: Tolerances) -> Line:
    return Line(
        "structure",
        f"{histograms.label.split()[0]} distributions",
        f"{histograms.label}: divergence",
        "nat",
        histograms.divergence,
        None,
        tolerances.divergence,
        "alone",
    )


def _torsion(
    one: CoordinateClass, ours: list[np.ndarray], theirs: list[np.ndarray], pair: Pair
) -> Histograms:
    sizes, samples = [], []
    for side in (ours, theirs):
        folded = [np.abs(run) if one.mirrored else run % 360.0 for run in side]
        coarse = [
            [((run >= low) & (run < low + 60.0)).mean(1) for run in folded]
            for low in np.arange(0.0, 180.0 if one.mirrored else 360.0, 60.0)
        ]
        size, effective = block_frames(coarse)
        sizes.append(size)
        samples.append(effective)
    # A run stuck in one well seems to have no correlation at all: the slower side speaks for both.
    intervals = [side.interval for side in pair.sides]
    if None not in intervals:
        slowest = max(size * step for size, step in zip(sizes, intervals, strict=True))
        sizes = [max(1, math.ceil(slowest / step - 1e-9)) for step in intervals]
        samples = [
            min(effective, 2 * side.frames / size)
            for effective, side, size in zip(samples, pair.sides, sizes, strict=True)
        ]
    values = [
        [np.concatenate([run, -run], axis=1) if one.mirrored else run for run in side]
        for side in (ours, theirs)
    ]
    return histograms_of(f"torsion {one.label}", _TORSION_EDGES, values, sizes, samples, pair)


def _pair_distances(pair: Pair) -> list[Histograms]:
    numbers = pair.reference.numbers
    out = []
    for first, second in combinations_with_replacement(sorted(set(numbers.tolist())), 2):
        i, j = np.triu_indices(len(numbers), 1)
        here = ((numbers[i] == first) & (numbers[j] == second)) | (
            (numbers[i] == second) & (numbers[j] == first)
        )
        if not here.any():
            continue
        sides = [
            [
                np.linalg.norm(run.positions[:, i[here]] - run.positions[:, j[here]], axis=-1)
                for run in side
            ]
            for side in pair.sides
        ]
        label = f"distance {chemical_symbols[second]}···{chemical_symbols[first]}"
        out.append(compare_distributions(label, *sides, pair))
    return out


def _density_plots(
    found: list[Histograms], name: str, title: str, x_label: str, random: np.random.Generator
) -> list[Plot]:
    if not found:
        return []
    panels = []
    for one in sorted(found, key=lambda h: -_size(h)):
        step = one.edges[1] - one.edges[0]
        panels.append(
            Panel(
                f"{one.label} ({_size(one):.3f} nat)",
                x_label,
                "density",
                curves(one, random, lambda p, _, step=step: p / step),
            )
        )
    caption = (
        "Distributions with 95 % bootstrap bands over independent blocks, the largest "
        "Jensen–Shannon divergences first."
    )
    return [Plot(name, "structure", title, caption, tuple(panels))]


def _profile_plots(
    found: list[Histograms], temperature: float, random: np.random.Generator
) -> list[Plot]:
    if not found:
        return []
    unit = KB * temperature / (kJ / mol)
    panels = []
    for one in sorted(found, key=lambda h: -_size(h)):
        drawn = curves(one, random, lambda p, whole: _free_energy(p, whole, unit), "line")
        panels.append(
            Panel(f"{one.label} ({_size(one):.3f} nat)", "torsion / °", "F / kJ mol⁻¹", drawn)
        )
    caption = (
        f"Free-energy profiles −kT ln p at {temperature:.0f} K with 95 % bootstrap bands; gaps "
        "were not visited."
    )
    return [Plot("torsions", "structure", "Torsion free-energy profiles", caption, tuple(panels))]


def _free_energy(p: np.ndarray, whole: np.ndarray, unit: float) -> np.ndarray:
    """−kT ln p above the fullest bin of the whole, NaN where nothing was counted."""
    with np.errstate(divide="ignore"):
        energy = -unit * np.log(p / whole.max())
    return np.where(np.isfinite(energy), energy, np.nan)


def _size(one: Histograms) -> float:
    return one.divergence.value
