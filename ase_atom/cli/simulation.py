"""What ``ase-atom run`` does: start, run, summary, verdict."""

from __future__ import annotations

import json
import math
import time as clock
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

import typer

from ase_atom.analysis.summary import RunSummary
from ase_atom.ase.replicas import ReplicaFiles, numbered_files
from ase_atom.cli.batch import Batch, summary_of
from ase_atom.cli.bursts import check_bursts, make_bursts
from ase_atom.cli.expected import look_at_errors
from ase_atom.cli.keeper import Keeper
from ase_atom.cli.log import EnergyLog, record_file, record_of, write_record
from ase_atom.cli.march import march
from ase_atom.cli.messages import Note, say, say_warning
from ase_atom.cli.report import Row, report
from ase_atom.cli.request import ResumeRequest, RunRequest
from ase_atom.cli.restart import SavedRun, reading_saved_run
from ase_atom.cli.start import Plan, prepare, seeds
from ase_atom.cli.structures import Molecules, label_of, load_molecules
from ase_atom.commandline import BAD_INPUT
from ase_atom.errors import AtomError, BrokenStateError, ConfigError, FallbackError, HorizonError
from ase_atom.files import is_same_file
from ase_atom.interruption import Interrupted
from ase_atom.io import check_output, output_files
from ase_atom.io.registry import check_free
from ase_atom.io.room import check_room
from ase_atom.io.topology import names_beside
from ase_atom.operator import OnnxEngine, OperatorLike
from ase_atom.operator.torch_settings import set_threads
from ase_atom.propagation import Frames, Guard, PotentialSteps, Propagator, default_stride
from ase_atom.propagation.adaptive import SHORTEST
from ase_atom.propagation.depth import DepthWatch
from ase_atom.propagation.frames import exact
from ase_atom.propagation.grid import check_count
from ase_atom.propagation.jumps import takes_several_passes
from ase_atom.propagation.leaps import check_leap, is_leap
from ase_atom.state import PhaseState
from ase_atom.units import format_time

BROKEN = 3
OFF_TEMPERATURE = 4

_STATES: dict[type[BaseException], str] = {
    KeyboardInterrupt: "interrupted",
    Interrupted: "interrupted",
    BrokenStateError: "broken",
}


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
    _check_records(request, rows)
    plan = plan_of(request, request.moving(molecules.operator))
    _check_room(rows, plan.duration, plan.interval)
    check_bursts(request, plan, rows)
    notes = [*look_at_errors(request, plan, molecules), *_hints(request, plan)]
    rows = [row for row in rows if row.molecule.place not in molecules.left_out]
    start = prepare(request, plan, rows, notes)
    started_at = {row.molecule.place for row in start.rows}
    broken_before = {
        row.molecule.place: row.molecule.name
        for row in rows
        if row.molecule.place not in started_at
    }
    batch = Batch(
        request,
        plan,
        start.rows,
        start.structures,
        start.equilibrated,
        _propagator(request, plan, start.rows, start.structures, start.state),
        summary_of(start.rows, start.structures, plan, start.equilibrated),
        molecules.left_out | broken_before,
        start.broken,
        watch=_watch(request, plan),
    )
    return carry_out(batch, _announcement(request, plan, molecules))


