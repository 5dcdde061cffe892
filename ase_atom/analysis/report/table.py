"""The verdict table on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ase_atom.analysis.lines import Verdict, headlines
from ase_atom.analysis.report import words

if TYPE_CHECKING:
    from ase_atom.analysis.comparison import Comparison

_COLOURS = {Verdict.AGREES: "green", Verdict.DIFFERS: "bold red", Verdict.UNCLEAR: "dim"}
_MOST = 15  # lines that differ, listed one by one


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print findings, the headline table, lines that differ, and what is missing."""
    console = console or Console()
    for finding in comparison.findings:
        console.print(f"[bold red]{finding.name}[/]: {finding.text}", highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("what", "verdict", "lines", "largest deviation among them", "within"):
        table.add_column(column, overflow="fold", no_wrap=column in ("verdict", "within"))
    for row in headlines(comparison.lines):
        table.add_row(
            row.group,
            f"[{_COLOURS[row.verdict]}]{row.verdict}[/]",
            words.tally(row),
            words.worst(row),
            words.tolerance(row.worst),
        )
    console.print(table)
    differing = [line for line in comparison.worst() if line.verdict is Verdict.DIFFERS]
    if differing:
        console.print("\nlines that differ, the worst first")
    for line in differing[:_MOST]:
        sides = f"{words.estimate(line.trajectory, line.unit)}"
        if line.reference is not None:
            sides += f" beside {words.estimate(line.reference, line.unit)}"
        console.print(f"  {line.name}: {sides}", highlight=False)
    if len(differing) > _MOST:
        console.print(f"  and {len(differing) - _MOST} more")
    for _, name, value in comparison.facts:
        console.print(f"{name}: {value}", highlight=False)
    for one in comparison.missing:
        console.print(f"not measured: {one.name}: {one.reason}", highlight=False)
    console.print("\n" + words.summary({v: comparison.count(v) for v in Verdict}))
