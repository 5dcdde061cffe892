"""``ase-atom spectrum``: the power spectrum of a trajectory, as a table and a picture."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import typer

from ase_atom.cli.options import read_time
from ase_atom.errors import ConfigError

_PICTURES = (".png", ".pdf", ".svg")


def spectrum(
    trajectory: Path = typer.Argument(help="Any trajectory that ase-atom convert reads."),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Picture (.png, .pdf or .svg); a CSV file goes beside it.",
        show_default="TRAJECTORY-spectrum.png here",
    ),
    highest: float | None = typer.Option(
        None, help="Highest wavenumber in cm⁻¹.", show_default="4000, without hydrogen 2600"
    ),
    window: str | None = typer.Option(
        None, help="Length of the windows.", show_default="what the run allows, at most 8ps"
    ),
    topology: Path | None = typer.Option(
        None,
        help="Structure or PSF file of the atoms, for formats that do not say.",
        show_default="the .pdb or .psf beside",
    ),
    frame_interval: str | None = typer.Option(
        None, help="Time between frames, if the file has no times of its own."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace output files."),
    as_json: bool = typer.Option(False, "--json", help="Print what was found as JSON."),
) -> None:
    """Compute the power spectrum of the velocities, whole and by element.

    A file without velocities will do. Best of
    microcanonical runs with close frames: --ensemble nve --frame-interval 1fs. Friction broadens
    lines, and of frames that lie far apart high wavenumbers fold onto low ones: such are refused.
    """
    from ase_atom.analysis import load_trajectory
    from ase_atom.analysis.power import power_spectrum
    from ase_atom.cli.report import print_table
    from ase_atom.io.registry import check_free
    from ase_atom.units import format_time

    picture = Path(f"{trajectory.stem}-spectrum.png") if output is None else output
    if picture.suffix not in _PICTURES:
        raise ConfigError(f"--output {picture} should end in {', '.join(_PICTURES)}")
    table = picture.with_suffix(".csv")
    for file in (picture, table):
        check_free(file, overwrite)
    interval = None if frame_interval is None else read_time(frame_interval, "--frame-interval")
    loaded = load_trajectory(trajectory, topology, frame_interval=interval)
    span = None if window is None else read_time(window, "--window")
    found = power_spectrum(loaded, highest, span)
    found.write_csv(table)
    found.draw(picture, trajectory.name)
    friction = friction_of(trajectory)
    if as_json:
        facts = {
            "window_fs": found.window,
            "resolution_cm-1": found.resolution,
            "windows": found.windows,
            "of": found.source,
            "friction_broadening_cm-1": None if friction is None else broadening(friction),
            "picture": str(picture),
            "table": str(table),
        }
        typer.echo(json.dumps(facts, indent=1))
        return
    rows = [
        ("spectrum", f"of {found.source}, up to {found.wavenumbers[-1]:.0f} cm⁻¹"),
        (
            "window",
            f"{found.windows} of {format_time(round(found.window, 3))} (Hann, half overlap)",
        ),
        ("resolution", f"{found.resolution:.1f} cm⁻¹, full width of a sharp line"),
        ("friction", _said(friction)),
        ("picture", str(picture)),
        ("table", str(table)),
    ]
    print_table(rows)


def broadening(friction: float) -> float:
    """Full width in cm⁻¹ that a Langevin friction in 1/fs gives to a sharp line: γ/2πc."""
    from ase_atom.analysis.measures.spectra import SPEED_OF_LIGHT

    return friction / (2 * math.pi * SPEED_OF_LIGHT)


def friction_of(trajectory: Path) -> float | None:
    """Langevin friction in 1/fs by the record beside the trajectory; None where there is none."""
    record = trajectory.with_suffix(".json")
    try:
        ensemble = str(json.loads(record.read_text())["ensemble"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = re.match(r"Langevin\(.*friction=([0-9.e+-]+)", ensemble)
    return float(found[1]) if found else 0.0


def _said(friction: float | None) -> str:
    if friction is None:
        return "not known (no record beside); Langevin's 10/ps broadens lines by 53 cm⁻¹"
    if friction == 0.0:
        return "none, by the record beside"
    return f"{1000 * friction:g}/ps, which broadens lines by {broadening(friction):.0f} cm⁻¹"
