"""``ase-atom run LIBRARY``: many molecules on many workers, each with a folder and a record."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer

from ase_atom.cli.listing import read_members
from ase_atom.cli.member import LEDGER, Member, run_member, sees
from ase_atom.cli.messages import folded
from ase_atom.cli.report import print_table
from ase_atom.cli.request import RunRequest
from ase_atom.cluster.jobs import Progress, console, run_jobs
from ase_atom.cluster.workers import Workers, cores, failure_of, open_workers
from ase_atom.errors import ConfigError
from ase_atom.files import replace_text
from ase_atom.interruption import Interrupted
from ase_atom.io.formats import format_of
from ase_atom.io.output import lock_output
from ase_atom.units import format_time

FAILED = 1
LISTED = 20
"""Failures that are printed; the file has them all."""

SUMMARY, FAILURES = "summary.csv", "failures.csv"
COLUMNS = (
    *("name", "folder", "molecule", "state", "exit_code", "time_ps", "temperature_K"),
    *("temperature_error_K", "reason"),
)


def run_library(request: RunRequest, scheduler: str | None, workers: int | None) -> int:
    """Run each molecule of a list by itself, and return the exit code.

    Parameters
    ----------
    request
        The options of the command; its structure is the list, its output the folder, with the
        ending of the trajectories if it has one.
    scheduler, workers
        Where; see `open_workers`.

    Returns
    -------
    0, 1 if a molecule failed, or 128 and the number of the signal that stopped the work.

    Raises
    ------
    ConfigError, DataError
        For a list or options with which no work can begin; nothing is written then.
    """
    (source,) = request.structures
    ending = request.output.suffix or ".dcd"
    folder = _folder(request.output).absolute()
    format_of(f"molecule{ending}", write=True)
    members = read_members(source, folder, ending)
    _check_options(request)
    if request.operator is not None and Path(request.operator).is_file():
        request = replace(request, operator=str(Path(request.operator).resolve()))
    ledger = _Ledger(folder, _options(request, ending), request.time)
    ledger.check(members, request.overwrite)
    with ExitStack() as stack:
        missing = members
        if not request.overwrite:
            missing = [each for each in members if not each.is_done(ledger.time)]
        pool = None
        if missing:
            count = min(workers or cores(), len(missing))
            pool = stack.enter_context(open_workers(count, scheduler, run_member.__module__))
        ledger.write(members, pool, stack)
        if request.overwrite:
            for each in members:
                each.forget()
        stopped = None
        if pool is not None:
            quiet = request.quiet or request.as_json
            title = f"{len(members)} molecules of {source} in {_folder(request.output)}"
            with Progress(title, "molecules", quiet) as progress:
                run = _Run(len(members), missing, request, pool, progress)
                stopped = run.go()
    rows = [_row(each) for each in members]
    _write_table(folder / SUMMARY, rows)
    failed = [row for row in rows if row["state"] != "done" or row["exit_code"] != 0]
    if stopped is not None:
        done = len(rows) - len(failed)
        left = f"{done} of {len(rows)} molecules are done; the same command goes on"
        raise Interrupted(left, stopped)
    (folder / FAILURES).unlink(missing_ok=True)
    if failed:
        _write_table(folder / FAILURES, failed)
    _conclude(request, folder, rows, failed)
    return FAILED if failed else 0


def _check_options(request: RunRequest) -> None:
    """Check what does not depend on the molecule.

    Raises
    ------
    AtomError
        For what no molecule could be run with.
    """
    from ase_atom.cli.simulation import plan_of
    from ase_atom.operator import load_operator
    from ase_atom.operator.engine.choice import check_engine

    for option, given in (("--log", request.log), ("--restart", request.restart)):
        if given is not None:
            raise ConfigError(
                f"{option} {given}: each molecule of a library has its own in its folder; leave it "
                "out"
            )
    if request.stop_on_error:
        raise ConfigError("--stop-on-error is not for a library: its failures are listed")
    check_engine(request.engine.value, request.device)
    request.settings.ensemble()
    request.adaptive()
    if request.operator is not None:
        operator = load_operator(request.operator, engine=request.engine.value)
        plan_of(request, request.moving(operator))
    elif request.frame_interval is not None and request.frame_interval > request.time:
        raise ConfigError(
            f"--time {format_time(request.time)} is shorter than one frame interval of "
            f"{format_time(request.frame_interval)}"
        )


def _options(request: RunRequest, ending: str) -> dict[str, Any]:
    """Options that all runs of the molecules share, as plain values, and the ending of files."""
    own = {
        *("structures", "smiles", "output", "overwrite", "time", "log", "restart", "quiet"),
        *("as_json", "stop_on_error"),
    }
    found = {name: value for name, value in asdict(request).items() if name not in own}
    found |= {"setting": list(request.setting), "engine": request.engine.value}
    return {**found, "output": ending}


def _given(name: str, value: Any) -> str:
    option = f"--{name.replace('_', '-')}"
    if value in (None, False, []):
        return f"without {option}"
    return f"with {option}" if value is True else f"with {option} {value}"


class _Ledger:
    """What the folder of a library was begun with: options, time and molecules."""

    def __init__(self, folder: Path, options: dict[str, Any], time: float) -> None:
        self._folder, self._options, self.time = folder, options, time
        self._molecules: dict[str, str] = {}

    def check(self, members: Sequence[Member], overwrite: bool) -> None:
        """Check that the work can go on with these options.

        Raises
        ------
        ConfigError
            If the folder is another's, or was begun with others.
        """
        file, folder = self._folder / LEDGER, self._folder
        if not file.is_file():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ConfigError(f"{folder} is there and no library's: give another --output")
            return
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            options, time, known = before["options"], before["time_fs"], before["molecules"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{file} is no record of a library ({error})") from error
        if overwrite:
            return
        advice = "give the same options, another --output, or --overwrite to begin anew"
        for name, now in self._options.items():
            if (was := options.get(name)) != now:
                both = (_given(name, value) for value in (was, now))
                raise ConfigError(f"{folder} was begun {', not '.join(both)}: {advice}")
        if self.time < time:
            raise ConfigError(
                f"{folder} was begun with --time {format_time(time)}, which can be made longer, "
                f"not {format_time(self.time)}"
            )
        for member in members:
            if known.get(member.name, _identity(member)) != _identity(member):
                raise ConfigError(f"{folder}: {member.name} was another molecule: {advice}")
        self._molecules = dict(known)

    def write(self, members: Sequence[Member], pool: Workers | None, stack: ExitStack) -> None:
        """Write it, locked until the end of the work.

        Raises
        ------
        ConfigError
            If a worker does not see the folder.
        TrajectoryError
            If another command works there.
        """
        new = not self._folder.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = self._folder / ".lock"
        stack.enter_context(lock_output(lock))
        known = self._molecules | {each.name: _identity(each) for each in members}
        plain = {"options": self._options, "time_fs": self.time, "molecules": known}
        replace_text(self._folder / LEDGER, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
        seen = {} if pool is None else pool.everywhere(sees, str(self._folder))
        if blind := [address for address, sight in seen.items() if not sight]:
            if new:
                for file in (self._folder / LEDGER, lock):
                    file.unlink()
                self._folder.rmdir()
            raise ConfigError(
                f"the worker at {blind[0]} does not see {self._folder}: molecules are written by "
                "the workers, to a folder that all of them share"
            )


def _identity(member: Member) -> str:
    if member.kind == "smiles":
        return member.text
    return "sha256:" + hashlib.sha256(member.text.encode()).hexdigest()


class _Run:
    """Molecules on workers."""

    def __init__(
        self,
        total: int,
        missing: Sequence[Member],
        request: RunRequest,
        pool: Workers,
        progress: Progress,
    ) -> None:
        self._request, self._pool = request, pool
        self._waiting, self._total = deque(missing), total
        self._done, self._report = total - len(missing), progress.report

    def go(self) -> int | None:
        """Run them all, or until a signal comes, whose number is returned."""
        there = self._done
        self._report(there, self._total, f"{len(self._waiting)} to run, {there} are done")
        return run_jobs(self._waiting, self._pool, self._start, self._take)

    def _start(self, member: Member) -> Future[Any]:
        return self._pool.submit(run_member, member, self._request, sys.argv)

    def _take(self, member: Member, future: Future[Any]) -> None:
        died = failure_of(future)
        reason = future.result() if died is None else died
        if reason and member.record().get("reason") != reason:
            member.folder.mkdir(exist_ok=True)
            member.note(FAILED, reason)
        self._done += 1
        self._report(self._done, self._total, f"{member.name}: {_said(member, reason)}")


def _said(member: Member, reason: str) -> str:
    if reason:
        return f"failed: {reason}"
    row = _row(member)
    kelvin, error = row["temperature_K"], row["temperature_error_K"]
    return "done" if kelvin is None or error is None else f"done, {kelvin:.1f} ± {error:.1f} K"


def _row(member: Member) -> dict[str, Any]:
    """A molecule's line of the table, by its record."""
    record = member.record()
    first: dict[str, Any] = next(iter(record.get("molecules", ())), {})
    kelvin = first.get("temperature_K", {})
    time = record.get("time_fs")
    return {
        "name": member.name,
        "folder": member.folder.name,
        "molecule": member.text if member.kind == "smiles" else f"{member.folder.name}.sdf",
        "state": record.get("state", "not begun"),
        "exit_code": record.get("exit_code"),
        "time_ps": None if time is None else time / 1000,
        "temperature_K": _rounded(kelvin.get("mean")),
        "temperature_error_K": _rounded(kelvin.get("error")),
        "reason": record.get("reason", ""),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _folder(output: Path) -> Path:
    """Folder of the molecules: the output without the ending, which is that of the files in it."""
    return output.with_suffix("") if output.name else output


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(path, text.getvalue())


def _conclude(
    request: RunRequest, folder: Path, rows: list[dict[str, Any]], failed: list[dict[str, Any]]
) -> None:
    """Print what it came to."""
    if request.as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    for row in failed[:LISTED]:
        print(folded(f"failed: {row['name']}: {row['reason']}", sys.stderr), file=sys.stderr)
    if len(failed) > LISTED:
        console.print(f"{len(failed) - LISTED} more in {folder / FAILURES}", markup=False)
    if request.quiet:
        return
    short = _folder(request.output)
    lines = [("molecules", f"{len(rows)}, {len(rows) - len(failed)} done, {len(failed)} failed")]
    lines.append(("table", str(short / SUMMARY)))
    if failed:
        lines.append(("failures", str(short / FAILURES)))
    print_table(lines)