def go_on(request: ResumeRequest) -> int:
    """Go on with a run from its restart file, and return the exit code.

    Raises
    ------
    AtomError
        As `ase_atom.cli.run.run` documents.
    """
    saved = SavedRun.read(request.restart)
    with reading_saved_run(request.restart):
        set_threads(saved.request.threads)
        operator = saved.load_operator()
        plan = plan_of(saved.request, operator)
        longer = replace(
            saved.request,
            time=saved.request.time if request.time is None else request.time,
            quiet=request.quiet,
            as_json=request.as_json,
        )
        rows = saved.rows()
        propagator = _propagator(longer, plan, rows, saved.structures, saved.structures)
        propagator.load_state_dict(saved.propagator)
        summary = summary_of(rows, saved.structures, plan, saved.equilibrated)
        summary.load_state_dict(saved.summary)
    end = plan_of(longer, operator).duration
    if end < propagator.time:
        raise ConfigError(
            f"--time {format_time(end)} is shorter than the {format_time(propagator.time)} of the "
            f"run in {request.restart}"
        )
    _check_room(rows, end - propagator.time, plan.interval)
    plan = replace(plan, duration=end)
    watch = _watch(longer, plan)
    if watch is not None and saved.watch is not None:
        watch.load_state_dict(saved.watch)
    batch = Batch(
        longer,
        plan,
        rows,
        saved.structures,
        saved.equilibrated,
        propagator,
        summary,
        saved.left_out,
        saved.lost_before,
        saved.done,
        saved.log_size,
        watch,
    )
    now = format_time(summary.last_time)
    return carry_out(batch, f"{request.restart}: going on at {now} of {format_time(end)}")


def carry_out(batch: Batch, announcement: str) -> int:
    """March to the end, print the summary, and return the exit code."""
    started, before = clock.perf_counter(), batch.summary.last_time
    record = None if batch.request.log is None else record_file(batch.request.log)
    if record is not None:
        write_record(record, batch, "running")
    try:
        _march(batch, announcement)
    except (KeyboardInterrupt, Interrupted, AtomError, OSError) as error:
        if record is not None:
            write_record(record, batch, _STATES.get(type(error), "stopped"))
        raise
    if not (batch.request.quiet or batch.request.as_json):
        report(
            batch.summary,
            before,
            clock.perf_counter() - started,
            batch.rows,
            batch.losses,
            _engine(batch.plan.operator),
            batch.tally,
            batch.watch,
        )
    if batch.propagator.adaptive is not None:
        say(batch.propagator.adaptive.sentence())
    code = _verdict(batch)
    if record is not None:
        write_record(record, batch, "done", code)
    if batch.request.as_json:
        typer.echo(json.dumps(record_of(batch, "done", code), indent=1, ensure_ascii=False))
    return code


def _hints(request: RunRequest, plan: Plan) -> list[Note]:
    """What serves constant energy better than jumps of several passes, where nobody chose them."""
    chosen = request.reversible is not None or request.divides_strides or request.has_thermostat
    usual = default_stride(plan.operator)
    if chosen or not (plan.operator.has_energy and takes_several_passes(plan.operator, usual)):
        return []
    return [
        Note(
            f"reversible jumps of {plan.name} take as long as steps by its own forces, --timestep "
            "1fs, by which each vibration keeps its energy"
        )
    ]


def _engine(operator: OperatorLike) -> str:
    """What evaluated the operator, and why, where it was to be another."""
    if isinstance(operator, PotentialSteps):
        return _engine(operator.operator)
    if isinstance(operator, OnnxEngine) and operator.reason is not None:
        return f"{operator.engine}, in place of {operator.kind}: {operator.reason}"
    return operator.engine


def _check_room(rows: Sequence[Row], duration: float, interval: float) -> None:
    """Check that there is room on the disk for the frames of a time."""
    frames = round(duration / interval) + 1
    check_room([row.file for row in rows], [len(row.molecule.atoms) for row in rows], frames)


def _check_records(request: RunRequest, rows: Sequence[Row]) -> None:
    """Check that log, record and restart file can be made, and are files of their own.

    Raises
    ------
    ConfigError
        If two outputs are one file.
    TrajectoryError
        If one cannot be made, or exists and is not to be replaced.
    """
    taken = [*request.structures, *(file for row in rows for file in output_files(row.file))]
    records = [] if request.log is None else [request.log, record_file(request.log)]
    records += [] if request.restart is None else [request.restart]
    for file in records:
        if any(is_same_file(file, other) for other in taken):
            raise ConfigError(
                f"{file} is named for two files of the run: give one of them another name"
            )
        taken.append(file)
        check_free(file, request.overwrite)


