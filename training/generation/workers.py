"""Where jobs run: processes of this computer, or the workers of a Dask cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_connections
from pathlib import Path
from typing import Any, Protocol

from ase_atom.errors import ConfigError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
QUEUES = ("htcondor", "lsf", "moab", "oar", "pbs", "sge", "slurm")
CONNECT_SECONDS = 20
PROBE = "import training.generation.campaign"


class Workers(Protocol):
    """What a run needs of its workers."""

    def depth(self) -> int:
        """Return how many jobs may be under way, waiting ones among them."""

    def submit(self, function: Callable, *arguments: Any) -> Future:
        """Start a job."""

    def died(self, error: BaseException) -> bool:
        """Say whether an error of a job means that the process under it is gone."""

    def restart(self) -> None:
        """Go on after a death; jobs under way are lost."""

    def close(self) -> None:
        """End all jobs at once."""


class Processes:
    """Processes of this computer, with one thread each.

    Parameters
    ----------
    count
        Number of them.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=self._count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
        )

    def depth(self) -> int:
        """Return one more than there are processes, so that none waits for its next job."""
        return self._count + 1

    def submit(self, function: Callable, *arguments: Any) -> Future:
        """Start a job; if a process has just died, one that fails of that."""
        try:
            return self._pool.submit(function, *arguments)
        except BrokenProcessPool as error:
            failed: Future = Future()
            failed.set_exception(error)
            return failed

    def died(self, error: BaseException) -> bool:
        """Say whether a process is gone; the pool then fails all its jobs."""
        return isinstance(error, BrokenProcessPool)

    def restart(self) -> None:
        """Start new processes."""
        self.close()
        self._pool = self._start()

    def close(self) -> None:
        """Terminate the processes."""
        for process in multiprocessing.active_children():
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


class Cluster:
    """The workers of a Dask cluster.

    They and the scheduler need this checkout on their path and the same engine; none needs the
    data folder. Workers may come and go while jobs run.

    Parameters
    ----------
    client
        Connected client of ``distributed``.

    Raises
    ------
    ConfigError
        If the scheduler, or one of the workers there are, cannot import the checkout.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        try:
            client.run_on_scheduler(exec, PROBE)
            client.run(exec, PROBE)
        except Exception as error:
            raise ConfigError(
                f"the Dask scheduler or a worker cannot run the checkout's code ({error}): start "
                f"them with PYTHONPATH={Path(__file__).parents[2]}"
            ) from error
        self._executor = client.get_executor(pure=False)

    def depth(self) -> int:
        """Return two jobs for each thread there is now; the cluster may grow and shrink."""
        return max(2, 2 * sum(self._client.nthreads().values()))

    def submit(self, function: Callable, *arguments: Any) -> Future:
        """Start a job."""
        return self._executor.submit(function, *arguments)

    def died(self, error: BaseException) -> bool:
        """Say no: Dask itself moves jobs of lost workers, and fails those that kill several."""
        return False

    def restart(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Cancel what is under way."""
        self._executor.shutdown(wait=False)


@contextmanager
def open_workers(count: int, scheduler: str | None = None) -> Iterator[Workers]:
    """Start or find workers, and end what they do at the end.

    Parameters
    ----------
    count
        Number of processes; with a queueing system, of jobs asked for.
    scheduler
        By default processes of this computer. Else the address of a Dask scheduler
        (``tcp://host:8786``), its scheduler file, or ``jobqueue:slurm`` and the like, for which
        dask-jobqueue starts workers as the user's ``jobqueue.yaml`` says.

    Raises
    ------
    ConfigError
        If there is no such scheduler, or Dask is not installed.
    """
    if scheduler is None:
        workers: Workers = Processes(count)
        try:
            yield workers
        finally:
            workers.close()
        return
    with _client(scheduler, count) as client:
        workers = Cluster(client)
        try:
            yield workers
        finally:
            workers.close()


@contextmanager
def _client(scheduler: str, count: int) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            f"--scheduler needs Dask ({error}): pip install '.[cluster]' in the checkout"
        ) from error
    if scheduler.startswith("jobqueue:"):
        name = scheduler.removeprefix("jobqueue:")
        with _queue(name, count) as cluster, Client(cluster) as client:
            yield client
        return
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # errors come here anyway
    where = {"address": scheduler}
    if "://" not in scheduler:
        if not Path(scheduler).is_file():
            raise ConfigError(
                f"--scheduler {scheduler!r} is no address such as tcp://host:8786, no scheduler "
                f"file, and no jobqueue:NAME with a name among {', '.join(QUEUES)}"
            )
        where = {"scheduler_file": scheduler}
    try:
        client = Client(**where, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        yield client


@contextmanager
def _queue(name: str, count: int) -> Iterator[Any]:
    if name not in QUEUES:
        raise ConfigError(f"unknown queueing system {name!r}: there are {', '.join(QUEUES)}")
    try:
        import dask_jobqueue
    except ImportError as error:
        raise ConfigError(
            f"jobqueue:{name} needs dask-jobqueue ({error}): pip install '.[cluster]'"
        ) from error
    kinds = {kind.lower(): kind for kind in vars(dask_jobqueue) if kind.endswith("Cluster")}
    try:
        cluster = getattr(dask_jobqueue, kinds[f"{name}cluster"])()
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"jobqueue:{name} does not start ({error}): its jobs' cores and memory are set in "
            "~/.config/dask/jobqueue.yaml"
        ) from error
    with cluster:
        cluster.scale(jobs=count)
        yield cluster


def _start_worker() -> None:
    """Leave the end of a run to the parent process, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        wait_for_connections([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
