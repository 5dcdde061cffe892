"""Known faults of trajectories, named in words.

Each is read off lines that differ, so that a name is never given where the numbers alone could be
chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ase_atom.analysis.inputs.checks import find_order
from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line, Verdict
from ase_atom.analysis.measures.motion import Temperatures
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.measures.spectra import Spectrum, time_scale
from ase_atom.analysis.measures.stretches import name_stretches
from ase_atom.analysis.molecule.coordinates import connectivity
from ase_atom.units import FS

_RIGID = 0.2  # of the reference's width, below which a bond does not vibrate
_COLD = 0.2  # of the temperature of all
_TORN = 1.5  # times its mean length: a bond that is none any more
_NOTICEABLE = 0.03  # change of scale of a spectrum's wavenumbers
_GAIN = 0.01  # of overlap with the reference's, by which a scale must be better than none


@dataclass(frozen=True)
class Finding:
    """Something wrong with a trajectory that has a name.

    Attributes
    ----------
    name
        A few words: ``scaled velocities``.
    text
        What shows it, with numbers, and what it may come from.
    """

    name: str
    text: str


def diagnose(
    pair: Pair,
    lines: Sequence[Line],
    kinetics: tuple[Temperatures, Temperatures] | None,
    spectra: tuple[Spectrum, Spectrum] | None,
    mixed: str,
) -> list[Finding]:
    """Name what is wrong with the trajectory.

    Parameters
    ----------
    pair
        The two trajectories.
    lines
        Judged.
    kinetics, spectra
        Of both sides; None where there are none.
    mixed
        What `check_pair` said about the order of the atoms.
    """
    found = [Finding("mixed-up atoms", mixed)] if mixed else _torn(pair)
    if kinetics is not None:
        found += _clock(pair, lines, kinetics, spectra)
    found += _hydrogens(pair, lines)
    found += _drift(lines, pair)
    # What follows is also a symptom of what is above, but for energy that is unevenly spread.
    if all(one.name == "another temperature" for one in found):
        uneven = [Finding(*one) for one in name_stretches(pair, lines)] + _equipartition(lines)
        found = uneven + found if found else uneven + _wrong_power(lines)
    if broken := pair.trajectory.facts.get("broken runs"):
        found.insert(0, Finding("broken runs", f"{broken}."))
    return found + _energy(lines)


def _value(lines: Sequence[Line], name: str) -> Line | None:
    return next((line for line in lines if line.name == name), None)


def _differs(line: Line | None) -> bool:
    return line is not None and line.verdict is Verdict.DIFFERS


def _torn(pair: Pair) -> list[Finding]:
    """Bonds that are none in some frames: atoms that change places on the way, or broken ones."""
    bonds = pair.coordinates.bonds
    if not len(bonds):
        return []

    def lengths(positions: np.ndarray) -> np.ndarray:
        return np.linalg.norm(positions[:, bonds[:, 0]] - positions[:, bonds[:, 1]], axis=-1)

    usual = lengths(pair.reference.pooled("positions", 1000)).mean(0)
    for run in pair.trajectory:
        ratio = lengths(run.positions) / usual
        torn = (ratio > _TORN) | (ratio < 1 / _TORN)
        if not torn.any():
            continue
        frame = int(torn.any(1).argmax())
        bond = int(torn[frame].argmax())
        share = torn.any(1).mean()
        i, j = bonds[bond]
        where = "" if run.times is None else f" ({run.times[frame]:g} fs)"
        text = (
            f"From frame {frame}{where} of {run.name or 'the run'} on, the bond {i}–{j} is "
            f"{ratio[frame, bond]:.2f} times as long as in the reference; {100 * share:.0f} % of "
            "the run's frames have such bonds."
        )
        there = Trajectory("", pair.trajectory.numbers, pair.trajectory.masses, (run[frame:],))
        order = find_order(
            there,
            connectivity(there.numbers, run.positions[frame]),
            pair.reference,
            bonds,
        )
        if order is not None:
            listed = " ".join(map(str, order))
            return [
                Finding(
                    "mixed-up atoms",
                    f"{text} Taken in the order {listed}, that frame is the reference's molecule.",
                )
            ]
        return [Finding("broken bonds", f"{text} No order of the atoms mends that.")]
    return []


def _clock(
    pair: Pair,
    lines: Sequence[Line],
    kinetics: tuple[Temperatures, Temperatures],
    spectra: tuple[Spectrum, Spectrum] | None,
) -> list[Finding]:
    """Velocities that are scaled, or times that are."""
    step = _value(lines, "distance moved over what velocities say")
    hot = _value(lines, "temperature of vibration")
    heat = float(np.concatenate(kinetics[0].vibration).mean()) / pair.temperature
    scale, gain = 1.0, 0.0
    if spectra is not None:
        scale, overlap = time_scale(*spectra)
        plain = float(np.sqrt(np.prod([one.power for one in spectra], axis=0)).sum())
        gain = overlap - plain
    stretched = abs(math.log(scale)) > _NOTICEABLE and gain > _GAIN
    moved = "Atoms move {:.3g} times as far between frames as their velocities say"
    if _differs(step):
        factor = step.trajectory.value
        # Wrong times stretch the spectrum by as much and leave the temperature; wrong velocities
        # leave the spectrum and change the temperature by the square.
        by_times = abs(math.log(max(scale * factor, 1e-9))) < abs(math.log(scale))
        if spectra is None:
            by_times = abs(math.log(heat)) < abs(math.log(max(heat * factor**2, 1e-9)))
        if by_times:
            return [_wrong_times(pair, factor, moved.format(factor), heat)]
        return [_scaled(factor, moved.format(factor), heat, spectra is not None)]
    if stretched and pair.trajectory.velocity_source == "differentiated":
        words = "Velocities were differentiated with the times that the trajectory states"
        # The spectrum tells the scale to a hundredth or so.
        return [_wrong_times(pair, float(f"{1 / scale:.2g}"), words, heat * scale**2)]
    if stretched and step is None:
        words = f"The whole spectrum is the reference's with wavenumbers divided by {scale:.3g}"
        return [_wrong_times(pair, 1 / scale, words, heat)]
    if _differs(hot):
        return _heat(lines, heat, step is not None)
    return []


def _wrong_times(pair: Pair, factor: float, words: str, heat: float) -> Finding:
    stated = pair.trajectory.interval
    return Finding(
        "wrong time step",
        f"{words}, and every band of the spectrum is at {factor:.3g} times its wavenumber, while "
        f"the temperature is {heat:.2f} times the reference's: frames are {stated * factor:.3g} fs "
        f"apart and not {stated:g} fs as stated.",
    )


def _scaled(factor: float, words: str, heat: float, seen: bool) -> Finding:
    times, which = (1 / factor, "large") if factor < 1 else (factor, "small")
    bands = ", while bands are where they should be" if seen else ""
    text = (
        f"{words}, and the vibrational temperature is {heat:.3g} times the reference's{bands}: "
        f"velocities are {times:.3g} times too {which}."
    )
    for unit, size in (("Å/fs read as ASE's unit", 1 / FS), ("ASE's unit read as Å/fs", FS)):
        if abs(math.log(size / factor)) < 0.02:
            text += f" This is the ratio of {unit}."
    return Finding("scaled velocities", text)


def _heat(lines: Sequence[Line], heat: float, checked: bool) -> list[Finding]:
    """Another temperature: of all, if the structure's widths follow, or of velocities alone."""
    ratios = [
        1 + line.deviation
        for line in lines
        if line.group in ("bond widths", "angle widths") and math.isfinite(line.deviation)
    ]
    spread = float(np.median(ratios)) ** 2 if ratios else math.nan
    follows = abs(math.log(spread / heat)) < abs(math.log(spread)) if ratios else True
    if checked or follows:
        return [
            Finding(
                "another temperature",
                f"The vibrational temperature is {heat:.3g} times the reference's, and the squared "
                f"widths of bonds and angles are {spread:.3g} times as large.",
            )
        ]
    return [
        Finding(
            "scaled velocities",
            f"The vibrational temperature is {heat:.3g} times the reference's, but the squared "
            f"widths of bonds and angles, which should follow it, are {spread:.3g} times as large: "
            f"velocities are about {math.sqrt(heat / spread):.3g} times what the structure says.",
        )
    ]


