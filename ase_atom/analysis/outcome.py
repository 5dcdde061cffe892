"""What a comparison comes to: lines with verdicts, plots, and what there is to be said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line, Missing, Tolerances, Verdict
from ase_atom.analysis.measures.diagnosis import Finding
from ase_atom.analysis.molecule.coordinates import Coordinates
from ase_atom.analysis.plots import Plot


@dataclass(frozen=True)
class Outcome:
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
    facts
        Numbers without a verdict: section, what they are, and what they say.
    findings
        Known faults of the trajectory, by name.
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
    facts: tuple[tuple[str, str, str], ...]
    findings: tuple[Finding, ...]
    tolerances: Tolerances

    @property
    def sections(self) -> list[str]:
        """Names of the sections, in the order of the report."""
        named = [line.section for line in self.lines] + [plot.section for plot in self.plots]
        return list(dict.fromkeys(named))

    def line(self, name: str) -> Line:
        """Return the line of a name.

        Raises
        ------
        KeyError
            If there is none.
        """
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(name)

    def count(self, verdict: Verdict, section: str | None = None) -> int:
        """Number of lines with a verdict, of one section or of all."""
        return Counter(
            line.verdict for line in self.lines if section is None or line.section == section
        )[verdict]

    def worst(self, section: str | None = None) -> list[Line]:
        """Lines by deviation over tolerance, the largest first."""
        chosen = [line for line in self.lines if section is None or line.section == section]
        return sorted(chosen, key=lambda line: -line.severity)
