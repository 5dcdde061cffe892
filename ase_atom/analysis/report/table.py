"""The verdict table on the terminal, for eighty columns."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from ase_atom.analysis.lines import Headline, Verdict, headlines
from ase_atom.analysis.outcome import Outcome
from ase_atom.analysis.report import words
from ase_atom.analysis.report.page import notes

_COLOURS = {Verdict.AGREES: "green", Verdict.DIFFERS: "bold red", Verdict.UNCLEAR: "dim"}
_MOST = 15  # lines that differ, listed one by one


def print_comparison(comparison: Outcome, console: Console | None = None) -> None:
    """Print the count of verdicts, findings, the headline table, and what there is to say more.

    Parameters
    ----------
    comparison
        What to print.
    console
        Where to; standard output by default.
    """
    console = console or Console()

    def say(text: str) -> None:
        console.print(text, highlight=False)

    say(f"[bold]{words.in_words(comparison.lines, [f.name for f in comparison.findings])}[/]")
    for role, side in (
        ("trajectory", comparison.trajectory),
        ("reference", comparison.reference),
    ):
        say(f"{role}: {words.settings(side)}")
    say(words.summary({v: comparison.count(v) for v in Verdict}))
    for finding in comparison.findings:
        say(f"[bold red]{finding.name}[/]: {finding.text}")
    if not comparison.findings:
        say("No known fault was found.")
    say("")
    console.print(_table(headlines(comparison.lines)))
    say("")
    differing = [line for line in comparison.worst() if line.verdict is Verdict.DIFFERS]
    if differing:
        say("lines that differ, the worst first")
    for line in differing[:_MOST]:
        sides = words.estimate(line.trajectory, line)
        if line.reference is not None:
            sides += f" beside {words.estimate(line.reference, line)}"
        say(f"  {line.name}: {sides}")
    if len(differing) > _MOST:
        say(f"  and {len(differing) - _MOST} more")
    for _, name, value in comparison.facts:
        say(f"{name}: {value}")
    for note in notes(comparison):
        say(f"note: {note}")
    reasons: dict[str, list[str]] = {}
    for one in comparison.missing:
        reasons.setdefault(one.reason, []).append(one.name)
    for reason, names in reasons.items():
        say(f"not measured: {', '.join(names)}: {reason}")


def _table(rows: list[Headline]) -> Table:
    """One row for each group; which line deviates most is for the page to say."""
    table = Table(box=None, pad_edge=False)
    table.add_column("verdict", no_wrap=True)
    table.add_column("lines", no_wrap=True, justify="right")
    table.add_column("what", min_width=24)
    table.add_column("largest deviation", no_wrap=True)
    table.add_column("within", no_wrap=True)
    for row in rows:
        count = sum(row.counts.values())
        table.add_row(
            f"[{_COLOURS[row.verdict]}]{row.verdict}[/]",
            f"{row.counts[row.verdict]}/{count}",
            row.group,
            words.deviation(row.worst, unit=False),  # the tolerance has it
            words.tolerance(row.worst),
        )
    return table
