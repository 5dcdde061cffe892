"""``ase-atom run``: from structure files to trajectory files."""

from __future__ import annotations

from pathlib import Path

import typer

from ase_atom.cli.messages import be_quiet
from ase_atom.cli.options import check_resumed, ensemble_files, given_options, read_time
from ase_atom.cli.request import (
    EngineName,
    ResumeRequest,
    RunRequest,
)
from ase_atom.errors import ConfigError
from ase_atom.files import RESTART_INTERVAL

_MOLECULES, _DYNAMICS = "Molecules and operator", "Dynamics"
_TIME, _START, _MACHINE = "Time and frames", "Start", "Machine"
_RECORDS, _TRUST = "Log and restart", "Trust"


def run(
    context: typer.Context,
    structures: list[Path] | None = typer.Argument(
        None,
        help="Structure files, anything that ASE reads; or a list of molecules (.smi, .csv with "
        "columns name and smiles, .sdf of several), which get a folder each.",
        show_default=False,
    ),
    smiles: list[str] | None = typer.Option(
        None,
        help="A molecule as SMILES, relaxed with the operator's own potential; may be repeated.",
        rich_help_panel=_MOLECULES,
    ),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Trajectory file: .dcd, .xtc, .trr, .nc, .h5, .xyz, .extxyz or .traj. Several "
        "molecules or replicas get numbers: out-0.dcd, out-1.dcd. Of a list, the folder; an ending "
        "sets the format in it.",
        rich_help_panel=_MOLECULES,
    ),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Replace output files.", rich_help_panel=_MOLECULES
    ),
    operator: str | None = typer.Option(
        None,
        help="Name or file of an operator.",
        show_default="the one for the molecule",
        rich_help_panel=_MOLECULES,
    ),
    force: bool = typer.Option(
        False,
        "--force",
        help="Use --operator for a molecule that it was not trained for: a warning, not an error.",
        rich_help_panel=_MOLECULES,
    ),
    replicas: int = typer.Option(
        1,
        help="Copies of each structure, simulated in one batch with different noise.",
        rich_help_panel=_MOLECULES,
    ),
    stop_on_error: bool = typer.Option(
        False,
        "--stop-on-error",
        help="Simulate nothing if one of several structures cannot be simulated.",
        rich_help_panel=_MOLECULES,
    ),
    time: str = typer.Option(
        "10ps",
        help="Time to simulate, in fs, ps, ns or us; rounded up to a whole frame.",
        rich_help_panel=_TIME,
    ),
    stride: str | None = typer.Option(
        None,
        help="Length of one jump; from 0.5ps on, of one leap, where the operator has leaps.",
        show_default="the operator's, 16fs in general",
        rich_help_panel=_TIME,
    ),
    frame_interval: str | None = typer.Option(
        None, help="Time between frames.", show_default="the stride", rich_help_panel=_TIME
    ),
    burst: str | None = typer.Option(
        None,
        help="After each frame of leaps also this time of ordinary jumps, as a trajectory of its "
        "own in the folder OUTPUT-bursts.",
        rich_help_panel=_TIME,
    ),
    ensemble: str = typer.Option(
        "langevin",
        help=f"{', '.join(ensemble_files())}, or an ensemble of another package.",
        rich_help_panel=_DYNAMICS,
    ),
    temperature: float | None = typer.Option(
        None,
        help="Temperature of the thermostat and of drawn velocities, in K.",
        show_default="300",
        rich_help_panel=_DYNAMICS,
    ),
    friction: float | None = typer.Option(
        None, help="Langevin friction in 1/ps.", show_default="10", rich_help_panel=_DYNAMICS
    ),
    taut: str | None = typer.Option(
        None,
        help="Relaxation time of the bussi thermostat.",
        show_default="100fs",
        rich_help_panel=_DYNAMICS,
    ),
    setting: list[str] | None = typer.Option(
        None,
        help="Setting of another ensemble, as NAME=VALUE: a time such as 50fs, or a rate in 1/ps, "
        "such as collision_rate=10 for andersen.",
        rich_help_panel=_DYNAMICS,
    ),
    reversible: bool | None = typer.Option(
        None,
        "--reversible/--single-pass",
        help="Make jumps reversible in time. This takes as long as three to seven jumps.",
        show_default="reversible for nve and bussi, on average for the others",
        rich_help_panel=_DYNAMICS,
    ),
    uncorrected: bool = typer.Option(
        False,
        "--uncorrected",
        help="Do not restore the operator's energy after each jump.",
        rich_help_panel=_DYNAMICS,
    ),
    timestep: str | None = typer.Option(
        None,
        help="Move by velocity Verlet with the operator's own forces, in steps of this length, in "
        "place of jumps. For constant energy, such as 1fs.",
        rich_help_panel=_DYNAMICS,
    ),
    equilibration: str | None = typer.Option(
        None,
        help="Time of Langevin dynamics before frame 0; not in any file.",
        show_default="1ps for structures without velocities",
        rich_help_panel=_START,
    ),
    no_equilibration: bool = typer.Option(
        False,
        "--no-equilibration",
        help="Start from the structure itself; velocities are drawn if it has none.",
        rich_help_panel=_START,
    ),
    accept_error: bool = typer.Option(
        False,
        "--accept-error",
        help="Go on where the expected error of jumps is so large that the run is refused.",
        rich_help_panel=_TRUST,
    ),
    tolerance: float | None = typer.Option(
        None,
        help="Divide strides where a jump's expected error is above this, such as 0.05; without "
        "--stride the longest is the operator's horizon.",
        rich_help_panel=_TRUST,
    ),
    fallback: str | None = typer.Option(
        None,
        help="Move molecules with forces where even short jumps err more than --tolerance (0.12 "
        "by default): gfn2, gfn1, pyscf:FUNCTIONAL/BASIS, or an ASE calculator as MODULE:CLASS.",
        rich_help_panel=_TRUST,
    ),
    keep_zero_velocities: bool = typer.Option(
        False,
        "--keep-zero-velocities",
        help="Start at rest if the structure has no velocities.",
        rich_help_panel=_START,
    ),
    seed: int = typer.Option(
        0, help="Seed of the noise and the drawn velocities.", rich_help_panel=_START
    ),
    log: Path | None = typer.Option(
        None,
        "--log",
        help="CSV file for time, energies and temperature of each frame. A .json file next to it "
        "records seed, versions, settings and summary.",
        rich_help_panel=_RECORDS,
    ),
    restart: Path | None = typer.Option(
        None,
        "--restart",
        help="Restart file, written during the run, from which --resume continues.",
        rich_help_panel=_RECORDS,
    ),
    restart_interval: int = typer.Option(
        RESTART_INTERVAL,
        help="Number of jumps after which the restart file is replaced.",
        rich_help_panel=_RECORDS,
    ),
    resume: Path | None = typer.Option(
        None,
        "--resume",
        help="Continue the run of a restart file, with its settings; only --time may be longer.",
        rich_help_panel=_RECORDS,
    ),
    quiet: bool = typer.Option(
        False, "--quiet", "-q", help="Print warnings and errors alone.", rich_help_panel=_RECORDS
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="Print the record of the run as JSON in place of the summary.",
        rich_help_panel=_RECORDS,
    ),
    threads: int = typer.Option(
        1, help="CPU threads; for a single molecule one is fastest.", rich_help_panel=_MACHINE
    ),
    engine: EngineName = typer.Option(
        EngineName.auto,
        help="Engine that evaluates the operator: onnx (ONNX Runtime), numba (faster; compiles at "
        "first, for 20 s), torch, or auto: onnx if possible, else torch.",
        rich_help_panel=_MACHINE,
    ),
    device: str = typer.Option(
        "cpu", help="Device for torch: cpu, cuda, cuda:1.", rich_help_panel=_MACHINE
    ),
    scheduler: str | None = typer.Option(
        None,
        help="Where the molecules of a list run: local, the address or scheduler file of a Dask "
        "cluster, or jobqueue:slurm and the like, with --workers jobs.",
        show_default="local",
        rich_help_panel=_MACHINE,
    ),
    workers: int | None = typer.Option(
        None,
        min=1,
        help="Processes for a list, one thread each.",
        show_default="one for each core",
        rich_help_panel=_MACHINE,
    ),
) -> int:
    """Simulate molecules and write their trajectories.

    Structures without velocities are equilibrated first.

    \b
    Examples:
      ase-atom run --smiles CCO
      ase-atom run ethanol.xyz -o ethanol.dcd
      ase-atom run ethanol.xyz -o fast.xtc --time 1ns --frame-interval 160fs
      ase-atom run ethanol.xyz -o nve.traj --ensemble nve --frame-interval 0.5fs
      ase-atom run ethanol.xyz -o samples.xtc --stride 4ps --time 100ns
      ase-atom run a.xyz b.pdb -o out.dcd --replicas 8
      ase-atom run ethanol.xyz -o long.dcd --time 10ns --restart long.restart
      ase-atom run --resume long.restart
      ase-atom run library.smi -o screen --time 100ps --scheduler tcp://head:8786

    \b
    Exit codes (if several apply, the lowest):
      0  done
      1  molecules of a list failed; failures.csv has the reasons
      2  bad input, or a file that cannot be read or written
      3  a simulation broke; the good frames before are in the file
      4  the mean temperature is not the thermostat's
    130  Ctrl-C, 143 a kill, 141 a closed pipe (| head); the frames before are in the file
    """
    be_quiet(quiet or as_json)
    if resume is not None:
        return _resume(context, resume, time)
    files, named = tuple(structures or ()), tuple(smiles or ())
    listed = _is_list(files, named, scheduler, workers)
    request = RunRequest(
        structures=files,
        smiles=named,
        output=output if output is not None else _default_output(files, named, listed),
        overwrite=overwrite,
        operator=operator,
        force=force,
        time=read_time(time, "--time"),
        stride=_read(stride, "--stride"),
        frame_interval=_read(frame_interval, "--frame-interval"),
        replicas=replicas,
        seed=seed,
        ensemble=ensemble,
        temperature=temperature,
        friction=friction,
        taut=_read(taut, "--taut"),
        setting=tuple(setting or ()),
        reversible=reversible,
        uncorrected=uncorrected,
        keep_zero_velocities=keep_zero_velocities,
        equilibration=_read(equilibration, "--equilibration"),
        no_equilibration=no_equilibration,
        stop_on_error=stop_on_error,
        accept_error=accept_error,
        tolerance=tolerance,
        fallback=fallback,
        burst=_read(burst, "--burst"),
        timestep=_read(timestep, "--timestep"),
        threads=threads,
        engine=engine,
        device=device,
        log=log,
        restart=restart,
        restart_interval=restart_interval,
        quiet=quiet,
        as_json=as_json,
    )
    if listed:
        from ase_atom.cli.library import run_library

        return run_library(request, scheduler, workers)
    from ase_atom.cli.simulation import simulate

    return simulate(request)


