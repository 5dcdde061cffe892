"""Running a suite: every row of every table, trivial ones first, from where it was cut off."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ase_atom.errors import ConfigError
from ase_atom.files import digest_of
from ase_atom.operator.checkpoint import find_operator
from training.benchmarks.fitting import PROCEDURE, Fit
from training.benchmarks.loading import Loaded, load_task
from training.benchmarks.models import build_model, parameters_of, predict, version_of
from training.benchmarks.results import Place, seeds_of
from training.benchmarks.scoring import score
from training.benchmarks.sources import find_file
from training.benchmarks.suites import Budget, Row, Suite, Task, known_rows, load_rows
from training.benchmarks.tables import write_tables
from training.benchmarks.trivial import TRIVIAL
from training.data.store import data_folder
from training.learning.config import differences, listed

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Options:
    """What a command line may choose.

    Attributes
    ----------
    molecules, deltas
        Only these tasks; all if empty.
    seeds
        In place of the suite's, if any.
    budget
        Of each row.
    data, output
        Folders; by default the data folder, and results/SUITE inside it.
    device, threads
        ``cpu``, ``cuda`` or another of torch's; threads of the processor.
    """

    molecules: tuple[str, ...] = ()
    deltas: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    budget: Budget | None = None
    data: Path | None = None
    output: Path | None = None
    device: str = "cpu"
    threads: int = 1

    @property
    def machine(self) -> str:
        """What a row's minutes are minutes of."""
        if self.device != "cpu":
            return self.device
        return "cpu, one thread" if self.threads == 1 else f"cpu, {self.threads} threads"


def chosen_tasks(suite: Suite, options: Options) -> list[Task]:
    """The suite's tasks that options ask for.

    Raises
    ------
    ConfigError
        If they ask for one that the suite has not.
    """
    tasks = suite.tasks()
    for name, wanted, known in (
        ("molecule", options.molecules, [task.name for task in tasks]),
        ("Δ", options.deltas, [task.delta for task in tasks]),
    ):
        strange = [value for value in wanted if value not in known]
        if strange:
            there = ", ".join(str(value) for value in dict.fromkeys(known))
            raise ConfigError(f"suite {suite.name} has no {name} {strange[0]}: there are {there}")
    return [
        task
        for task in tasks
        if (not options.molecules or task.name in options.molecules)
        and (not options.deltas or task.delta in options.deltas)
    ]


def output_folder(suite: Suite, options: Options) -> Path:
    """Where the suite's results lie."""
    return options.output or (options.data or data_folder()) / "results" / suite.name


def run_suite(suite: Suite, rows: dict[str, Row], options: Options) -> Path:
    """Run what is missing of a suite, and write its tables after every result.

    Returns
    -------
    Path
        The Markdown file.

    Raises
    ------
    ConfigError, DataError
        For settings or data that do not fit, or results there that were made with others.
    """
    root = output_folder(suite, options)
    tasks = chosen_tasks(suite, options)
    budget = options.budget or suite.budget
    # Files that are missing and results that do not fit are met before the first minute is spent.
    jobs = _jobs(
        root, tasks, rows, options.seeds or suite.seeds, _settings_of(tasks, rows, options, budget)
    )
    for job in jobs:
        job.place.finished(job.settings)
    wider = _whole(suite, rows, options)
    if rows:
        _one_budget(root, *wider, _budget(budget, options))
    beside = sorted(path for path in root.parent.glob("*") if path.is_dir())
    loaded: tuple[tuple[str, str], Loaded] | None = None
    for number, job in enumerate(jobs, start=1):
        label = f"[{number}/{len(jobs)}] {job.place.name}"
        if job.place.finished(job.settings):
            continue
        if not options.output and job.place.take_over(job.settings, beside):
            console.print(f"{label}: from another suite", markup=False)
            continue
        if loaded is None or loaded[0] != job.samples:
            loaded = job.samples, load_task(job.task, job.split, options.data, options.device)
        _run_job(job, loaded[1], budget, options, label)
        facts = json.loads(job.place.record.read_text())
        s2t = "" if facts["s2t"] is None else f", S2T {100 * facts['s2t']:.3f}"
        console.print(f"{label}: S2S {100 * facts['s2s']:.3f}{s2t} ×10⁻² Å²", markup=False)
        write_tables(root, suite, *wider)
    write_tables(root, suite, *wider)
    return root / "table.md"


