"""The comparison as a whole: from two trajectories to lines, verdicts and plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ase_atom.analysis.checks import check_alone, check_pair
from ase_atom.analysis.conservation import compare_conservation
from ase_atom.analysis.coordinates import Coordinates, perceive
from ase_atom.analysis.diagnosis import Finding
from ase_atom.analysis.dynamics import compare_dynamics
from ase_atom.analysis.lines import Line, Missing, Tolerances, Verdict, judge
from ase_atom.analysis.motion import Temperatures, split_motion, temperatures
from ase_atom.analysis.pair import Pair, have_common_starts
from ase_atom.analysis.plots import Plot, Section
from ase_atom.analysis.sources import load_trajectory
from ase_atom.analysis.structure import compare_structure
from ase_atom.analysis.thermodynamics import compare_thermodynamics, ensemble_of
from ase_atom.analysis.trajectory import Trajectory
from ase_atom.analysis.velocities import with_velocities

_ROOM = 300.0  # K, for free energies where nothing says how hot it was


@dataclass(frozen=True)
class Comparison:
    """A trajectory laid beside a reference.

    Attributes
    ----------
    trajectory, reference
        As they were compared.
    coordinates
        Of the molecule.
    lines
        Every number with its verdict.
    missing
        What could not be measured, and why.
    plots
        In the order of the report.
    remarks
        How things were measured: section and sentence.
    findings
        Diseases of the trajectory, by name.
    tolerances
        That the verdicts are about.
    """

    trajectory: Trajectory
    reference: Trajectory
    coordinates: Coordinates
    lines: tuple[Line, ...]
    missing: tuple[Missing, ...]
    plots: tuple[Plot, ...]
    remarks: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    tolerances: Tolerances

    @property
    def sections(self) -> list[str]:
        """Names of the sections, in the order of the report."""
        named = [line.section for line in self.lines] + [plot.section for plot in self.plots]
        return list(dict.fromkeys(named))

    def count(self, verdict: Verdict, section: str | None = None) -> int:
        """Number of lines with a verdict, of one section or of all."""
        return Counter(
            line.verdict for line in self.lines if section is None or line.section == section
        )[verdict]

    def worst(self, section: str | None = None) -> list[Line]:
        """Lines by deviation over tolerance, the largest first."""
        chosen = [line for line in self.lines if section is None or line.section == section]
        return sorted(chosen, key=lambda line: -line.severity)

    def write(self, folder: str | Path, *, command: str = "", overwrite: bool = False) -> Path:
        """Write the report, and return the page; see `ase_atom.analysis.report.write_report`."""
        from ase_atom.analysis.report import write_report

        return write_report(self, Path(folder), command=command, overwrite=overwrite)


def compare(
    trajectory: str | Path | Trajectory,
    reference: str | Path | Trajectory,
    *,
    topology: Atoms | str | Path | None = None,
    reorder: bool = False,
    discard: float = 0.0,
    tolerances: Tolerances | None = None,
    seed: int = 0,
    **loading: Any,
) -> Comparison:
    """Compare a trajectory with a reference.

    Parameters
    ----------
    trajectory, reference
        Files that `ase_atom.analysis.load_trajectory` reads, or what it returns.
    topology
        Elements of the atoms, for files that do not say.
    reorder
        Put the trajectory's atoms into the reference's order where the bonds tell how.
    discard
        Time at the start of each run that is left out, fs.
    tolerances
        For the verdicts.
    seed
        Of the bootstrap.
    loading
        For `load_trajectory`.

    Raises
    ------
    AtomError
        For anything that cannot be compared, saying why.
    """
    tolerances = tolerances or Tolerances()
    random = np.random.default_rng(seed)
    sides = []
    for given in (trajectory, reference):
        side = (
            given if isinstance(given, Trajectory) else load_trajectory(given, topology, **loading)
        )
        side = given.discarding(discard)
        check_alone(side)
        sides.append(side)
    ours, mixed = check_pair(*sides, reorder)
    (ours, ours_lack), (theirs, theirs_lack) = (with_velocities(side) for side in (ours, sides[1]))
    coordinates = perceive(theirs.numbers, theirs.pooled("positions", 1000))
    lacks = [reason for reason in (ours_lack, theirs_lack) if reason]
    motions = kinetics = None
    if not lacks:
        motions = tuple([split_motion(run, side.masses) for run in side] for side in (ours, theirs))
        kinetics = tuple(temperatures(*both) for both in zip((ours, theirs), motions, strict=True))
    pair = Pair(
        ours,
        theirs,
        coordinates,
        tolerances,
        random,
        _temperature(theirs, None if kinetics is None else kinetics[1]),
        have_common_starts(ours, theirs),
    )
    ensembles = tuple(
        ensemble_of(side, None if lacks else side.kinetic_energies()) for side in pair.sides
    )
    dynamics, _ = compare_dynamics(pair, motions, lacks)
    sections = [compare_structure(pair), dynamics]
    if kinetics is None:
        sections.append(
            Section(
                "thermodynamics",
                missing=[Missing("thermodynamics", "temperatures", "; ".join(lacks))],
            )
        )
    else:
        sections.append(compare_thermodynamics(pair, kinetics))
    sections.append(compare_conservation(pair, motions, ensembles))
    findings = [Finding("mixed-up atoms", mixed)] if mixed else []
    return _assemble(ours, theirs, coordinates, sections, findings, tolerances)


def _temperature(reference: Trajectory, kinetics: Temperatures | None) -> float:
    """Temperature of the reference: of its vibration, or as its file says, or 300 K."""
    if kinetics is not None:
        return float(np.concatenate(kinetics.vibration).mean())
    try:
        return float(reference.facts["temperature_K"])
    except (KeyError, ValueError):
        return _ROOM


def _assemble(
    ours: Trajectory,
    theirs: Trajectory,
    coordinates: Coordinates,
    sections: Sequence[Section],
    findings: Sequence[Finding],
    tolerances: Tolerances,
) -> Comparison:
    return Comparison(
        ours,
        theirs,
        coordinates,
        tuple(judge([line for section in sections for line in section.lines])),
        tuple(one for section in sections for one in section.missing),
        tuple(plot for section in sections for plot in section.plots),
        tuple((section.name, text) for section in sections for text in section.remarks),
        tuple(findings),
        tolerances,
    )
