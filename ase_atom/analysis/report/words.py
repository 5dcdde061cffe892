"""Numbers and verdicts as people read them, the same on the page, the terminal and in CSV."""

from __future__ import annotations

import math

from ase_atom.analysis.lines import Headline, Line, Verdict
from ase_atom.analysis.statistics import Estimate

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


def summary(counts: dict[Verdict, int]) -> str:
    """Return how many lines say what, as a sentence."""
    agree, differ, unclear = (counts[v] for v in Verdict)
    return (
        f"{agree + differ + unclear} lines: {agree} agree, {differ} differ, and for {unclear} this "
        "much data cannot tell."
    )
