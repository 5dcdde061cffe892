"""``ase-atom convert``: from one trajectory format to another."""

from __future__ import annotations

from pathlib import Path

import typer


def convert(
    source: Path = typer.Argument(
        metavar="IN", help="Trajectory: .dcd, .xtc, .trr, .nc, .h5, .xyz, .extxyz, .traj or .pdb."
    ),
    target: Path = typer.Argument(metavar="OUT", help="Trajectory; any of these but .pdb."),
    every: int = typer.Option(1, help="Take the first frame and every n-th after it."),
    align: bool = typer.Option(False, "--align", help="Superpose every frame on the first."),
    topology: Path | None = typer.Option(
        None,
        help="Structure or PSF file with the elements, for formats without them.",
        show_default="the .pdb or .psf file of the same name",
    ),
    frame_interval: str | None = typer.Option(
        None, help="Time between frames of IN, if it has no times.", show_default="1 fs"
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace output files."),
) -> None:
    """Convert a trajectory to another format.

    Frames are read and written one after the other, so memory does not grow with their number.
    If a trajectory is truncated, its complete frames are converted, with a warning.

    Exit codes: 0 done; 2 bad input, or a file that cannot be read or written.
    """
    from ase_atom.cli.report import print_table
    from ase_atom.errors import ConfigError
    from ase_atom.io import convert_trajectory, output_files
    from ase_atom.units import format_time, parse_time

    interval = None
    if frame_interval is not None:
        try:
            interval = parse_time(frame_interval)
        except ValueError as error:
            raise ConfigError(
                f"--frame-interval {frame_interval!r} is not a time; give {error}"
            ) from error
    if every < 1:
        raise ConfigError(f"--every must be at least 1, not {every}")
    done = convert_trajectory(
        source, target, every, align, topology, overwrite, frame_interval=interval
    )
    span = f"{format_time(done.first_time)} to {format_time(done.last_time)}"
    rows = [
        ("molecule", f"{done.atoms.get_chemical_formula()}, {len(done.atoms)} atoms"),
        ("frames", f"{done.frames}, {span}" if done.frames else "0"),
    ]
    trajectory, *beside = output_files(target)
    rows.append(("trajectory", str(trajectory)))
    rows += [("topology", str(file)) for file in beside]
    print_table(rows)
