"""``ase-atom compare``: a trajectory laid beside a reference, with a verdict per line."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import typer


def compare(
    trajectory: Path = typer.Argument(metavar="TRAJECTORY"),
    reference: Path = typer.Argument(metavar="REFERENCE"),
    report: Path = typer.Option(..., help="Folder for the report.", metavar="FOLDER"),
    topology: Path | None = typer.Option(
        None, help="Structure or PSF file of the atoms, for formats that do not say."
    ),
    reorder: bool = typer.Option(
        False, "--reorder", help="Put the atoms into the reference's order, as bonds tell."
    ),
    tolerance: list[str] = typer.Option(
        [], help="Largest difference that counts as none, such as bond_mean=0.01."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a report."),
) -> None:
    """Compare a trajectory with a reference."""
    from ase_atom.analysis import Tolerances
    from ase_atom.analysis import compare as compare_trajectories
    from ase_atom.analysis.report import check_folder, print_comparison

    check_folder(report, overwrite)
    found = compare_trajectories(
        trajectory,
        reference,
        topology=topology,
        reorder=reorder,
        tolerances=Tolerances.parse(tolerance),
    )
    command = shlex.join(["ase-atom", *sys.argv[1:]])
    page = found.write(report, command=command, overwrite=overwrite)
    print_comparison(found)
    typer.echo(f"report  {page}")
