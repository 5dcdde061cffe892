"""Results on disk: a folder for each row, split and seed of a task."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ase_atom.errors import ConfigError, DataError
from ase_atom.files import replace_file, replace_text
from ase_atom.io.guard import reading
from ase_atom.io.npz import PlainArchive
from training.benchmarks.scoring import Score
from training.benchmarks.suites import Task
from training.data.md17 import save_arrays
from training.learning.config import differences, listed


@dataclass(frozen=True)
class Result:
    """One row of one table under one split, from one seed.

    Attributes
    ----------
    facts
        What is in ``result.json``.
    s2s, s2t
        Squared errors of each test start, Å², ``[S]``; ``s2t`` None for a model of the last frame.
    starts, molecule
        Test starts, ``[S]``.
    settings
        It was made with.
    """

    facts: dict[str, Any]
    s2s: NDArray
    s2t: NDArray | None
    starts: NDArray
    molecule: NDArray
    settings: dict[str, Any]


class Place:
    """Where the result of one row, split and seed lies, and its unfinished training.

    Parameters
    ----------
    root
        Folder of the suite's results.
    task, split, row, seed
        What it is the result of; trivial rows have seed 0.
    """

    def __init__(self, root: Path, task: Task, split: str, row: str, seed: int) -> None:
        self.root = root
        self.folder = root / task.key / split / row.replace(", ", "-").replace(" ", "-") / str(seed)
        self.name = f"{task.key}, {split}, {row}, seed {seed}"
        self.record = self.folder / "result.json"
        self.checkpoint = self.folder / "checkpoint.pt"

    def finished(self, settings: dict[str, Any]) -> bool:
        """Whether the result is there.

        Raises
        ------
        ConfigError
            If it is there and was made with other settings.
        """
        made_with = self.settings()
        if made_with is None:
            return False
        changed = differences(made_with, settings)
        if changed:
            raise ConfigError(
                f"{self.folder} holds a result made with other settings ({listed(changed)}): "
                "choose another --output, or remove it"
            )
        return self.record.exists()

    def settings(self) -> dict[str, Any] | None:
        """What the result here was made with, or is being made with; None if nothing is here."""
        marks = self.folder / "settings.json"
        return _read(marks) if marks.exists() else None

    def take_over(self, settings: dict[str, Any], roots: Iterable[Path]) -> bool:
        """Copy the same result from another suite's folder, where one of them has it.

        Suites overlap: Δ = 3000 frames of ``horizons`` is a row of ``md17``. A result counts as the
        same if it was made with the same settings.
        """
        own = self.folder.relative_to(self.root)
        for root in roots:
            other = root / own
            marks = other / "settings.json"
            if root == self.root or not (other / "result.json").exists() or not marks.exists():
                continue
            if differences(_read(marks), settings):
                continue
            self.begin(settings)
            for name in ("errors.npz", "result.json"):
                replace_file(self.folder / name, partial(shutil.copyfile, other / name))
            return True
        return False

    def begin(self, settings: dict[str, Any]) -> None:
        """Note the settings that an unfinished training was begun with."""
        text = json.dumps(settings, indent=1)
        replace_text(self.folder / "settings.json", text)

    def write(self, facts: dict[str, Any], score: Score, starts: Any, molecule: Any) -> None:
        """Keep a result; ``result.json`` comes last and marks it as finished."""
        arrays = {"s2s": score.s2s.numpy(), "starts": starts.numpy(), "molecule": molecule.numpy()}
        if score.s2t is not None:
            arrays["s2t"] = score.s2t.numpy()
        replace_file(self.folder / "errors.npz", partial(save_arrays, arrays))
        told = {
            "s2s": float(score.s2s.mean()),
            "s2t": None if score.s2t is None else float(score.s2t.mean()),
            "by_lag": score.by_lag,
            "equivariance": score.equivariance,
            "batch_ms": score.batch_ms,
            "single_ms": score.single_ms,
        }
        text = json.dumps(facts | told, indent=1)
        replace_text(self.record, text)

    def read(self) -> Result | None:
        """The result, or None if there is none yet.

        Raises
        ------
        DataError
            If it is damaged.
        """
        if not self.record.exists():
            return None
        with (
            reading(self.folder, DataError, what="is damaged", advice="remove it to redo it"),
            PlainArchive(self.folder / "errors.npz") as arrays,
        ):
            return Result(
                _read(self.record),
                arrays["s2s"],
                arrays.get("s2t"),
                arrays["starts"],
                arrays["molecule"],
                _read(self.folder / "settings.json"),
            )


def results_of(root: Path, task: Task, split: str, row: str, seeds: Iterator[int]) -> list[Result]:
    """Results of a row that are there, over its seeds."""
    found = [Place(root, task, split, row, seed).read() for seed in seeds]
    return [result for result in found if result is not None]


def seeds_of(root: Path, tasks: Iterable[Task], row: str) -> set[int]:
    """Seeds of a row's results that are there, under any split of any of the tasks."""
    places = [Place(root, task, split, row, 0) for task in tasks for split in task.splits]
    records = [path for place in places for path in place.folder.parent.glob("*/result.json")]
    return {int(path.parent.name) for path in records if path.parent.name.isdigit()}


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is damaged: remove {path.parent} to redo it") from error
