"""What ``ase-atom run`` does: start, run, summary, verdict."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Sequence
from dataclasses import replace

import typer

from ase_atom.cli.march import march
from ase_atom.cli.messages import say
from ase_atom.cli.report import Losses, Row, report
from ase_atom.cli.request import RunRequest
from ase_atom.cli.start import Plan, Start, prepare, seeds
from ase_atom.cli.structures import Molecules, label_of, load_molecules
from ase_atom.commandline import BAD_INPUT, INTERRUPTED
from ase_atom.errors import BrokenStateError, ConfigError, HorizonError
from ase_atom.io import check_output
from ase_atom.io.room import check_room
from ase_atom.io.topology import names_beside
from ase_atom.operator import OnnxEngine, OperatorLike
from ase_atom.operator.torch_settings import set_threads
from ase_atom.propagation import Guard, Propagator
from ase_atom.propagation.frames import exact
from ase_atom.propagation.grid import check_count
from ase_atom.replicas import ReplicaFiles, numbered_files
from ase_atom.summary import RunSummary
from ase_atom.units import format_time

BROKEN = 3
OFF_TEMPERATURE = 4


def simulate(request: RunRequest) -> int:
    """Run a simulation from its options to its files and summary, and return the exit code.

    Raises
    ------
    AtomError
        As `ase_atom.cli.run.run` documents.
    """
    set_threads(request.threads)
    molecules = load_molecules(request)
    rows = _rows(request, molecules)
    plan = _plan(request, molecules.operator)
    frames = round(plan.duration / plan.interval) + 1
    check_room([row.file for row in rows], [len(row.molecule.atoms) for row in rows], frames)
    start = prepare(request, plan, rows)
    places = [row.molecule.place for row in start.rows]
    summary = RunSummary(
        start.structures,
        plan.ensemble,
        [
            [row for row, other in enumerate(places) if other == one]
            for one in dict.fromkeys(places)
        ],
        duration=None if start.equilibrated else plan.duration,
    )
    say(_announcement(request, plan, molecules))
    started = clock.perf_counter()
    lost = _run(request, plan, start, summary)
    started_at = {row.molecule.place for row in start.rows}
    left_out = molecules.left_out | {
        row.molecule.place: row.molecule.name
        for row in rows
        if row.molecule.place not in started_at
    }
    losses = Losses(left_out, lost)
    wall = clock.perf_counter() - started
    report(summary, wall, start.rows, losses, _engine(molecules.operator))
    return _verdict(plan, start, summary, losses, molecules)


def _engine(operator: OperatorLike) -> str:
    """What evaluated the operator, and why, where it was to be another."""
    if isinstance(operator, OnnxEngine) and operator.reason is not None:
        return f"{operator.engine}, in place of onnx: {operator.reason}"
    return operator.engine


def _rows(request: RunRequest, molecules: Molecules) -> list[Row]:
    """Every replica of every molecule, with its file and what it is called."""
    files = numbered_files(request.output, len(request.structures) * request.replicas)
    several = len(request.structures) > 1
    rows = []
    for molecule in molecules.good:
        for replica in range(request.replicas):
            file = files[molecule.place * request.replicas + replica]
            check_output(file, request.overwrite, request.structures, molecule.atoms)
            who = molecule.name if several else "the molecule"
            if request.replicas > 1:
                who = f"{f'{molecule.name}, ' if several else ''}replica {replica}"
            label = label_of(who, molecule.atoms)
            label = replace(label, atoms=tuple(names_beside(file, molecule.atoms)))
            rows.append(Row(molecule, file, label))
    return rows


def _plan(request: RunRequest, operator: OperatorLike) -> Plan:
    """Return stride, frames and ensemble, with the time rounded up to whole frames."""
    name = operator.card.name if operator.card else str(request.operator)
    settings = request.settings
    stride = settings.choose_stride(operator)
    if stride > operator.horizon:
        raise HorizonError(
            f"--stride {format_time(stride)} is beyond the horizon of {name}: "
            f"at most {format_time(operator.horizon)}"
        )
    interval = stride if request.frame_interval is None else request.frame_interval
    if interval > request.time:
        raise ConfigError(
            f"--time {format_time(request.time)} is shorter than one frame interval of "
            f"{format_time(interval)}"
        )
    check_count("jumps", request.time + (request.equilibration or 0.0), stride)
    check_count("frames", request.time, interval)
    frames = math.ceil(exact(request.time) / exact(interval))
    duration = float(frames * exact(interval))
    return Plan(operator, name, settings.ensemble(), stride, interval, duration)


def _announcement(request: RunRequest, plan: Plan, molecules: Molecules) -> str:
    formulas = [molecule.atoms.get_chemical_formula() for molecule in molecules.good]
    text = ", ".join(formulas[:4]) + (", …" if len(formulas) > 4 else "")
    who = text if request.replicas == 1 else f"{request.replicas} replicas of {text}"
    whole = "" if plan.duration == request.time else " (whole frames)"
    return (
        f"{who} with {plan.name}: {format_time(plan.duration)}{whole} in jumps of "
        f"{format_time(plan.stride)}, {request.described()}"
    )


def _run(
    request: RunRequest, plan: Plan, start: Start, summary: RunSummary
) -> list[BrokenStateError]:
    """Write the frames, and return the errors of replicas that broke where others did not."""
    propagator = Propagator(
        plan.operator,
        start.state,
        plan.ensemble,
        plan.stride,
        plan.interval,
        seeds(request)[1],
        drop_broken=len(start.rows) > 1,
        guard=Guard.watch(start.structures, [row.label for row in start.rows]),
    )
    files, atoms = [row.file for row in start.rows], [row.atoms for row in start.rows]
    with ReplicaFiles(files, atoms, plan.interval, request.overwrite) as writers:
        try:
            march(propagator, plan.duration, writers, summary)
        except KeyboardInterrupt as error:
            say(f"ase-atom: interrupted; {_kept(writers, summary)}")
            raise typer.Exit(INTERRUPTED) from error
        except BrokenStateError as error:
            before = f"{len(propagator.broken)} of {len(files)} broke; " if len(files) > 1 else ""
            raise BrokenStateError(
                f"{before}{error}; {_kept(writers, summary)}",
                replica=error.replica,
                time=error.time,
                atoms=error.atoms,
                frames_written=writers.frames[error.replica],
            ) from error
    return propagator.broken


def _kept(writers: ReplicaFiles, summary: RunSummary) -> str:
    if len(writers.writers) > 1:
        first, last = writers.writers[0].path, writers.writers[-1].path
        return f"{first} to {last.name} hold the good frames"
    (writer,) = writers.writers
    return (
        f"{writer.path} holds the good frames, {writer.frames} up to "
        f"{format_time(summary.last_time)}"
    )


def _verdict(
    plan: Plan, start: Start, summary: RunSummary, losses: Losses, molecules: Molecules
) -> int:
    """Say what went wrong, and return the exit code: the least of those that apply."""
    codes = []
    for molecule in summary.molecules:
        off, row = summary.departure(molecule), start.rows[molecule.rows[0]]
        if off is not None:
            codes.append(OFF_TEMPERATURE)
            say(
                f"ase-atom: {row.molecule.name}: a mean temperature of {off.temperature.value:.0f} "
                f"± {off.temperature.error:.0f} K under a thermostat at {off.target:g} K, "
                f"{off.errors:.0f} standard errors off: {row.atoms.get_chemical_formula()} is out "
                f"of the depth of {plan.name}, and this is not its dynamics"
            )
    broken: Sequence[BrokenStateError] = [*start.broken, *losses.broken]
    if broken:
        codes.append(BROKEN)
        count = len(start.rows) + len(start.broken)
        kept = ""
        if losses.broken:
            kept = f"; {start.rows[0].file} to {start.rows[-1].file.name} hold the good frames"
        say(f"ase-atom: {len(broken)} of {count} broke; {broken[0]}{kept}")
    if molecules.left_out:
        codes.append(BAD_INPUT)
        say(f"ase-atom: not simulated: {', '.join(molecules.left_out.values())}")
    return min(codes, default=0)
