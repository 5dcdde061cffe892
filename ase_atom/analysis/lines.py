"""Lines of a comparison and their verdicts.

A line sets one number of the trajectory beside the same number of the reference. What counts is
whether the difference is larger than a tolerance that a chemist would care about:

- *differs*: it is shown to be larger. Each line's one-sided test of this, by Student's
  distribution, is corrected for the number of lines (Holm, Scand. J. Stat. 6, 65 (1979)), so that
  in a report of many lines a trajectory without fault has one "differs" in twenty reports.
- *agrees*: it is shown to be smaller: the line's own 95 % interval lies within the tolerance. A
  claim that all lines agree needs no correction, as every one of them has to hold (Berger,
  Technometrics 24, 295 (1982)).
- *cannot tell*: neither, with this much data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from ase_atom.analysis.statistics import Estimate
from ase_atom.errors import ConfigError

LEVEL = 0.05
FEW_SAMPLES = 10.0
"""With fewer effective samples on either side an error bar itself is too uncertain to trust."""


class Verdict(StrEnum):
    """What a line says."""

    AGREES = "agrees"
    DIFFERS = "differs"
    UNCLEAR = "cannot tell"


@dataclass(frozen=True)
class Tolerances:
    """Differences up to which two trajectories count as the same.

    Attributes
    ----------
    bond_mean
        Å.
    angle_mean
        Degrees.
    width
        Relative, of the standard deviation of a bond length, an angle or an energy.
    divergence
        Jensen–Shannon divergence of a distribution, nats.
    peak
        Position of a vibrational band, cm⁻¹.
    band_power
        Share of the kinetic energy in wrong bands.
    band_ratio
        Relative, of the power of one band.
    temperature
        Relative, of any temperature; mean potential energies by the same share of equipartition.
    mode_temperature
        Relative, of the temperature of a normal mode beside that of all.
    relaxation
        Relative, of a correlation time.
    drift
        Of the total energy, meV per atom and ps.
    step
        Relative, of the motion between frames beside what velocities say.
    path
        Position error at which a path counts as lost, Å.
    """

    bond_mean: float = 0.005
    angle_mean: float = 1.0
    width: float = 0.10
    divergence: float = 0.02
    peak: float = 20.0
    band_power: float = 0.05
    band_ratio: float = 0.25
    temperature: float = 0.03
    mode_temperature: float = 0.10
    relaxation: float = 0.25
    drift: float = 1.0
    step: float = 0.02
    path: float = 0.1

    @classmethod
    def parse(cls, settings: Sequence[str]) -> Tolerances:
        """Read settings such as ``bond_mean=0.01``.

        Raises
        ------
        ConfigError
            For a name that there is not, or a value that is no number above zero.
        """
        known = [field.name for field in fields(cls)]
        chosen = {}
        for setting in settings:
            name, _, text = setting.partition("=")
            if name not in known:
                raise ConfigError(f"no tolerance {name!r}: there are {', '.join(known)}")
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"tolerance {setting!r} should be {name}=<number above zero>")
            chosen[name] = value
        return cls(**chosen)


@dataclass(frozen=True)
class Line:
    """One number of the trajectory beside that of the reference.

    Attributes
    ----------
    section
        Where it belongs: ``structure``, ``dynamics``, ``thermodynamics``, ``conservation`` or
        ``pathwise``.
    group
        Lines of one kind, summed up in one row of the headline table.
    name
        What is measured.
    unit
        Of both numbers, empty for plain ones.
    trajectory, reference
        The numbers; an exact expectation has no error. None if a line has but a deviation.
    tolerance
        Largest deviation that counts as none.
    kind
        ``difference`` of the numbers, their ``ratio`` less one, or the trajectory's number
        ``alone`` where that is a deviation already.
    note
        What else one should know.
    paired
        The deviation itself, where runs belong together in pairs and it is known better than the
        two sides are.
    deviation
        Filled in by `judge`: what is compared with the tolerance.
    error, freedom
        Its standard error, and the degrees of freedom of that.
    p
        Probability of so large a deviation if the tolerance were kept, corrected for all lines.
    verdict
        See the module.
    """

    section: str
    group: str
    name: str
    unit: str
    trajectory: Estimate
    reference: Estimate | None
    tolerance: float
    kind: Literal["difference", "ratio", "alone"] = "difference"
    note: str = ""
    paired: Estimate | None = None
    deviation: float = math.nan
    error: float = math.nan
    freedom: float = math.nan
    p: float = math.nan
    verdict: Verdict = Verdict.UNCLEAR

    @property
    def samples(self) -> float:
        """Effective samples of the side that has fewer."""
        sides = [self.trajectory] + ([] if self.reference is None else [self.reference])
        return min(side.samples for side in sides)

    @property
    def severity(self) -> float:
        """Deviation over tolerance, for sorting; zero where it is unknown."""
        found = abs(self.deviation) / self.tolerance
        return found if math.isfinite(found) else 0.0


@dataclass(frozen=True)
class Headline:
    """Lines of one kind in one row.

    Attributes
    ----------
    section, group
        Of all of them.
    worst
        The line with the largest deviation over tolerance; of those with the group's verdict.
    counts
        Number of lines with each verdict.
    verdict
        ``differs`` if any line does, ``agrees`` if all do.
    """

    section: str
    group: str
    worst: Line
    counts: dict[Verdict, int]
    verdict: Verdict


def headlines(lines: Sequence[Line]) -> list[Headline]:
    """Sum lines up by group, in the order in which the groups appear."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.section, line.group), []).append(line)
    rows = []
    for (section, group), members in groups.items():
        counts = {verdict: sum(m.verdict is verdict for m in members) for verdict in Verdict}
        verdict = Verdict.UNCLEAR
        if counts[Verdict.DIFFERS]:
            verdict = Verdict.DIFFERS
        elif counts[Verdict.AGREES] == len(members):
            verdict = Verdict.AGREES
        those = [m for m in members if m.verdict is verdict]
        worst = max(those, key=lambda line: line.severity)
        rows.append(Headline(section, group, worst, counts, verdict))
    return rows


