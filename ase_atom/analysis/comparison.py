"""The comparison as a whole: from two trajectories to lines, verdicts and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line, Tolerances, Verdict, judge
from ase_atom.analysis.measures.conservation import compare_conservation
from ase_atom.analysis.measures.diagnosis import Finding, diagnose
from ase_atom.analysis.measures.dynamics import compare_dynamics
from ase_atom.analysis.measures.pair import Pair, have_common_starts
from ase_atom.analysis.measures.structure import compare_structure
from ase_atom.analysis.measures.trust import add_expected_errors
from ase_atom.analysis.molecule.coordinates import perceive
from ase_atom.analysis.options import Options
from ase_atom.analysis.outcome import Outcome
from ase_atom.analysis.plots import Section
from ase_atom.analysis.sections import Energies, Kinetics, add_infrared, paths, thermodynamics
from ase_atom.analysis.sides import Sides, load_sides
from ase_atom.analysis.statistics import LEAST_BLOCKS
from ase_atom.errors.keywords import known_keywords

SHORT = 1000.0
"""fs; few runs that together are shorter are one sample of soft modes."""

_HOLDS_AT_ONCE = ("position error", "motion beside velocities", "centre of mass")


class Comparison(Outcome):
    """A trajectory laid beside a reference, with its report."""

    def write(self, folder: str | Path, *, command: str = "", overwrite: bool = False) -> Path:
        """Write the report, and return the page; see `ase_atom.analysis.report.write_report`."""
        # Matplotlib and the page's templates take time to import.
        from ase_atom.analysis.report import write_report

        return write_report(self, Path(folder), command=command, overwrite=overwrite)


@known_keywords(*(each.name for each in fields(Options)))
def compare(
    trajectory: str | Path | Trajectory | None,
    reference: str | Path | Trajectory,
    **options: Any,
) -> Comparison:
    """Compare a trajectory with a reference.

    Parameters
    ----------
    trajectory, reference
        Files that `ase_atom.analysis.load_trajectory` reads, or what it returns. Without a
        trajectory, that of the operator is compared.
    **options
        The fields of `ase_atom.analysis.Options`, such as ``operator="ethanol-gfn2"``.

    Raises
    ------
    AtomError
        For anything that cannot be compared, saying why.
    """
    asked = Options(**options)
    named = Energies.of(asked)
    sides = load_sides(trajectory, reference, asked)
    kinetics, energies = Kinetics.of(sides), named.or_own(sides.run)
    pair, sides = _pair(sides, kinetics, asked)
    dynamics, spectra = compare_dynamics(pair, kinetics.motions, sides.lacks)
    add_infrared(pair, energies, asked.infrared, dynamics)
    heat = thermodynamics(pair, kinetics, sides.lacks, energies)
    add_expected_errors(pair, heat)
    sections = [
        paths(pair, kinetics, sides),
        compare_structure(pair),
        dynamics,
        heat,
        compare_conservation(pair, kinetics.motions, kinetics.ensembles),
    ]
    lines = judge([line for section in sections for line in section.lines])
    lines = _unclear_where_brief(lines, pair)
    findings = diagnose(pair, lines, kinetics.temperatures, spectra, sides.mixed)
    return _assemble(pair, sections, lines, findings)


def _pair(sides: Sides, kinetics: Kinetics, options: Options) -> tuple[Pair, Sides]:
    # A thermostat's noise makes paths from common starts part at once.
    common = "canonical" not in kinetics.ensembles and have_common_starts(
        sides.trajectory, sides.reference
    )
    if sides.beside and not common:
        sides = sides.noting_run()
    pair = Pair(
        sides.trajectory,
        sides.reference,
        perceive(
            sides.reference.numbers,
            sides.reference.pooled("positions", 1000),
            sides.trajectory.names or sides.reference.names or None,
        ),
        options.tolerances or Tolerances(),
        np.random.default_rng(options.seed),
        kinetics.temperature(sides.reference),
        common,
    )
    return pair, sides


def _unclear_where_brief(lines: Sequence[Line], pair: Pair) -> list[Line]:
    """Claim no difference where a side is a few runs, all together shorter than slow motion.

    Frames of so short a stretch of time are one sample of soft modes, and blocking cannot see that.
    What holds at every frame is exempt.
    """

    def brief(side: Trajectory) -> bool:
        if side.duration is None or len(side.segments) >= LEAST_BLOCKS:
            return False
        return side.duration < SHORT

    if not any(brief(side) for side in pair.sides):
        return list(lines)
    note = f"less than {SHORT / 1000:g} ps in few runs shows no difference for sure"
    return [
        replace(line, verdict=Verdict.UNCLEAR, note=f"{line.note}; {note}".lstrip("; "))
        if line.verdict is Verdict.DIFFERS and line.group not in _HOLDS_AT_ONCE
        else line
        for line in lines
    ]


def _assemble(
    pair: Pair, sections: Sequence[Section], lines: Sequence[Line], findings: Sequence[Finding]
) -> Comparison:
    return Comparison(
        pair.trajectory,
        pair.reference,
        pair.coordinates,
        tuple(lines),
        tuple(one for section in sections for one in section.missing),
        tuple(plot for section in sections for plot in section.plots),
        tuple((section.name, text) for section in sections for text in section.remarks),
        tuple((section.name, *fact) for section in sections for fact in section.facts),
        tuple(findings),
        pair.tolerances,
    )
