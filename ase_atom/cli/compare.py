"""``ase-atom compare``: a trajectory laid beside a reference, with a verdict per line."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import typer

from ase_atom.cli.options import read_time


def compare(
    trajectory: Path = typer.Argument(
        metavar="TRAJECTORY",
        help="Left out, an --operator started from frames of the reference takes its place.",
    ),
    reference: Path | None = typer.Argument(
        None,
        metavar="REFERENCE",
        help="Any trajectory that ase-atom convert reads, MD17's or rMD17's .npz, reference bursts "
        "(.h5), or a folder of such, each a run of its own.",
    ),
    report: Path = typer.Option(..., metavar="FOLDER", help="Where the report goes."),
    operator: str | None = typer.Option(
        None, help="Start this operator, by name or file, from frames of the reference."
    ),
    topology: Path | None = typer.Option(
        None,
        help="Structure or PSF file of the atoms, for formats that do not say.",
        show_default="the .pdb or .psf beside",
    ),
    energy: str | None = typer.Option(
        None,
        help="What computes energies and normal modes: gfn2, gfn1, pyscf:FUNCTIONAL/BASIS, or an "
        "ASE calculator as MODULE:CLASS.",
        show_default="the operator, or the files",
    ),
    energy_frames: int = typer.Option(400, min=20, help="Frames of either that get energies."),
    infrared: bool = typer.Option(
        False, "--infrared", help="Compute the dipole of every frame with --energy, for a spectrum."
    ),
    reorder: bool = typer.Option(
        False, "--reorder", help="Put the atoms into the reference's order, as bonds tell."
    ),
    discard: str = typer.Option("0fs", help="Time left out at the start of every run."),
    frame_interval: str | None = typer.Option(
        None, help="Time between frames of TRAJECTORY, if it has no times of its own."
    ),
    reference_interval: str | None = typer.Option(None, help="The same of REFERENCE."),
    molecule: str | None = typer.Option(None, help="Which one, of bursts of several molecules."),
    temperature: float | None = typer.Option(
        None,
        help="Take only bursts at this temperature in K; also of an operator's thermostat, by "
        "default at the temperature that the reference states, else at its mean.",
    ),
    ensemble: str | None = typer.Option(
        None,
        help="nve, langevin or bussi, of the operator's run.",
        show_default="the reference's",
    ),
    friction: float | None = typer.Option(
        None, help="1/ps, of the operator's thermostat.", show_default="the reference's, or 10"
    ),
    stride: str | None = typer.Option(
        None, help="Length of the operator's jumps.", show_default="recommended"
    ),
    time: str | None = typer.Option(
        None, help="Length of the operator's runs.", show_default="the reference's"
    ),
    starts: int | None = typer.Option(
        None, min=1, help="Frames to start the operator from.", show_default="the reference's runs"
    ),
    uncorrected: bool = typer.Option(
        False, "--uncorrected", help="Do not restore the energy after the operator's jumps."
    ),
    reversible: bool | None = typer.Option(
        None,
        "--reversible/--single-pass",
        help="Make the operator's jumps reversible in time, as ase-atom run does.",
        show_default="reversible for nve and bussi",
    ),
    tolerance: list[str] = typer.Option(
        [], metavar="NAME=VALUE", help="Difference that counts as none, such as bond_mean=0.01."
    ),
    seed: int = typer.Option(0, min=0, help="Of the bootstrap and the operator's noise."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a report."),
) -> None:
    """Compare a trajectory with a reference, or an operator with where it starts from.

    Writes a page with verdicts, plots and a 3-D view, tables and pictures beside it, and prints
    the verdicts. Exit codes: 0 compared, whatever the verdicts; 2 bad input, or two trajectories
    that cannot be compared.
    """
    from ase_atom.analysis import Tolerances
    from ase_atom.analysis import compare as compare_trajectories
    from ase_atom.analysis.report import check_folder, print_comparison
    from ase_atom.errors import ConfigError
    from ase_atom.units import PS

    given: Path | None = trajectory
    if reference is None:
        if operator is None:
            raise ConfigError("name a trajectory and a reference, or a reference and an --operator")
        given, reference = None, trajectory
        if frame_interval is not None:
            raise ConfigError(
                "--frame-interval is of TRAJECTORY, and a reference alone is named: give "
                "--reference-interval"
            )
    choices = {
        "--ensemble": ensemble,
        "--friction": friction,
        "--stride": stride,
        "--time": time,
        "--starts": starts,
        "--uncorrected": uncorrected or None,
        "--single-pass" if reversible is False else "--reversible": reversible,
    }
    vain = [option for option, value in choices.items() if value is not None]
    if operator is None and vain:
        raise ConfigError(f"{vain[0]} goes with --operator, whose run it is about: name one")
    check_folder(report, overwrite)
    rollout = None
    if operator is not None:
        rollout = {
            "ensemble": ensemble,
            "temperature": temperature,
            "friction": None if friction is None else friction / PS,
            "stride": _time(stride, "--stride"),
            "duration": _time(time, "--time"),
            "energy_correction": not uncorrected,
            "reversible": reversible,
        }
    found = compare_trajectories(
        given,
        reference,
        topology=topology,
        operator=operator,
        rollout=rollout,
        starts=starts,
        energy=energy,
        energy_frames=energy_frames,
        infrared=infrared,
        reorder=reorder,
        discard=_time(discard, "--discard") or 0.0,
        tolerances=Tolerances.parse(tolerance),
        frame_interval=_time(frame_interval, "--frame-interval"),
        reference_interval=_time(reference_interval, "--reference-interval"),
        molecule=molecule,
        temperature=temperature,
        seed=seed,
    )
    command = shlex.join(["ase-atom", *sys.argv[1:]])
    page = found.write(report, command=command, overwrite=overwrite)
    print_comparison(found)
    typer.echo(f"report  {page}")


def _time(text: str | None, option: str) -> float | None:
    return None if text is None else read_time(text, option, zero=option == "--discard")