def _hydrogens(pair: Pair, lines: Sequence[Line]) -> list[Finding]:
    numbers = pair.reference.numbers
    names = [
        f"bond {one.label}: width"
        for one in pair.coordinates.of_kind("bond")
        if (numbers[one.atoms[0]] == 1).any()
    ]
    widths = [line for line in lines if line.name in names]
    rigid = bool(widths) and all(_differs(line) and 1 + line.deviation < _RIGID for line in widths)
    cold = _value(lines, "temperature of H over all")
    frozen = _differs(cold) and cold.trajectory.value < _COLD
    if not (rigid or frozen):
        return []
    parts = []
    if rigid:
        largest = max(1 + line.deviation for line in widths)
        parts.append(
            f"bonds to hydrogen are at most {100 * largest:.2g} % as wide as in the reference, as "
            "under constraints (SHAKE, LINCS, RATTLE)"
        )
    if frozen:
        parts.append(
            f"the hydrogens' temperature is {100 * cold.trajectory.value:.2g} % of that of all"
        )
    text = " and ".join(parts)
    return [Finding("frozen hydrogens", f"{text[0].upper()}{text[1:]}.")]


def _drift(lines: Sequence[Line], pair: Pair) -> list[Finding]:
    there = _value(lines, "speed of the centre of mass, from positions")
    told = _value(lines, "speed of the centre of mass, from velocities")
    if not (_differs(there) and there.deviation > 0):
        return []
    paths = [run.positions for run in pair.trajectory]
    weights = pair.trajectory.masses / pair.trajectory.masses.sum()
    ends = [np.linalg.norm(weights @ x[-1] - weights @ x[0]) for x in paths]
    total = pair.trajectory.duration / 1000
    text = (
        f"It moves by {sum(ends) / total:.3g} Å/ps from the start of a run to its end, at "
        f"{there.trajectory.value:.2g} of the thermal speed; the reference's moves at "
        f"{there.reference.value:.2g} of it"
    )
    if told is None:
        return [Finding("drifting centre of mass", f"{text}.")]
    if told.trajectory.value < 0.1 * there.trajectory.value:
        text += "; the velocities know nothing of it, so positions were shifted"
    return [Finding("drifting centre of mass", f"{text}.")]


