"""Structure: distributions of bonds, angles, torsions and distances beside the reference's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
from ase.data import chemical_symbols
from ase.units import kJ, mol
from numpy.typing import NDArray

from ase_atom.analysis.coordinates import CoordinateClass, Coordinates
from ase_atom.analysis.lines import Line, Tolerances
from ase_atom.analysis.plots import Curve, Panel, Plot, Section
from ase_atom.analysis.statistics import (
    Estimate,
    correlated_mean,
    divergence_estimate,
    resampled,
    width,
)
from ase_atom.analysis.trajectory import Trajectory
from ase_atom.units import KB

BINS = 60
_TAILS = (0.05, 99.95)  # percentiles between which histograms have their bins
_TORSION_EDGES = np.linspace(-180.0, 180.0, 73)
_RESAMPLES = 500


@dataclass(frozen=True)
class Histograms:
    """One coordinate's histograms in independent blocks, of either side.

    Attributes
    ----------
    label
        The coordinate.
    edges
        Of the bins, ``[bins + 1]``; what lies beyond is counted in the outermost bins.
    trajectory, reference
        Counts, ``[K, bins]``.
    divergence
        Between the two.
    """

    label: str
    edges: NDArray
    trajectory: NDArray
    reference: NDArray
    divergence: Estimate


def compare_structure(
    trajectory: Trajectory,
    reference: Trajectory,
    coordinates: Coordinates,
    tolerances: Tolerances,
    temperature: float,
    random: np.random.Generator,
) -> Section:
    """Compare bonds, angles, torsions and interatomic distances.

    Parameters
    ----------
    trajectory, reference
        Of the same molecule, atoms in one order.
    coordinates
        Of the reference; measured on both.
    tolerances
        For the verdicts.
    temperature
        K, of free energies.
    random
        For the bootstrap.
    """
    section = Section("structure")
    found: dict[str, list[Histograms]] = {"bond": [], "angle": [], "torsion": []}
    for one in coordinates.classes:
        ours = [one.values(run.positions) for run in trajectory.segments]
        theirs = [one.values(run.positions) for run in reference.segments]
        if one.kind == "torsion":
            histograms = _torsion(one, ours, theirs, trajectory, reference, random)
        else:
            section.lines += _mean_and_width(one, ours, theirs, tolerances)
            histograms = _distribution(
                f"{one.kind} {one.label}", ours, theirs, trajectory, reference, random
            )
        found[one.kind].append(histograms)
        section.lines.append(_divergence_line(histograms, tolerances))
    pairs = list(_pair_distances(trajectory, reference, random))
    section.lines += [_divergence_line(histograms, tolerances) for histograms in pairs]
    section.plots = [
        *_density_plots(found["bond"], "bonds", "Bond lengths", "length / Å", random),
        *_density_plots(found["angle"], "angles", "Angles", "angle / °", random),
        *_profile_plots(found["torsion"], temperature, random),
        *_density_plots(pairs, "distances", "Distances between elements", "distance / Å", random),
    ]
    section.remarks.append(
        "Coordinates that the symmetry of the molecule's graph makes equivalent, such as the three "
        "positions of a methyl group, are pooled."
        + (
            " The molecule has stereocentres, so torsions φ and −φ are kept apart."
            if coordinates.chiral
            else " It has no stereocentre, so mirror images are one ensemble, and torsions φ and "
            "−φ are pooled too."
        )
    )
    return section


def _mean_and_width(
    one: CoordinateClass, ours: list[NDArray], theirs: list[NDArray], tolerances: Tolerances
) -> list[Line]:
    unit, tolerance = {
        "bond": ("Å", tolerances.bond_mean),
        "angle": ("°", tolerances.angle_mean),
    }[one.kind]
    means = [correlated_mean([run.mean(1) for run in side]) for side in (ours, theirs)]
    name = f"{one.kind} {one.label}"
    return [
        Line("structure", f"{one.kind} means", f"{name}: mean", unit, *means, tolerance),
        Line(
            "structure",
            f"{one.kind} widths",
            f"{name}: width",
            unit,
            width(ours),
            width(theirs),
            tolerances.width,
            "ratio",
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


def block_frames(series: Sequence[Sequence[NDArray]]) -> tuple[int, float]:
    """Frames of one block so long that blocks are independent, and the effective samples.

    Two statistical inefficiencies long, of whichever series is slowest.
    """
    estimates = [correlated_mean(one) for one in series]
    count = sum(len(run) for run in series[0])
    samples = min((e.samples for e in estimates if e.error > 0), default=float(count))
    return max(1, math.ceil(2 * count / max(samples, 1.0))), samples


def block_numbers(lengths: Sequence[int], size: int) -> tuple[NDArray, int]:
    """Number of the block of every frame, ``[T]``, and how many blocks there are.

    Blocks do not reach across runs; what is left over joins a run's last block.
    """
    numbers, count = [], 0
    for length in lengths:
        here = max(1, length // size)
        numbers.append(count + np.minimum(np.arange(length) // size, here - 1))
        count += here
    return np.concatenate(numbers), count


def block_histograms(values: Sequence[NDArray], edges: NDArray, size: int) -> NDArray:
    """Histograms of ``[T, P]`` values of each run, in blocks of frames, ``[K, bins]``."""
    bins = len(edges) - 1
    numbers, count = block_numbers([len(run) for run in values], size)
    pooled = np.concatenate(values)
    place = np.clip(np.searchsorted(edges, pooled, side="right") - 1, 0, bins - 1)
    flat = (numbers[:, None] * bins + place).ravel()
    return np.bincount(flat, minlength=count * bins).reshape(count, bins).astype(float)


def _distribution(
    label: str,
    ours: list[NDArray],
    theirs: list[NDArray],
    trajectory: Trajectory,
    reference: Trajectory,
    random: np.random.Generator,
) -> Histograms:
    every = np.concatenate([run.ravel() for run in (*ours, *theirs)])
    low, high = np.percentile(every, _TAILS)
    if high <= low:
        low, high = low - 1e-6, high + 1e-6
    edges = np.linspace(low, high, BINS + 1)
    centre = every.mean()
    blocks, samples = [], []
    for side in (ours, theirs):
        series = [[run.mean(1) for run in side], [((run - centre) ** 2).mean(1) for run in side]]
        size, effective = block_frames(series)
        blocks.append(block_histograms(side, edges, size))
        samples.append(effective)
    return _histograms(label, edges, blocks, samples, random)


def _histograms(
    label: str,
    edges: NDArray,
    blocks: list[NDArray],
    samples: list[float],
    random: np.random.Generator,
) -> Histograms:
    found = divergence_estimate(*blocks, random, _RESAMPLES)
    return Histograms(label, edges, *blocks, replace(found, samples=min(samples)))


def _torsion(
    one: CoordinateClass,
    ours: list[NDArray],
    theirs: list[NDArray],
    trajectory: Trajectory,
    reference: Trajectory,
    random: np.random.Generator,
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
    intervals = trajectory.interval, reference.interval
    if None not in intervals:
        slowest = max(size * step for size, step in zip(sizes, intervals, strict=True))
        sizes = [max(1, math.ceil(slowest / step - 1e-9)) for step in intervals]
        frames = trajectory.frames, reference.frames
        samples = [
            min(effective, 2 * count / size)
            for effective, count, size in zip(samples, frames, sizes, strict=True)
        ]
    blocks = [
        block_histograms(
            [np.concatenate([run, -run], axis=1) if one.mirrored else run for run in side],
            _TORSION_EDGES,
            size,
        )
        for side, size in zip((ours, theirs), sizes, strict=True)
    ]
    return _histograms(f"torsion {one.label}", _TORSION_EDGES, blocks, samples, random)


def _pair_distances(
    trajectory: Trajectory, reference: Trajectory, random: np.random.Generator
) -> list[Histograms]:
    numbers = trajectory.numbers
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
                for run in side.segments
            ]
            for side in (trajectory, reference)
        ]
        label = f"distances {chemical_symbols[second]}···{chemical_symbols[first]}"
        out.append(_distribution(label, *sides, trajectory, reference, random))
    return out


def _bands(blocks: NDArray, random: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """Normalised histogram and its 95 % bootstrap band, ``[bins]`` each."""
    total = blocks.sum(0)
    drawn = resampled(blocks, _RESAMPLES, random)
    drawn /= drawn.sum(1, keepdims=True)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return total / total.sum(), low, high


def _curves(
    one: Histograms,
    random: np.random.Generator,
    shape: Callable[[NDArray, NDArray], NDArray],
    style: str = "steps",
) -> tuple[Curve, ...]:
    """Curves of both sides; ``shape`` takes bin probabilities and those without resampling."""
    centres = 0.5 * (one.edges[1:] + one.edges[:-1])
    curves = []
    for role, blocks in (("reference", one.reference), ("trajectory", one.trajectory)):
        plain, *band = _bands(blocks, random)
        ends = np.sort([shape(end, plain) for end in band], axis=0)
        curves.append(Curve(role, centres, shape(plain, plain), role, *ends, style=style))
    return tuple(curves)


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
                _curves(one, random, lambda p, _, step=step: p / step),
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
        curves = _curves(one, random, lambda p, whole: _free_energy(p, whole, unit), "line")
        panels.append(
            Panel(f"{one.label} ({_size(one):.3f} nat)", "torsion / °", "F / kJ mol⁻¹", curves)
        )
    caption = (
        f"Free-energy profiles −kT ln p at {temperature:.0f} K with 95 % bootstrap bands; gaps "
        "were not visited."
    )
    return [Plot("torsions", "structure", "Torsion free-energy profiles", caption, tuple(panels))]


def _free_energy(p: NDArray, whole: NDArray, unit: float) -> NDArray:
    """−kT ln p above the fullest bin of the whole, NaN where nothing was counted."""
    with np.errstate(divide="ignore"):
        energy = -unit * np.log(p / whole.max())
    return np.where(np.isfinite(energy), energy, np.nan)


def _size(one: Histograms) -> float:
    return one.divergence.value
