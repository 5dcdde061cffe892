"""Numbers and verdicts as people read them, the same on the page, the terminal and in CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Headline, Line, Verdict, headlines
from ase_atom.analysis.statistics import Estimate
from ase_atom.units import format_time

_NOTHING = 1e-4  # of the tolerance: what is smaller is rounding


def number(value: float, error: float = 0.0, unit: str = "", grain: float = 0.0) -> str:
    """Return a value with its error, both to the error's second digit: ``1.5315 ± 0.0009 Å``.

    A value and error below ``grain`` are shown as zero.
    """
    if not math.isfinite(value):
        return "–"
    if math.isfinite(error) and abs(value) + error < grain:
        value = error = 0.0
    return _plain(value, error, f" {unit}" if unit else "").replace("-", "−")


def _plain(value: float, error: float, tail: str) -> str:
    if not math.isfinite(error):
        return f"{value:.4g} ± ?{tail}"
    if error <= 0 or error < 1e-12 * abs(value):
        return f"{value:.4g}{tail}"
    digits = max(0, min(9, 1 - math.floor(math.log10(error))))
    if digits > 7:
        return f"{value:.3g} ± {error:.1g}{tail}"
    return f"{value:.{digits}f} ± {error:.{digits}f}{tail}"


def estimate(side: Estimate | None, line: Line) -> str:
    """Return one side's number in the line's unit; empty where there is none."""
    if side is None:
        return ""
    grain = 0.0 if line.kind == "ratio" else _NOTHING * line.tolerance
    return number(side.value, side.error, line.unit, grain)


def deviation(line: Line, unit: bool = True) -> str:
    """Return what is compared with the tolerance."""
    if line.kind == "ratio":
        return number(100 * line.deviation, 100 * line.error, "%" if unit else "")
    grain = _NOTHING * line.tolerance
    return number(line.deviation, line.error, line.unit if unit else "", grain)


def tolerance(line: Line) -> str:
    """Return the tolerance in the deviation's unit."""
    if line.kind == "ratio":
        return f"{100 * line.tolerance:.3g} %"
    return f"{line.tolerance:.3g} {line.unit}".strip()


def samples(line: Line) -> str:
    """Return the effective samples of the side that has fewer."""
    return "" if not math.isfinite(line.samples) else f"{line.samples:.0f}"


def css(verdict: Verdict) -> str:
    """Return a verdict's class on the page."""
    return str(verdict).split()[0]


def tally(row: Headline) -> str:
    """Return how many lines of a group say what."""
    parts = [f"{count} {verdict}" for verdict, count in row.counts.items() if count]
    return ", ".join(parts)


def worst(row: Headline) -> str:
    """Return the largest deviation of a group and where it is."""
    return f"{deviation(row.worst)} ({row.worst.name})"


def in_words(
    lines: Sequence[Line], findings: Sequence[str] = (), missing: Sequence[str] = ()
) -> str:
    """Return what a comparison comes to, in one sentence.

    Parameters
    ----------
    lines
        With their verdicts.
    findings
        Names of known faults of the trajectory.
    missing
        What could not be measured.
    """
    by_verdict: dict[Verdict, list[str]] = {verdict: [] for verdict in Verdict}
    for row in headlines(lines):
        by_verdict[row.verdict].append(row.group)
    agree, differ, unclear = (by_verdict[verdict] for verdict in Verdict)
    if findings:
        start = f"Not the reference's dynamics ({listed(findings)})"
    elif differ:
        start = f"Differs in {listed(differ)}"
        if agree:
            start += f"; the same within the errors in {listed(agree)}"
    elif agree:
        start = "The same within the errors" + (f" in {listed(agree)}" if unclear else "")
    else:
        return "Too short to tell anything."
    open_ = [*unclear, *missing]
    return f"{start}; too short to tell {listed(open_)}." if open_ else f"{start}."


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names with commas, and how many more there are."""
    unique = list(dict.fromkeys(names))
    if len(unique) > most:
        return f"{', '.join(unique[: most - 1])} and {len(unique) - most + 1} more"
    return " and ".join([", ".join(unique[:-1]), unique[-1]] if len(unique) > 1 else unique)


def settings(side: Trajectory) -> str:
    """Return how a side was simulated, as far as it says, and how much of it there is."""
    facts = side.facts
    ensemble = facts.get("ensemble", "")
    parts = [ensemble if len(ensemble) > 3 else ensemble.upper()] if ensemble else []
    if "temperature_K" in facts:
        parts.append(f"{float(facts['temperature_K']):g} K")
    if ensemble.lower() == "langevin" and "friction_per_fs" in facts:
        parts.append(f"friction {1000 * float(facts['friction_per_fs']):g}/ps")
    if theory := facts.get("theory") or facts.get("operator"):
        parts.append(theory)
    if not parts:
        parts.append("settings not stated")
    interval, runs = side.interval, len(side.segments)
    frames = f"{side.frames} frames" + (f" in {runs} runs" if runs > 1 else "")
    if interval is not None:
        frames += f", every {format_time(round(interval, 3))}"
    return ", ".join([*parts, frames])


def summary(counts: dict[Verdict, int]) -> str:
    """Return how many lines say what, as a sentence."""
    agree, differ, unclear = (counts[v] for v in Verdict)
    return (
        f"{agree + differ + unclear} lines: {agree} agree, {differ} differ, and for {unclear} this "
        "much data cannot tell."
    )
