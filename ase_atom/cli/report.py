"""The summary that ``ase-atom run`` ends with."""

from __future__ import annotations

from pathlib import Path

import typer
from ase import Atoms

from ase_atom.io import output_files
from ase_atom.summary import RunSummary
from ase_atom.topology import atom_label
from ase_atom.units import format_time


def report(summary: RunSummary, wall: float, atoms: Atoms, output: Path) -> None:
    """Print what the run amounted to.

    Parameters
    ----------
    summary
        Gathered over the frames.
    wall
        Wall time in s.
    atoms
        The molecule, for the names of its atoms.
    output
        The trajectory file.
    """
    simulated = summary.last_time
    lines = [
        ("simulated", f"{format_time(simulated)} in {summary.frames} frames"),
        ("wall time", f"{wall:.1f} s, {ns_per_day(simulated, wall):.3g} ns/day"),
        (
            "temperature",
            f"{summary.mean_temperature:.1f} K mean over N_f = {summary.degrees_of_freedom} "
            "degrees of freedom",
        ),
    ]
    bond = summary.largest
    if bond is not None:
        i, j = (atom_label(atoms.numbers, index) for index in bond.atoms)
        lines.append(
            (
                "largest bond deviation",
                f"{bond.length - bond.start:+.3f} Å, {i}-{j} from {bond.start:.3f} to "
                f"{bond.length:.3f} Å at {format_time(bond.time)}",
            )
        )
    trajectory, *topology = output_files(output)
    lines.append(("trajectory", str(trajectory)))
    lines.extend(("topology", str(file)) for file in topology)
    print_table(lines)


def print_table(lines: list[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name:<{width}}  {value}")


def ns_per_day(simulated: float, wall: float) -> float:
    """Return simulated ns per day of wall time, from fs and s."""
    return simulated * 1e-6 * 86400 / max(wall, 1e-9)
