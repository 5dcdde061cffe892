"""``ase-atom compare``: a trajectory laid beside a reference, with a verdict per line."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from ase_atom.cli.options import read_time
from ase_atom.errors import ConfigError
from ase_atom.units import PS

TrajectoryFile = Annotated[
    Path,
    Argument(
        metavar="TRAJECTORY",
        help="Trajectory to compare. Without it, --operator is compared: it starts from frames of "
        "the reference.",
    ),
]
ReferenceFile = Annotated[
    Path | None,
    Argument(
        metavar="REFERENCE",
        help="Any trajectory that ase-atom convert reads, an .npz file of MD17 or rMD17, reference "
        "bursts (.h5), or a folder of such files, one per run.",
    ),
]
Report = Annotated[Path, Option(metavar="FOLDER", help="Folder for the report.")]
OperatorName = Annotated[
    str | None, Option(help="Start this operator, by name or file, from frames of the reference.")
]
Topology = Annotated[
    Path | None,
    Option(
        help="Structure or PSF file with the elements, for formats without them.",
        show_default="the .pdb or .psf file of the same name",
    ),
]
Energy = Annotated[
    str | None,
    Option(
        help="Method for energies and normal modes: gfn2, gfn1, pyscf:FUNCTIONAL/BASIS, or an ASE "
        "calculator as MODULE:CLASS.",
        show_default="the operator, or the files",
    ),
]
EnergyFrames = Annotated[int, Option(min=20, help="Number of frames per side for energies.")]
Infrared = Annotated[
    bool,
    Option(
        "--infrared", help="Compute infrared spectra, from the dipole of every frame by --energy."
    ),
]
Reorder = Annotated[
    bool,
    Option("--reorder", help="Put the atoms into the reference's order, found from the bonds."),
]
Discard = Annotated[str, Option(help="Time to omit at the start of every run.")]
FrameInterval = Annotated[
    str | None, Option(help="Time between frames of TRAJECTORY, if the file has no times.")
]
ReferenceInterval = Annotated[
    str | None, Option(help="Time between frames of REFERENCE, if the file has no times.")
]
Charge = Annotated[
    int | None, Option(help="Total charge of the molecule in e, for files that do not state it.")
]
Molecule = Annotated[
    str | None, Option(help="Name of the molecule, if a file has bursts of several.")
]
Temperature = Annotated[
    float | None,
    Option(
        help="Use only bursts at this temperature in K. Also the temperature of the operator's "
        "thermostat; by default the one that the reference states, else its mean.",
    ),
]
Ensemble = Annotated[
    str | None,
    Option(
        help="Ensemble of the operator's runs: nve, langevin or bussi.",
        show_default="the reference's",
    ),
]
Friction = Annotated[
    float | None,
    Option(
        help="Friction of the operator's thermostat in 1/ps.", show_default="the reference's, or 10"
    ),
]
Stride = Annotated[
    str | None, Option(help="Length of the operator's jumps.", show_default="recommended")
]
Time = Annotated[
    str | None, Option(help="Length of the operator's runs.", show_default="the reference's")
]
Starts = Annotated[
    int | None,
    Option(
        min=1,
        help="Number of frames from which the operator starts.",
        show_default="the reference's runs",
    ),
]
Uncorrected = Annotated[
    bool, Option("--uncorrected", help="Do not restore the energy after the operator's jumps.")
]
Reversible = Annotated[
    bool | None,
    Option(
        "--reversible/--single-pass",
        help="Make the operator's jumps reversible in time, as ase-atom run does.",
        show_default="reversible for nve and bussi, on average for the others",
    ),
]
Tolerance = Annotated[
    list[str],
    Option(
        metavar="NAME=VALUE", help="Largest difference that is negligible, such as bond_mean=0.01."
    ),
]
Seed = Annotated[int, Option(min=0, help="Seed of the bootstrap and the operator's noise.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace a report.")]


def compare(
    trajectory: TrajectoryFile,
    report: Report,
    reference: ReferenceFile = None,
    operator: OperatorName = None,
    topology: Topology = None,
    energy: Energy = None,
    energy_frames: EnergyFrames = 400,
    infrared: Infrared = False,
    reorder: Reorder = False,
    discard: Discard = "0fs",
    frame_interval: FrameInterval = None,
    reference_interval: ReferenceInterval = None,
    charge: Charge = None,
    molecule: Molecule = None,
    temperature: Temperature = None,
    ensemble: Ensemble = None,
    friction: Friction = None,
    stride: Stride = None,
    time: Time = None,
    starts: Starts = None,
    uncorrected: Uncorrected = False,
    reversible: Reversible = None,
    tolerance: Tolerance = [],  # noqa: B006 - Typer reads it
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compare a trajectory or an operator with a reference.

    The report is a page with verdicts, plots and a 3-D view, and tables and pictures as files. The
    verdicts are also printed. Exit codes: 0 compared, with any verdicts; 2 bad input, or two
    trajectories that cannot be compared.
    """
    from ase_atom.analysis import Tolerances
    from ase_atom.analysis import compare as compare_trajectories
    from ase_atom.analysis.report import check_folder, print_comparison

    given, reference = _sides(trajectory, reference, operator, frame_interval)
    way = "--single-pass" if reversible is False else "--reversible"
    choices = {"--ensemble": ensemble, "--friction": friction, "--stride": stride, "--time": time}
    choices |= {"--starts": starts, "--uncorrected": uncorrected or None, way: reversible}
    _check_belongs_to_operator(choices, operator)
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
        charge=charge,
        molecule=molecule,
        temperature=temperature,
        seed=seed,
    )
    page = found.write(report, command=shlex.join(["ase-atom", *sys.argv[1:]]), overwrite=overwrite)
    print_comparison(found)
    typer.echo(f"report  {page}")


def _sides(
    first: Path, second: Path | None, operator: str | None, frame_interval: str | None
) -> tuple[Path | None, Path]:
    """Trajectory and reference: of one file alone, an operator's starts are taken from it."""
    if second is not None:
        return first, second
    if operator is None:
        raise ConfigError("name a trajectory and a reference, or a reference and an --operator")
    if frame_interval is not None:
        raise ConfigError(
            "--frame-interval is for TRAJECTORY, and only a reference is given: give "
            "--reference-interval"
        )
    return None, first


def _check_belongs_to_operator(choices: dict[str, Any], operator: str | None) -> None:
    given = [option for option, value in choices.items() if value is not None]
    if operator is None and given:
        raise ConfigError(
            f"{given[0]} goes with --operator, whose run it describes: give --operator as well"
        )


def _time(text: str | None, option: str) -> float | None:
    return None if text is None else read_time(text, option, zero=option == "--discard")