@dataclass(frozen=True)
class Missing:
    """A measurement that could not be made, and why."""

    section: str
    name: str
    reason: str


def judge(lines: Sequence[Line]) -> list[Line]:
    """Return the lines with deviations, errors and verdicts, in the order given."""
    measured = [_measure(line) for line in lines]
    raw = np.array([line.p for line in measured])
    corrected = holm(raw)
    return [
        replace(line, p=float(p), verdict=_verdict(line, float(p)))
        for line, p in zip(measured, corrected, strict=True)
    ]


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values corrected for their number by Holm's step-down procedure; NaN stays."""
    out = np.full_like(p, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p[index]))
        out[index] = running
    return out


def _measure(line: Line) -> Line:
    ours, theirs = line.trajectory, line.reference
    if line.kind == "alone" or theirs is None:
        deviation, variances = ours.value, [(ours.error**2, ours.freedom)]
    elif line.kind == "difference":
        deviation = ours.value - theirs.value
        variances = [(side.error**2, side.freedom) for side in (ours, theirs)]
    elif theirs.value == 0:
        deviation, variances = math.nan, [(math.nan, math.nan)]
    else:
        ratio = ours.value / theirs.value
        deviation = ratio - 1
        variances = [
            ((ours.error / theirs.value) ** 2, ours.freedom),
            ((ratio * theirs.error / theirs.value) ** 2, theirs.freedom),
        ]
    if line.paired is not None and math.isfinite(line.paired.error):
        variances = [(line.paired.error**2, line.paired.freedom)]
    total = sum(variance for variance, _ in variances)
    error = math.sqrt(total) if total >= 0 else math.nan
    freedom = min(_freedom(variances), 1e6)
    p = _exceedance(abs(deviation), error, line.tolerance, freedom)
    return replace(line, deviation=deviation, error=error, freedom=freedom, p=p)


def _freedom(variances: Sequence[tuple[float, float]]) -> float:
    """Welch and Satterthwaite's degrees of freedom of a sum of variances."""
    total = sum(variance for variance, _ in variances)
    spread = sum(v**2 / f for v, f in variances if v > 0 and f > 0)
    return total**2 / spread if spread > 0 else math.inf


def _exceedance(size: float, error: float, tolerance: float, freedom: float) -> float:
    if not (math.isfinite(size) and math.isfinite(error)):
        return math.nan
    if error == 0:
        return 0.0 if size > tolerance else 1.0
    return float(stdtr(freedom, (tolerance - size) / error))


def _verdict(line: Line, corrected: float) -> Verdict:
    if not math.isfinite(corrected):
        return Verdict.UNCLEAR
    if corrected < LEVEL and line.samples >= 2:
        return Verdict.DIFFERS
    if line.samples < FEW_SAMPLES:
        return Verdict.UNCLEAR
    reach = float(stdtrit(line.freedom, 1 - LEVEL / 2)) * line.error if line.error > 0 else 0.0
    within = abs(line.deviation) + reach <= line.tolerance
    return Verdict.AGREES if within else Verdict.UNCLEAR
