"""Rows of one suite beside those of another, on the same test starts: zero-shot and single-task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ase_atom.errors import DataError
from training.benchmarks.results import Result, results_of
from training.benchmarks.significance import clusters_of, paired_test
from training.benchmarks.suites import Suite, Task, known_rows, load_rows
from training.benchmarks.tables import UNIT, grid, heading, number, split_name

_Where = tuple[Task, str, str]
"""Task, split and name of a row."""


@dataclass(frozen=True)
class Pair:
    """Two rows of one kind of model on the same starts.

    Attributes
    ----------
    task
        Heading of the table in which the first stands.
    first, second
        Their labels, each with its split.
    s2s, s2t
        Errors of the two in 10⁻² Å², means over seeds; None for a model of the last frame.
    p
        Of the difference of S2T, else of S2S, see `significance.paired_test`.
    """

    task: str
    first: str
    second: str
    s2s: tuple[float, float]
    s2t: tuple[float, float] | None
    p: float


def compare_suites(first: Suite, second: Suite, first_root: Path, second_root: Path) -> list[Pair]:
    """Pair rows of two suites that are made of one model, wherever both were measured.

    Tasks pair by name, horizon, number of frames and atoms; rows by the row of ``models.yaml`` that
    they are built on; splits by having the same starts of the same files in the test.

    Parameters
    ----------
    first, second
        Suites, such as ``folds`` and ``folds-runs``.
    first_root, second_root
        Folders of their results.

    Raises
    ------
    DataError
        If no result of one has its pair in the other, or one is damaged.
    """
    found = []
    for (task, split, name), (other, beside, match) in _candidates(first, second):
        mine = results_of(first_root, task, split, name, first.seeds)
        theirs = results_of(second_root, other, beside, match, second.seeds)
        tested = task.compounds[split].test, other.compounds[beside].test
        if mine and theirs and _same_test(mine[0], theirs[0], *tested):
            labels = _label(first, task, split, name), _label(second, other, beside, match)
            found.append(_pair(task, labels, mine, theirs))
    if not found:
        raise DataError(
            f"no result in {first_root} has its pair in {second_root}: run both suites on the same "
            "targets and horizons first"
        )
    return found


def as_markdown(pairs: list[Pair]) -> str:
    """The pairs as a table; the ratio is that of S2T where both have one, else of S2S."""
    heads = ["task", "row", "S2S", "S2T", "beside", "S2S", "S2T", "ratio", "p"]
    body = []
    for pair in pairs:
        s2t = pair.s2t or (None, None)
        decides = pair.s2t or pair.s2s
        body.append(
            [
                *(pair.task, pair.first, number(pair.s2s[0]), number(s2t[0])),
                *(pair.second, number(pair.s2s[1]), number(s2t[1])),
                *(f"{decides[0] / decides[1]:.2f}", number(pair.p, 2)),
            ]
        )
    return "\n".join(grid(heads, body))


def _candidates(first: Suite, second: Suite) -> Iterator[tuple[_Where, _Where]]:
    """Task, split and row of either suite that belong together, if their starts are the same."""
    others = {task.key: task for task in second.tasks()}
    for task in first.tasks():
        other = others.get(task.key)
        if other is None or (task.layout, task.errors_of) != (other.layout, other.errors_of):
            continue
        for split, name, beside, match in product(
            task.splits, first.rows, other.splits, second.rows
        ):
            if _origin(first, name) == _origin(second, match):
                yield (task, split, name), (other, beside, match)


def _same_test(
    first: Result, second: Result, names: tuple[str, ...], others: tuple[str, ...]
) -> bool:
    files = [
        [result.settings["files"][name] for name in those]
        for result, those in ((first, names), (second, others))
    ]
    return files[0] == files[1] and np.array_equal(first.starts, second.starts)


def _origin(suite: Suite, name: str) -> str:
    """The row that a row is built on, and that one on, to the last."""
    known = known_rows(suite)
    while (base := known[name].get("base")) is not None:
        name = base
    return name


def _label(suite: Suite, task: Task, split: str, name: str) -> str:
    row = load_rows(suite, [name])[name]
    return f"{row.label or name}, {split_name(suite, task, split)}"


def _pair(task: Task, labels: tuple[str, str], first: list[Result], second: list[Result]) -> Pair:
    def mean(metric: str) -> tuple[NDArray, NDArray] | None:
        sides = [[getattr(result, metric) for result in side] for side in (first, second)]
        if any(values is None for side in sides for values in side):
            return None
        return tuple(np.mean(side, axis=0, dtype=np.float64) for side in sides)

    s2s, s2t = mean("s2s"), mean("s2t")
    clusters = clusters_of(first[0].starts, task.delta, first[0].molecule)
    told = [
        None if side is None else tuple(UNIT * float(s.mean()) for s in side) for side in (s2s, s2t)
    ]
    return Pair(heading(task), *labels, *told, paired_test(*(s2t or s2s), clusters))
