"""The summary that ``ase-atom run`` ends with."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ase_atom.cli.messages import folded
from ase_atom.units import format_time

if TYPE_CHECKING:
    from ase import Atoms

    from ase_atom.analysis.molecule_summary import BondDeviation, MoleculeSummary
    from ase_atom.analysis.statistics import Estimate
    from ase_atom.analysis.summary import RunSummary
    from ase_atom.cli.structures import Molecule
    from ase_atom.errors import BrokenStateError
    from ase_atom.propagation import Label
    from ase_atom.propagation.depth import DepthWatch
    from ase_atom.propagation.leaps import LeapTally


@dataclass(frozen=True)
class Row:
    """One replica of one molecule.

    Parameters
    ----------
    molecule
        Which.
    file
        Its trajectory.
    label
        What it and its atoms are called.
    """

    molecule: Molecule
    file: Path
    label: Label

    @property
    def atoms(self) -> Atoms:
        """The structure."""
        return self.molecule.atoms


@dataclass(frozen=True)
class Losses:
    """What a run could not do.

    Parameters
    ----------
    left_out
        Name of each structure that was not simulated, by its place in the command.
    broken
        One error for each replica that broke in the run; ``replica`` counts the run's rows.
    """

    left_out: Mapping[int, str]
    broken: Sequence[BrokenStateError] = ()


def report(
    summary: RunSummary,
    begin: float,
    wall: float,
    rows: Sequence[Row],
    losses: Losses,
    engine: str,
    tally: LeapTally | None = None,
    watch: DepthWatch | None = None,
) -> None:
    """Print what the run amounted to.

    Parameters
    ----------
    summary
        Gathered over the frames.
    begin
        Time in fs at which a run that went on did so, else zero.
    wall
        Wall time in s since.
    rows
        All replicas, in the order of the batch.
    losses
        What is missing.
    engine
        What evaluated the operator.
    tally
        What leaps came to.
    watch
        What looked at the expected error of jumps.
    """
    from ase_atom.io import output_files

    simulated, many = summary.last_time, len(rows) > 1
    speed = ns_per_day((simulated - begin) * len(rows), wall)
    since = f" since {format_time(begin)}" if begin else ""
    lines = [
        (
            "simulated",
            f"{f'{len(rows)} × ' if many else ''}{format_time(simulated)} in "
            f"{summary.frames} frames{' each' if many else ''}",
        ),
        ("wall time", f"{wall:.1f} s{since}, {speed:.3g} ns/day{' in all' if many else ''}"),
        ("engine", engine),
    ]
    if tally is not None:
        lines.append(("leaps", tally.described()))
    table = []
    if len(summary.molecules) == 1 and not losses.left_out:
        lines += _of_one(summary, summary.molecules[0], rows)
        course = None if watch is None else watch.course(summary.molecules[0].rows)
        if course is not None:
            lines.append(("expected error", str(course)))
    else:
        table = _of_several(summary, rows, losses)
    first, last = output_files(rows[0].file), output_files(rows[-1].file)
    for name, one, other in zip(("trajectory", "topology"), first, last, strict=False):
        lines.append((name, f"{one} to {other.name}" if many else str(one)))
    print_table(lines)
    if table:
        typer.echo()
        print_table(table)


def _of_one(
    summary: RunSummary, molecule: MoleculeSummary, rows: Sequence[Row]
) -> list[tuple[str, str]]:
    text = (
        f"{_kelvin(molecule.temperature)} mean over N_f = {molecule.degrees_of_freedom} degrees of "
        f"freedom{_start_left_out(summary, molecule)}"
    )
    lines = [("temperature", text)]
    if molecule.parts_differ:
        lines.append(("of its parts", _parts(molecule)))
    if molecule.largest is not None:
        where = f" in {rows[molecule.largest.replica].label.molecule}" if len(rows) > 1 else ""
        lines.append(("largest bond deviation", _bond(molecule.largest, rows) + where))
    return lines


def _of_several(summary: RunSummary, rows: Sequence[Row], losses: Losses) -> list[tuple[str, ...]]:
    """A line for each molecule, in the order of the command, under a heading."""
    table = {
        place: (name, "", "not simulated, see above", "", "")
        for place, name in losses.left_out.items()
    }
    for molecule in summary.molecules:
        own = [rows[row] for row in molecule.rows]
        files = own[0].file.name + (f" to {own[-1].file.name}" if len(own) > 1 else "")
        broken = sum(error.replica in molecule.rows for error in losses.broken)
        temperature = _kelvin(molecule.temperature) + _start_left_out(summary, molecule)
        if molecule.parts_differ:
            temperature += f" ({_parts(molecule)})"
        table[own[0].molecule.place] = (
            own[0].molecule.name,
            str(molecule.degrees_of_freedom),
            temperature,
            "" if molecule.largest is None else _bond(molecule.largest, rows),
            files + (f", {broken} of {len(own)} broke" if broken else ""),
        )
    heading = ("molecule", "N_f", "mean temperature", "largest bond deviation", "trajectory")
    return [heading, *(table[place] for place in sorted(table))]


def _kelvin(temperature: Estimate) -> str:
    error = f" ± {temperature.error:.1f}" if math.isfinite(temperature.error) else ""
    return f"{temperature.value:.1f}{error} K"


def _start_left_out(summary: RunSummary, molecule: MoleculeSummary) -> str:
    if not summary.settled:
        return ", on its way to equilibrium"
    return f", after the first {format_time(molecule.settling)}" if molecule.settling else ""


def _parts(molecule: MoleculeSummary) -> str:
    return ", ".join(f"{name} {_kelvin(value)}" for name, value in molecule.parts.items())


def _bond(bond: BondDeviation, rows: Sequence[Row]) -> str:
    i, j = (rows[bond.replica].label.atoms[index] for index in bond.atoms)
    return (
        f"{bond.length - bond.start:+.3f} Å, {i}-{j} from {bond.start:.3f} to {bond.length:.3f} Å "
        f"at {format_time(bond.time)}"
    )


def print_table(lines: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(map(str.ljust, line, widths)).rstrip()
        typer.echo(folded(text, sys.stdout, widths[0] + 2))


def ns_per_day(simulated: float, wall: float) -> float:
    """Return simulated ns per day of wall time, from fs and s."""
    return simulated * 1e-6 * 86400 / max(wall, 1e-9)