@dataclass(frozen=True)
class _Job:
    """One row, of a suite or trivial, to measure on one task under one split, from one seed."""

    task: Task
    split: str
    name: str
    row: Row | None
    seed: int
    place: Place
    settings: dict[str, Any]

    @property
    def samples(self) -> tuple[str, str]:
        """What it takes to load: jobs that follow one another have it in common."""
        return self.task.key, self.split


def _jobs(
    root: Path,
    tasks: Sequence[Task],
    rows: dict[str, Row],
    seeds: Sequence[int],
    settings_of: Callable[[Task, str, str], dict[str, Any]],
) -> list[_Job]:
    """All that a suite asks for, in the order in which it is run."""
    # Without the trivial rows, under both splits, no table is printed: they come first. What is
    # not trained has one seed.
    first = [*TRIVIAL, *(name for name, row in rows.items() if not row.learned)]
    learned = [name for name, row in rows.items() if row.learned]
    return [
        _Job(
            *(task, split, name, rows.get(name), seed),
            Place(root, task, split, name, seed),
            settings_of(task, split, name),
        )
        for task in tasks
        for seed, split, name in (
            *itertools.product([0], task.splits, first),
            *itertools.product(seeds, task.splits, learned),
        )
    ]


def _run_job(job: _Job, loaded: Loaded, budget: Budget, options: Options, label: str) -> None:
    """Train and measure a row, and keep its result."""
    row, heavy = job.row, job.task.errors_of == "heavy"
    if row is None:
        job.place.begin(job.settings)
        _trivial(job.name, job.place, loaded, heavy)
        return
    # A row that cannot be built leaves nothing behind that its correction would not fit.
    model = build_model(row, loaded.setting, loaded.parts["train"], job.seed)
    job.place.begin(job.settings)
    facts = {"device": _device_name(options)}
    if row.learned:
        with _Bar(label) as advance:
            facts |= _train(model, job, loaded, budget, advance)
    _measure(model, row, job.place, loaded, heavy, facts)


def _whole(
    suite: Suite, rows: dict[str, Row], options: Options
) -> tuple[list[Task], dict[str, Row], tuple[int, ...]]:
    """What a table shows after a run of a part of a suite: all that has been measured of it.

    Also rows and seeds that an earlier run had in place of the suite's.
    """
    root, chosen = output_folder(suite, options), chosen_tasks(suite, options)
    tasks = [task for task in suite.tasks() if task in chosen or (root / task.key).is_dir()]
    found = {name: seeds_of(root, tasks, name) for name in known_rows(suite)}
    measured = [name for name, seeds in found.items() if seeds]
    shown = load_rows(suite, [*suite.rows, *measured]) | rows
    return tasks, shown, tuple(sorted({*suite.seeds, *options.seeds}.union(*found.values())))


def _one_budget(
    root: Path,
    tasks: Sequence[Task],
    rows: dict[str, Row],
    seeds: Sequence[int],
    budget: dict[str, Any],
) -> None:
    """Refuse to add rows to tables whose rows were trained by another budget."""
    learned = [name for name, row in rows.items() if row.learned]
    for task, name, seed in itertools.product(tasks, learned, seeds):
        for split in task.splits:
            place = Place(root, task, split, name, seed)
            settings = place.settings() if place.record.exists() else None
            told = settings and differences(settings["budget"], budget)
            if told:
                raise ConfigError(
                    f"{root / task.key} has rows of another budget, {name} among them "
                    f"({listed(told, 'budget.')}): one table holds one budget; choose another "
                    "--output"
                )


def _trivial(name: str, place: Place, loaded: Loaded, heavy: bool) -> None:
    parts = {part: samples.to(torch.device("cpu")) for part, samples in loaded.parts.items()}
    predictor = TRIVIAL[name](heavy)
    predictor.prepare(parts["train"], parts["validation"], loaded.setting.lags)
    measured = score(predictor, parts["test"], heavy)
    facts = _facts(loaded) | {"parameters": 0, "choice": predictor.choice}
    place.write(facts, measured, parts["test"].start, parts["test"].molecule)


