"""The summary that ``ase-atom run`` ends with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from ase import Atoms

from ase_atom.io import output_files
from ase_atom.summary import RunSummary
from ase_atom.topology import atom_label
from ase_atom.units import format_time


def report(
    summary: RunSummary, wall: float, molecules: Sequence[Atoms], files: Sequence[Path]
) -> None:
    """Print what the run amounted to.

    Parameters
    ----------
    summary
        Gathered over the frames.
    wall
        Wall time in s.
    molecules
        All replicas, for the names of their atoms.
    files
        Their trajectory files.
    """
    simulated, many = summary.last_time, len(molecules) > 1
    speed = ns_per_day(simulated * len(molecules), wall)
    counted = ", ".join(map(str, summary.degrees_of_freedom))
    lines = [
        (
            "simulated",
            f"{f'{len(molecules)} × ' if many else ''}{format_time(simulated)} in "
            f"{summary.frames} frames{' each' if many else ''}",
        ),
        ("wall time", f"{wall:.1f} s, {speed:.3g} ns/day{' in all' if many else ''}"),
        (
            "temperature",
            f"{summary.mean_temperature:.1f} K mean over N_f = {counted} degrees of freedom",
        ),
    ]
    bond = summary.largest
    if bond is not None:
        i, j = (atom_label(molecules[bond.replica].numbers, index) for index in bond.atoms)
        where = f" in replica {bond.replica}" if many else ""
        lines.append(
            (
                "largest bond deviation",
                f"{bond.length - bond.start:+.3f} Å, {i}-{j} from {bond.start:.3f} to "
                f"{bond.length:.3f} Å at {format_time(bond.time)}{where}",
            )
        )
    first = output_files(files[0])
    last = output_files(files[-1])
    for name, one, other in zip(("trajectory", "topology"), first, last, strict=False):
        lines.append((name, f"{one} to {other.name}" if many else str(one)))
    print_table(lines)


def print_table(lines: list[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name:<{width}}  {value}")


def ns_per_day(simulated: float, wall: float) -> float:
    """Return simulated ns per day of wall time, from fs and s."""
    return simulated * 1e-6 * 86400 / max(wall, 1e-9)
