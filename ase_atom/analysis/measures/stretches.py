"""Kinetic temperatures of bonds' stretches, and the names of what they and widths show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line, Verdict
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.molecule.coordinates import CoordinateClass
from ase_atom.analysis.plots import Section
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

_FOLLOWS = 0.5  # of what the width says, in logarithms, has to be seen in the velocities too


def compare_stretches(pair: Pair, section: Section) -> None:
    """Add the temperature of every bond's stretch to a section; both sides have velocities."""
    for one in pair.coordinates.of_kind("bond"):
        ours, theirs = (stretch_temperatures(side, one) for side in pair.sides)
        section.lines.append(
            pair.mean_line(
                ("thermodynamics", "temperature by stretch"),
                _name(one),
                "K",
                ours,
                theirs,
                pair.tolerances.mode_temperature,
                "ratio",
            )
        )


def _name(one: CoordinateClass) -> str:
    return f"temperature of the stretch {one.label}"


def stretch_temperatures(side: Trajectory, bond: CoordinateClass) -> list[np.ndarray]:
    """Kinetic temperature of a bond's stretch, K, ``[T]`` of each run.

    μ ṙ²/k with μ the reduced mass of the two atoms. The kinetic energy of an internal coordinate q
    with the metric G = Σ |∂q/∂x|²/m obeys ⟨q̇²⟩ = kT G in any potential (Wilson, Decius and Cross,
    Molecular Vibrations, chapter 4), and for a bond G = 1/μ. Translation and rotation as a whole
    have no share in it.
    """
    first, second = bond.atoms[:, 0], bond.atoms[:, 1]
    reduced = 1 / (1 / side.masses[first] + 1 / side.masses[second])
    out = []
    for run in side:
        along = run.positions[:, second] - run.positions[:, first]
        along /= np.linalg.norm(along, axis=-1, keepdims=True)
        rates = ((run.velocities[:, second] - run.velocities[:, first]) * along).sum(-1)
        out.append(AMU_A2_FS2_IN_EV / KB * (reduced * rates**2).mean(1))
    return out


def name_stretches(pair: Pair, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Name bonds whose stretch is colder, hotter, stiffer or softer than the reference's.

    A width that differs may come from another energy in the stretch, which its velocities then
    show too, or from another force constant, which they do not know of. What follows from another
    temperature of the whole is not named.

    Returns
    -------
    Name and text of each finding.
    """
    known = {line.name: line for line in lines}
    vibration = known.get("temperature of vibration")
    whole = 1.0 if vibration is None else 1 + vibration.deviation
    found: dict[str, list[str]] = {}
    for one in pair.coordinates.of_kind("bond"):
        width, heat = known.get(f"bond {one.label}: width"), known.get(_name(one))
        wide = math.nan if width is None else 1 + width.deviation
        warm = math.nan if heat is None else 1 + heat.deviation
        shown = [
            _stands_out(width, wide / math.sqrt(whole)),
            _stands_out(heat, warm / whole),
        ]
        if not any(shown):
            continue
        follows = shown[1]
        if not follows and heat is not None and wide > 0 and warm > 0:
            follows = math.log(warm) / (2 * math.log(wide)) > _FOLLOWS
        if follows:
            name = "cold stretches" if warm < whole else "hot stretches"
            text = (
                f"{one.label} has {warm:.2f} times the reference's kinetic energy, and is "
                f"{100 * wide:.0f} % as wide"
            )
        else:
            name = "stiff bonds" if wide < math.sqrt(whole) else "soft bonds"
            text = f"{one.label} is {100 * wide:.0f} % as wide as in the reference"
        found.setdefault(name, []).append(text)
    tails = {
        "cold stretches": "The stretch lost energy, to other modes or altogether.",
        "hot stretches": "The stretch gained energy, from other modes or from nowhere.",
        "stiff bonds": "Its velocities do not account for that: the force constant is too large.",
        "soft bonds": "Its velocities do not account for that: the force constant is too small.",
    }
    return [(name, f"{'; '.join(texts)}. {tails[name]}") for name, texts in found.items()]


def _stands_out(line: Line | None, ratio: float) -> bool:
    """Whether a line differs and, the temperature of the whole allowed for, still would."""
    if line is None or line.verdict is not Verdict.DIFFERS:
        return False
    return abs(ratio - 1) > line.tolerance + 2 * line.error
