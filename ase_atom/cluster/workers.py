"""Where jobs run: the workers of a Dask cluster, on this computer or elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ase_atom.errors import AtomError, ConfigError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
QUEUES = ("htcondor", "lsf", "moab", "oar", "pbs", "sge", "slurm")
CONNECT_SECONDS, CLOSE_SECONDS = 20, 10
LOCALLY = "local"
KEPT = "what is finished is kept, and the same command goes on"
DIED = "the worker process died (out of memory, or a crash of the engine)"

LOCAL = {
    # One job at a time on a worker, and twice at most: one that kills its process fails alone.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 1,
    # An engine may be silent for as long as it takes, and a busy computer slow to start a process.
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": "1 hour",
    "distributed.deploy.lost-worker-timeout": "1 hour",
    "distributed.scheduler.no-workers-timeout": "1 hour",
    # Workers keep no results: one that is over its share of memory ends.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Ctrl-C reaches every process of a terminal: the run decides when its workers end.
    "distributed.worker.preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
    # Nothing to be read without the key.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Settings of Dask for workers of this computer."""


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerError(AtomError):
    """Workers that cannot be reached any more."""


class Workers:
    """The workers of a Dask cluster.

    They and the scheduler need the module of the jobs on their path. Workers may come and go while
    jobs run.

    Parameters
    ----------
    client
        Connected client of ``distributed``.
    module
        Where the functions of the jobs are.
    processes
        Nannies of the workers by name, if they are of this computer alone.

    Raises
    ------
    ConfigError
        If the scheduler, or one of the workers there are, cannot import the module.
    """

    def __init__(
        self, client: Any, module: str, processes: Mapping[Any, Any] | None = None
    ) -> None:
        self._client, self._processes = client, processes
        try:
            client.run_on_scheduler(exec, f"import {module}")
            client.run(exec, f"import {module}")
        except Exception as error:
            raise ConfigError(
                f"the Dask scheduler or a worker cannot import {module} ({error}): start them "
                f"where this ase-atom is installed, or with PYTHONPATH={Path(__file__).parents[2]}"
            ) from error
        self._executor = client.get_executor(pure=False)

    def depth(self) -> int:
        """Return two jobs for each thread there is now; the cluster may grow and shrink.

        Raises
        ------
        WorkerError
            If there are processes of this computer alone, and none of them can be started again.
        """
        if self._processes is not None and all(
            nanny.status.name in ("closed", "failed") for nanny in self._processes.values()
        ):
            raise WorkerError(f"every worker process died while it started; {KEPT}")
        threads: int = sum(self._client.nthreads().values())
        return max(2, 2 * threads)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Start a job."""
        found: Future[Any] = self._executor.submit(function, *arguments)
        return found

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Call a function on each worker there is now, and return what it says by address."""
        found: dict[str, Any] = self._client.run(function, *arguments)
        return found

    def close(self) -> None:
        """Cancel what is under way."""
        self._executor.shutdown(wait=False)


def describe_failure(error: BaseException) -> str:
    """Return in a line what went wrong."""
    text = " ".join(f"{error}".split()) or type(error).__name__
    return text if isinstance(error, AtomError) else f"{type(error).__name__}: {text}"


def failure_of(future: Future[Any]) -> str | None:
    """Why a finished job has failed, if so: `DIED` if it has ended two workers' processes.

    Raises
    ------
    WorkerError
        If the scheduler is lost.
    """
    from distributed import KilledWorker

    try:
        error = future.exception()
    except CancelledError as gone:
        raise WorkerError(f"the scheduler gave a job up, or is gone; {KEPT}") from gone
    if isinstance(error, KilledWorker):
        return DIED
    return None if error is None else describe_failure(error)


@contextmanager
def open_workers(count: int, scheduler: str | None, module: str) -> Iterator[Workers]:
    """Start or find workers, and end what they do at the end.

    Parameters
    ----------
    count
        Number of processes; with a queueing system, of jobs asked for.
    scheduler
        None or ``local`` for processes of this computer with one thread each, which share its
        memory evenly. Else the address of a Dask scheduler (``tcp://host:8786``), its scheduler
        file, or ``jobqueue:slurm`` and the like, for which dask-jobqueue starts workers as the
        user's ``jobqueue.yaml`` says.
    module
        Where the functions of the jobs are.

    Raises
    ------
    ConfigError
        If there is no such scheduler.
    WorkerError
        If no process can be started.
    """
    if scheduler is None or scheduler == LOCALLY:
        with _local(count) as client:
            yield from _open(Workers(client, module, client.cluster.workers))
    else:
        with _remote(scheduler, count) as client:
            yield from _open(Workers(client, module))


def _open(workers: Workers) -> Iterator[Workers]:
    try:
        yield workers
    finally:
        workers.close()


@contextmanager
def _local(count: int) -> Iterator[Any]:
    """Processes of this computer, which no one else can speak to: one key is made for each run."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security
    from distributed.system import MEMORY_LIMIT

    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    with dask.config.set(LOCAL):
        try:
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                memory_limit=MEMORY_LIMIT // count,
                host="127.0.0.1",
                protocol="tls://",
                security=Security.temporary(),
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL,
            )
        except (OSError, RuntimeError) as error:
            raise WorkerError(
                f"a worker process died while it started ({error}); {KEPT}"
            ) from error
        client = Client(cluster)
        try:
            yield client
        finally:
            # Jobs under way would be waited for; what is left ends with this process.
            with suppress(TimeoutError):
                client.sync(_end_processes, cluster, callback_timeout=CLOSE_SECONDS)
            with suppress(TimeoutError):
                client.close(CLOSE_SECONDS)
                cluster.close(CLOSE_SECONDS)


async def _end_processes(cluster: Any) -> None:
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.process is not None and nanny.process.process is not None:
            await nanny.process.process.kill()


@contextmanager
def _remote(scheduler: str, count: int) -> Iterator[Any]:
    from distributed import Client

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
                f"--scheduler {scheduler!r} is not {LOCALLY}, no address such as tcp://host:8786, "
                f"no scheduler file, and no jobqueue:NAME with a name among {', '.join(QUEUES)}"
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
            f"jobqueue:{name} needs dask-jobqueue ({error}): pip install 'ase-atom[cluster]'"
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