def _is_list(
    files: tuple[Path, ...], named: tuple[str, ...], scheduler: str | None, workers: int | None
) -> bool:
    """Whether the structure is a list of molecules.

    Raises
    ------
    ConfigError
        If there is another molecule beside it, or an option is for lists alone.
    """
    from ase_atom.cli.listing import is_library

    lists = [path for path in files if is_library(path)]
    if lists and len(files) + len(named) > 1:
        raise ConfigError(f"{lists[0]} is a list of molecules: give it alone")
    for option, given in (("--scheduler", scheduler), ("--workers", workers)):
        if given is not None and not lists:
            raise ConfigError(f"{option} {given} is for a list of molecules: .smi, .csv or .sdf")
    return bool(lists)


def _read(text: str | None, option: str) -> float | None:
    return None if text is None else read_time(text, option)


def _default_output(
    structures: tuple[Path, ...], smiles: tuple[str, ...], listed: bool = False
) -> Path:
    """Return the trajectory of one molecule that has its file's name, or its formula.

    Of a list of molecules, their folder.

    Raises
    ------
    ConfigError
        If there is no molecule, or there are several.
    """
    if not structures and not smiles:
        raise ConfigError(
            "a structure file or --smiles is missing: ase-atom run MOLECULE --output FILE"
        )
    if len(structures) + len(smiles) > 1:
        raise ConfigError("--output is missing: several molecules need a name for their files")
    if listed:
        return Path(structures[0].name.split(".")[0])
    if structures:
        return Path(structures[0].stem + ".dcd")
    from ase_atom.ase.conformer import formula_of

    return Path(formula_of(smiles[0]) + ".dcd")


def _resume(context: typer.Context, restart: Path, time: str) -> int:
    """Go on with a run, whose settings are in its restart file.

    Raises
    ------
    ConfigError
        For options that would have to change what the run began with.
    """
    check_resumed(context, restart, "structures", {"time"})
    from ase_atom.cli.simulation import go_on

    until = read_time(time, "--time") if "time" in given_options(context) else None
    params = context.params
    return go_on(ResumeRequest(restart, until, params["quiet"], params["as_json"]))