def _rows(request: RunRequest, molecules: Molecules) -> list[Row]:
    """Every replica of every molecule, with its file and what it is called."""
    files = numbered_files(request.output, len(request.names) * request.replicas)
    several = len(request.names) > 1
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


def plan_of(request: RunRequest, operator: OperatorLike) -> Plan:
    """Return stride, frames and ensemble, with the time rounded up to whole frames."""
    name = operator.card.name if operator.card else str(request.operator)
    settings = request.settings
    ensemble = settings.ensemble(operator)
    usual = settings.choose_stride(operator)
    stride = settings.choose_stride(operator, request.divides_strides)
    interval = usual if request.frame_interval is None else request.frame_interval
    if is_leap(operator, stride):
        check_leap(operator, ensemble, stride, interval)
        usual = default_stride(operator)
    elif stride > operator.horizon:
        raise HorizonError(
            f"--stride {format_time(stride)} is beyond the horizon of {name}: "
            f"at most {format_time(operator.horizon)}"
            f"{'' if operator.leaps is None else ', or a leap of at least 0.5 ps'}"
        )
    if interval > request.time:
        raise ConfigError(
            f"--time {format_time(request.time)} is shorter than one frame interval of "
            f"{format_time(interval)}"
        )
    check_count("jumps", request.time + (request.equilibration or 0.0), stride)
    check_count("frames", request.time, interval)
    frames = math.ceil(exact(request.time) / exact(interval))
    duration = float(frames * exact(interval))
    return Plan(operator, name, ensemble, stride, interval, duration, usual)


def _announcement(request: RunRequest, plan: Plan, molecules: Molecules) -> str:
    formulas = [molecule.atoms.get_chemical_formula() for molecule in molecules.good]
    text = ", ".join(formulas[:4]) + (", …" if len(formulas) > 4 else "")
    who = text if request.replicas == 1 else f"{request.replicas} replicas of {text}"
    whole = "" if plan.duration == request.time else " (whole frames)"
    jumps = format_time(plan.stride)
    if (adaptive := request.adaptive()) is not None:
        jumps = f"{format_time(SHORTEST)} to {jumps} that err less than {adaptive.tolerance:.2g}"
        if adaptive.fallback is not None:
            jumps += f" (else {adaptive.fallback.name})"
    kind = "leaps" if plan.leaps else "jumps"
    if request.timestep is not None:
        kind, jumps = "steps by its forces", format_time(request.timestep)
    return (
        f"{who} with {plan.name}: {format_time(plan.duration)}{whole} in {kind} of {jumps}, "
        f"{request.described()}"
    )


def _propagator(
    request: RunRequest,
    plan: Plan,
    rows: Sequence[Row],
    structures: PhaseState,
    start: PhaseState,
) -> Propagator:
    return Propagator(
        plan.operator,
        start,
        plan.ensemble,
        plan.stride,
        plan.interval,
        seeds(request)[1],
        drop_broken=len(rows) > 1,
        guard=Guard.watch(structures, [row.label for row in rows]),
        adaptive=request.adaptive(),
    )


def _watch(request: RunRequest, plan: Plan) -> DepthWatch | None:
    """What looks at expected errors of jumps of one length by a calibrated operator, else None."""
    if plan.operator.error_estimate is None or plan.leaps or request.adaptive() is not None:
        return None
    return DepthWatch(plan.operator, plan.stride, plan.interval)


