"""Many bursts in parallel processes, such that a kill loses at most those under way.

Each finished burst is a file of its own in ``<name>.bursts/``; once all that can be made are, they
are merged into ``<name>.h5`` and the folder goes. A later run with the same settings finds what is
there and makes what is missing, so it resumes a killed run and extends a finished one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for_connections
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ase_atom.errors import AtomError, ConfigError, DataError
from training.dynamics import Settings, run_burst
from training.molecules import Molecule
from training.store import write_burst
from training.targets import Target

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerError(AtomError):
    """A worker process that died."""


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
    """

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: int | None = None
    merged: list[Path] = field(default_factory=list)


def run_campaign(
    folder: Path,
    molecules: Sequence[Molecule],
    settings: Settings,
    bursts: int,
    workers: int,
    report: Callable[[int, int, str], None],
) -> Outcome:
    """Make all missing bursts of some molecules.

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

    Raises
    ------
    ConfigError
        If bursts are there that were made with other settings, or another run works on them.
    WorkerError
        If a worker process dies.
    """
    targets = [Target(folder, molecule, settings) for molecule in molecules]
    for target in targets:
        target.check_unchanged()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for target in targets:
            _lock(stack, target)
            target.clean()
        # Breadth first, so that a run that is stopped has something of every molecule.
        missing = sorted(
            ((target, index) for target in targets for index in target.missing(bursts)),
            key=lambda job: job[1],
        )
        for target in {id(target): target for target, _ in missing}.values():
            target.prepare()
        outcome = _run_jobs(missing, len(targets) * bursts, workers, report)
        if outcome.stopped is None:
            for target in targets:
                if target.finish():
                    outcome.merged.append(target.merged)
    return outcome


def _lock(stack: ExitStack, target: Target) -> None:
    try:
        stack.enter_context(FileLock(target.lock, timeout=0))
    except Timeout as error:
        raise ConfigError(
            f"another run is working on {target.merged}: wait for it, or give another --name"
        ) from error


def _run_jobs(
    jobs: Sequence[tuple[Target, int]],
    total: int,
    workers: int,
    report: Callable[[int, int, str], None],
) -> Outcome:
    outcome = Outcome()
    done = total - len(jobs)
    report(done, total, f"{len(jobs)} to make, {done} are there")
    if not jobs:
        return outcome
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    with _noted_signals() as signals:
        try:
            futures = {
                pool.submit(_make, target.part(index), target.molecule, index, target.settings): (
                    target.key(index)
                )
                for target, index in jobs
            }
            pending: set[Future] = set(futures)
            while pending and not signals:
                ready, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                if signals:
                    break
                for future in sorted(ready, key=futures.__getitem__):
                    done += 1
                    key, (reason, line) = futures[future], future.result()
                    if reason is None:
                        outcome.finished.append(key)
                    else:
                        outcome.failed[key] = reason
                    report(done, total, f"{key}: {line}")
        except BrokenProcessPool as error:
            if not signals:
                raise WorkerError(
                    "a worker process died (out of memory, or a crash of the engine); finished "
                    "bursts are kept, and the same command goes on"
                ) from error
        finally:
            if signals:
                outcome.stopped = signals[0]
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
    return outcome


def _make(path: Path, molecule: Molecule, index: int, settings: Settings) -> tuple[str | None, str]:
    """Make one burst in a worker; return the reason of a failure, if any, and a line about it."""
    try:
        burst = run_burst(molecule, index, settings)
        write_burst(path, burst)
    except Exception as error:
        reason = " ".join(f"{error}".split()) or type(error).__name__
        if not isinstance(error, DataError):
            reason = f"{type(error).__name__}: {reason}"
        return reason, f"failed: {reason}"
    kinetic = float(np.mean(burst.kinetic_energies()))
    line = f"{burst.temperature_K:g} K, mean kinetic energy {kinetic:.3f} eV"
    if "energy_error_eV" in burst.attrs:
        line += f", energy error {1000 * burst.attrs['energy_error_eV']:.2f} meV"
    return None, line


def _start_worker() -> None:
    """Leave the end of a run to the parent process, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        wait_for_connections([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _noted_signals():
    """Collect interrupts and terminations in a list in place of acting on them."""
    noted: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: noted.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
