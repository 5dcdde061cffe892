"""Many bursts on many workers, such that a kill loses at most those under way.

Each finished burst is a file of its own in ``<name>.bursts/``; once all that can be made are, they
are merged into ``<name>.h5`` and the folder goes. A later run with the same settings finds what is
there and makes what is missing, so it resumes a killed run and extends a finished one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ase_atom.cluster.jobs import run_jobs
from ase_atom.cluster.workers import DIED, Workers, failure_of, open_workers
from ase_atom.errors import ConfigError
from training.data.burst import Burst
from training.data.molecules import Molecule
from training.data.store import write_burst
from training.engines.factory import get_engine
from training.generation.batched.bursts import run_bursts
from training.generation.batched.grouping import Job, group
from training.generation.dynamics import Settings, attempt, run_burst
from training.generation.targets import Target

Report = Callable[[int, int, str], None]


@dataclass
class Outcome:
    """What became of a run.

    Attributes
    ----------
    finished
        Keys of the bursts made in this run.
    failed
        Reason by key for the bursts that could not be made.
    stopped
        The signal that ended the run early, if one did.
    merged
        Files that are complete but for the failed bursts.
    unmerged
        Reason by file for those that could not be written; their bursts are there in parts.
    seconds
        Processor time spent on each molecule.
    """

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: int | None = None
    merged: list[Path] = field(default_factory=list)
    unmerged: dict[Path, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_campaign(
    folder: Path,
    molecules: Sequence[Molecule],
    settings: Settings,
    bursts: int,
    workers: int,
    report: Report,
    scheduler: str | None = None,
) -> Outcome:
    """Make all missing bursts of some molecules, breadth first.

    An engine that evaluates batches finishes some compounds before it goes on to the next, so that
    what is there has all its temperatures; see `group`.

    Parameters
    ----------
    folder
        Where the files are; made if missing.
    bursts
        Number of bursts of each molecule.
    workers
        Number of processes, each with one thread.
    report
        Called with the number of bursts finished or failed, the number of all, and a line about
        the latest.
    scheduler
        Dask scheduler to use in place of processes, see `open_workers`.

    Raises
    ------
    ConfigError
        If bursts are there that were made with other settings, another run works on them, or there
        is no such scheduler.
    WorkerError
        If the scheduler is lost.
    OSError
        If the disk is full or the folder cannot be written.
    """
    if settings.force_field and any(molecule.structures is not None for molecule in molecules):
        raise ConfigError("a force field shakes conformers made from SMILES, not given structures")
    targets = [Target(folder, molecule, settings) for molecule in molecules]
    for target in targets:
        target.check_unchanged()
    outcome = Outcome()
    with ExitStack() as stack:
        pool = None
        if scheduler is not None and (count := len(_missing(targets, bursts))):
            # One that does not answer is met before anything is written.
            pool = stack.enter_context(open_workers(min(workers, count), scheduler, __name__))
        folder.mkdir(parents=True, exist_ok=True)
        _allow_files(len(targets) + 256)
        for target in targets:
            _lock(stack, target)
            target.clean()
        missing = _missing(targets, bursts)
        total = len(targets) * bursts
        there = total - len(missing)
        report(there, total, f"{len(missing)} to make, {there} are there")
        if missing:
            if pool is None:
                several = min(workers, len(missing))
                pool = stack.enter_context(open_workers(several, scheduler, __name__))
            for target in {id(target): target for target, _ in missing}.values():
                target.prepare()
            engine = get_engine(settings.engine, settings.engine_options)
            jobs = [[job] for job in missing] if engine.potential is None else group(missing)
            _Run(jobs, total, pool, report).go(outcome)
        if outcome.stopped is None:
            for target in targets:
                _finish(target, outcome)
    return outcome


def _missing(targets: Sequence[Target], bursts: int) -> list[Job]:
    """Bursts to make, breadth first: a run that is stopped has something of every molecule."""
    jobs = [(target, index) for target in targets for index in target.missing(bursts)]
    return sorted(jobs, key=lambda job: job[1])


def _allow_files(count: int) -> None:
    """Ask for so many open files: each molecule has a lock, and some systems begin with 256."""
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _lock(stack: ExitStack, target: Target) -> None:
    try:
        stack.enter_context(FileLock(target.lock, timeout=0))
    except Timeout as error:
        raise ConfigError(
            f"another run is working on {target.merged}: wait for it, or give another --name"
        ) from error


def _finish(target: Target, outcome: Outcome) -> None:
    try:
        if target.finish():
            outcome.merged.append(target.merged)
    except OSError as error:
        outcome.unmerged[target.merged] = error.strerror or str(error)


class _Run:
    """Jobs on workers, no more at a time than these ask for, each for one burst or a batch."""

    def __init__(
        self, jobs: Sequence[list[Job]], total: int, workers: Workers, report: Report
    ) -> None:
        self._waiting = deque(jobs)
        self._done, self._total = total - sum(map(len, jobs)), total
        self._workers, self._report = workers, report

    def go(self, outcome: Outcome) -> None:
        """Run them all, or until a signal comes."""
        outcome.stopped = run_jobs(
            self._waiting,
            self._workers,
            self._start,
            lambda jobs, future: self._take(jobs, future, outcome),
        )

    def _start(self, jobs: list[Job]) -> Future:
        wanted = [(target.molecule, index) for target, index in jobs]
        return self._workers.submit(make_bursts, wanted, jobs[0][0].settings)

    def _take(self, jobs: list[Job], future: Future, outcome: Outcome) -> None:
        failure = failure_of(future)
        if failure == DIED and len(jobs) > 1:
            # One of a batch did it: each by itself.
            self._waiting.extendleft([job] for job in reversed(jobs))
            return
        if failure is not None:
            for job in jobs:
                self._conclude(job, outcome, failure)
            return
        results, seconds = future.result()
        for job, result in zip(jobs, results, strict=True):
            name = job[0].molecule.name
            outcome.seconds[name] = outcome.seconds.get(name, 0.0) + seconds / len(jobs)
            if isinstance(result, Burst):
                failure = _keep(*job, result)
                self._conclude(job, outcome, failure, "" if failure else _describe(result))
            else:
                self._conclude(job, outcome, result)

    def _conclude(self, job: Job, outcome: Outcome, failure: str | None, line: str = "") -> None:
        key = job[0].key(job[1])
        self._done += 1
        if failure is None:
            outcome.finished.append(key)
        else:
            outcome.failed[key] = failure
            line = f"failed: {failure}"
        self._report(self._done, self._total, f"{key}: {line}")


def make_bursts(
    jobs: Sequence[tuple[Molecule, int]], settings: Settings
) -> tuple[list[Burst | str], float]:
    """Make some bursts in a worker; return each, or why it failed, and the processor time in s."""
    start = time.process_time()
    if get_engine(settings.engine, settings.engine_options).potential is not None:
        results = run_bursts(jobs, settings)
    else:
        results = [attempt(run_burst, *job, settings) for job in jobs]
    return results, time.process_time() - start


def _keep(target: Target, index: int, burst: Burst) -> str | None:
    """Write a burst; return why it cannot be kept, if so."""
    if burst.attrs["version"] != target.engine_version:
        return (
            f"the worker has {burst.attrs['program']} {burst.attrs['version']}, "
            f"not {target.engine_version} as here"
        )
    write_burst(target.part(index), burst)
    return None


def _describe(burst: Burst) -> str:
    kinetic = float(np.mean(burst.kinetic_energies()))
    line = f"{burst.temperature_K:g} K, mean kinetic energy {kinetic:.3f} eV"
    if "energy_error_eV" in burst.attrs:
        line += f", energy error {1000 * burst.attrs['energy_error_eV']:.2f} meV"
    if "bond_changes" in burst.attrs:
        line += f", kept although {burst.attrs['bond_changes']}"
    return line