def _march(batch: Batch, announcement: str) -> None:
    """Write the frames, and the restart file where one is asked for."""
    request, plan, propagator = batch.request, batch.plan, batch.propagator
    files, atoms = [row.file for row in batch.rows], [row.atoms for row in batch.rows]
    summary = batch.summary
    frames = propagator.go_on() if batch.done is not None else iter(())
    if plan.duration > propagator.time:
        frames = chain(frames, _longer(propagator, plan.duration))
    with ExitStack() as stack:
        files_of = ReplicaFiles(files, atoms, plan.interval, request.overwrite, batch.done)
        writers = stack.enter_context(files_of)
        log = stack.enter_context(_log(batch)) if request.log is not None else None
        bursts = make_bursts(batch)
        if bursts is not None:
            stack.callback(bursts.report)
        keeper = Keeper(batch, writers, log, bursts)
        say(announcement)
        try:
            march(frames, plan.duration, len(files), summary.last_time, keeper.take)
        except KeyboardInterrupt as error:
            advice = f"; ase-atom run --resume {request.restart} goes on" if request.restart else ""
            raise Interrupted(f"{_kept(writers, summary)}{advice}") from error
        except BrokenStateError as error:
            before = f"{len(propagator.broken)} of {len(files)} broke; " if len(files) > 1 else ""
            raise BrokenStateError(
                f"{before}{error}; {_kept(writers, summary)}",
                replica=error.replica,
                time=error.time,
                atoms=error.atoms,
                frames_written=writers.frames[error.replica],
            ) from error
        except FallbackError as error:
            raise FallbackError(
                f"{error} after {format_time(summary.last_time)}; {_kept(writers, summary)}"
            ) from error
        keeper.save()


def _log(batch: Batch) -> EnergyLog:
    assert batch.request.log is not None
    return EnergyLog(
        batch.request.log,
        [row.file.name for row in batch.rows],
        batch.plan.ensemble,
        batch.request.overwrite,
        batch.log_size,
        batch.plan.leaps,
        batch.propagator.adaptive is not None,
        batch.watch is not None,
    )


def _longer(propagator: Propagator, end: float) -> Iterator[Frames]:
    """Frames beyond those that the propagator was asked for, once these are there."""
    yield from propagator.run(float(exact(end) - exact(propagator.time)))


def _kept(writers: ReplicaFiles, summary: RunSummary) -> str:
    if len(writers.writers) > 1:
        first, last = writers.writers[0].path, writers.writers[-1].path
        return f"{first} to {last.name} hold the good frames"
    (writer,) = writers.writers
    return (
        f"{writer.path} holds the good frames, {writer.frames} up to "
        f"{format_time(summary.last_time)}"
    )


def _verdict(batch: Batch) -> int:
    """Say what went wrong, and return the exit code: the least of those that apply."""
    codes = []
    rows, plan, lost = batch.rows, batch.plan, batch.propagator.broken
    for molecule in batch.summary.molecules:
        off, row = batch.summary.departure(molecule), rows[molecule.rows[0]]
        if off is not None:
            codes.append(OFF_TEMPERATURE)
            say(
                f"ase-atom: {row.molecule.name}: the mean temperature, {off.temperature.value:.0f} "
                f"± {off.temperature.error:.0f} K, is {off.errors:.0f} standard errors from the "
                f"thermostat's {off.target:g} K: do not trust this trajectory, {plan.name} does "
                f"not describe {row.atoms.get_chemical_formula()} well"
            )
        course = None if batch.watch is None else batch.watch.course(molecule.rows)
        if course is not None and (warning := course.warning()) is not None:
            say_warning(f"{row.molecule.name}: {warning}")
    broken: Sequence[BrokenStateError] = [*batch.lost_before, *lost]
    if broken:
        codes.append(BROKEN)
        count = len(rows) + len(batch.lost_before)
        kept = f"; {rows[0].file} to {rows[-1].file.name} hold the good frames" if lost else ""
        say(f"ase-atom: {len(broken)} of {count} broke; {broken[0]}{kept}")
    if batch.left_out:
        codes.append(BAD_INPUT)
        say(f"ase-atom: not simulated: {', '.join(batch.left_out.values())}")
    return min(codes, default=0)