def _train(
    model: torch.nn.Module,
    job: _Job,
    loaded: Loaded,
    budget: Budget,
    advance: Callable[[float], None],
) -> dict[str, Any]:
    train, validation = loaded.parts["train"], loaded.parts["validation"]
    fit = Fit(
        model.to(train.positions.device),
        train,
        validation,
        job.row,
        budget,
        job.seed,
        job.place.checkpoint,
        job.task.errors_of == "heavy",
    )
    trained = fit.run(advance)
    return {
        "steps": trained.steps,
        "train_minutes": trained.minutes,
        "best_step": trained.best_step,
        "validation": trained.history,
    }


def _measure(
    model: torch.nn.Module,
    row: Row,
    place: Place,
    loaded: Loaded,
    heavy: bool,
    more: dict[str, Any],
) -> None:
    test = loaded.parts["test"]
    model.to(test.positions.device)
    measured = score(lambda samples: predict(model, samples), test, heavy, brief=not row.learned)
    facts = {**_facts(loaded), "parameters": parameters_of(model), **more}
    test = test.to(torch.device("cpu"))
    s2t = None if measured.s2t is None else measured.s2t.cpu()
    measured = type(measured)(**(vars(measured) | {"s2s": measured.s2s.cpu(), "s2t": s2t}))
    place.write(facts, measured, test.start, test.molecule)
    # The checkpoint goes once the results are safe.
    place.checkpoint.unlink(missing_ok=True)


def _facts(loaded: Loaded) -> dict[str, Any]:
    counts = {part: len(samples) for part, samples in loaded.parts.items()}
    return {"starts": counts, "data": loaded.sources, "public": loaded.public}


def _settings_of(
    tasks: Sequence[Task], rows: dict[str, Row], options: Options, budget: Budget
) -> Callable[[Task, str, str], dict[str, Any]]:
    """From a task, a split and a row's name to what its result is made with."""
    # Another file under the same name makes another result.
    files = _files(tasks, options)

    def settings_of(task: Task, split: str, name: str) -> dict[str, Any]:
        row = rows.get(name)
        settings: dict[str, Any] = {"task": task.model_dump(mode="json"), "split": split}
        # So does other code.
        settings["version"] = TRIVIAL[name]().version if row is None else version_of(row)
        settings["files"] = {one: files[task.layout, one] for one in task.compounds[split].every}
        if row is not None:
            settings["row"] = row.model_dump(mode="json")
            if row.learned:
                settings |= {"budget": _budget(budget, options), "procedure": PROCEDURE}
            else:
                settings["weights"] = digest_of(find_operator(row.settings["operator"]))
        return json.loads(json.dumps(settings))

    return settings_of


def _budget(budget: Budget, options: Options) -> dict[str, Any]:
    told = budget.model_dump(mode="json")
    if budget.batch_size is None:
        del told["batch_size"]
    return told | {"of": options.machine}


def _files(tasks: Sequence[Task], options: Options) -> dict[tuple[str, str], str]:
    """Digests of the files that tasks read, by layout and molecule."""
    names = {(t.layout, n): None for t in tasks for c in t.compounds.values() for n in c.every}
    return {key: digest_of(find_file(*key, options.data)) for key in names}


def _device_name(options: Options) -> str:
    if options.device.startswith("cuda"):
        return torch.cuda.get_device_name(options.device)
    return options.machine


class _Bar:
    """A progress bar on a terminal; nothing in a log file."""

    def __init__(self, label: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(label, total=1.0)

    def __enter__(self) -> Callable[[float], None]:
        self._progress.start()
        return lambda share: self._progress.update(self._task, completed=min(share, 1.0))

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def tables_only(suite: Suite, rows: dict[str, Row], options: Options) -> Path:
    """Write the tables of what is there; see `run_suite`."""
    root = output_folder(suite, options)
    seeds: Sequence[int] = options.seeds or suite.seeds
    write_tables(root, suite, chosen_tasks(suite, options), rows, seeds)
    return root / "table.md"