def _equipartition(lines: Sequence[Line]) -> list[Finding]:
    guilty = [
        line
        for line in lines
        if line.group.startswith("equipartition") and line.verdict is Verdict.DIFFERS
    ]
    if not guilty:
        return []
    listed = "; ".join(
        f"the {line.name} is {line.trajectory.value:.3f} and should be {line.reference.value:.3f}"
        for line in guilty[:6]
    )
    return [
        Finding(
            "failure of equipartition",
            f"{listed[0].upper()}{listed[1:]}. Integrators with strides beyond what they can "
            "resolve are known for this.",
        )
    ]


def _wrong_power(lines: Sequence[Line]) -> list[Finding]:
    line = _value(lines, "power outside the reference's bands")
    if not _differs(line) or line.deviation < 0:
        return []
    return [
        Finding(
            "power in wrong bands",
            f"{100 * line.trajectory.value:.1f} % of the vibration's power lies where the "
            f"reference has {100 * line.reference.value:.1f} %.",
        )
    ]


def _energy(lines: Sequence[Line]) -> list[Finding]:
    line = _value(lines, "drift of the total energy")
    if not _differs(line):
        return []
    return [
        Finding(
            "drifting energy",
            f"The total energy of a microcanonical trajectory changes by {line.deviation:.3g} meV "
            "per atom and ps.",
        )
    ]
