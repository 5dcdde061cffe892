"""One page of Markdown and one of JSON from the results of a suite."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml
from numpy.typing import NDArray

from ase_atom.errors import ConfigError
from ase_atom.files import replace_text
from training.benchmarks.results import Result, results_of
from training.benchmarks.samples import SPLITS
from training.benchmarks.significance import clusters_of, paired_test
from training.benchmarks.suites import CONFIGS, Row, Suite, Task
from training.benchmarks.trivial import TRIVIAL
from training.learning.config import differences, listed

UNIT = 100.0  # 1 Å² in the published unit of 10⁻² Å²
COLUMNS = [(metric, split) for metric in ("s2s", "s2t") for split in SPLITS]
SPLIT_NAMES = {
    False: {"random": "random frames", "blocks": "time blocks"},
    True: {"random": "random molecules", "blocks": "unlike molecules"},
}
"""By whether a task divides molecules rather than the frames of one."""

NOTE = (
    "Mean squared errors per atom and direction in 10⁻² Å², ± standard deviation over seeds where "
    "there are several: S2S of the last frame, S2T of all. *Random frames* is the published split, "
    "whose test windows overlap training windows; *time blocks* keeps at least Δ between them. "
    "Their test frames are not the same: compare rows within a column, and then how they rank in "
    "the next; a row that ranks better where windows overlap remembers. "
    "Best of each column in bold. Equivariance error: mean change of the prediction under random "
    "rotations over the mean displacement. Times are of one thread where the device is a processor."
)
DIVIDED = (
    "Where molecules are divided, training, validation and test have none in common: *random "
    "molecules* are divided at random, or as published; of *unlike molecules* no scaffold, or no "
    "compound under another number, stands on two sides."
)


def write_tables(
    root: Path, suite: Suite, tasks: Sequence[Task], rows: dict[str, Row], seeds: Sequence[int]
) -> None:
    """Write ``table.md`` and ``table.json`` of the results that are there.

    Tasks without all trivial rows under both splits are named and not printed.
    """
    pages, text = [], [f"# {suite.title}", "", NOTE, ""]
    if any(task.divided for task in tasks) and not suite.split_names:
        text += [DIVIDED, ""]
    for task in tasks:
        page = page_of(root, suite, task, rows, seeds)
        if page is None:
            text += [f"## {heading(task)}", "", "Not printed: trivial rows are missing.", ""]
            continue
        pages.append(page)
        text += markdown_of(page)
    replace_text(root / "table.md", "\n".join(text))
    told = json.dumps({"suite": suite.name, "unit": "1e-2 Å²", "tasks": pages}, indent=1)
    replace_text(root / "table.json", told)


def page_of(
    root: Path, suite: Suite, task: Task, rows: dict[str, Row], seeds: Sequence[int]
) -> dict[str, Any] | None:
    """What one table says, as plain data; None if a trivial row is missing."""
    found: dict[str, dict[str, list[Result]]] = {}
    for name in TRIVIAL:
        found[name] = {split: results_of(root, task, split, name, [0]) for split in SPLITS}
        if not all(found[name][split] for split in task.splits):
            return None
    for name in rows:
        several = seeds if rows[name].learned else [0]
        of_row = {split: results_of(root, task, split, name, several) for split in SPLITS}
        if any(of_row.values()):
            found[name] = of_row
    for split in task.splits:
        _check_alike(root, task, split, {name: found[name][split] for name in found})
    told = published(task)
    any_facts = found["stay"][task.splits[0]][0].facts
    page: dict[str, Any] = {
        "task": task.model_dump(mode="json"),
        "heading": heading(task),
        "splits": {split: split_name(suite, task, split) for split in SPLITS},
        "starts": {split: found["stay"][split][0].facts["starts"] for split in task.splits},
        "data": any_facts["data"],
        "public": any_facts["public"],
        "rows": {},
    }
    for name, of_row in found.items():
        entry: dict[str, Any] = {
            "label": rows[name].label or name if name in rows else name,
            "trivial": name in TRIVIAL,
            "published": told.get(name, {}),
        }
        for metric, split in COLUMNS:
            entry[f"{metric}_{split}"] = spread(of_row[split], metric)
        last = (of_row["blocks"] or of_row["random"])[-1].facts
        for key in ("parameters", "batch_ms", "single_ms", "device"):
            entry[key] = last.get(key)
        entry["choice"] = {
            split: of_row[split][0].facts["choice"]
            for split in SPLITS
            if of_row[split] and of_row[split][0].facts.get("choice")
        }
        every = [result.facts for split in SPLITS for result in of_row[split]]
        entry["equivariance"] = float(np.mean([facts["equivariance"] for facts in every]))
        for key in ("train_minutes", "steps"):
            values = [facts[key] for facts in every if key in facts]
            entry[key] = float(np.mean(values)) if values else None
        page["rows"][name] = entry
    _compare(page["rows"], found, task)
    return page


def _check_alike(root: Path, task: Task, split: str, results: dict[str, list[Result]]) -> None:
    """Refuse rows that were not measured on the same starts of the same files, by one budget.

    Raises
    ------
    ConfigError
        If there is one; says which, and in what it differs.
    """

    def refuse(name: str, why: str) -> NoReturn:
        raise ConfigError(
            f"{root / task.key}, {split}: {name} cannot stand in one table with the rows before "
            f"it: {why}; remove its folder, or keep it under another --output"
        )

    first, trained = results["stay"][0], None
    wanted = {"task": task.model_dump(mode="json"), "files": first.settings.get("files")}
    for name, of_row in results.items():
        for result in of_row:
            shared = {key: result.settings.get(key) for key in wanted}
            told = differences(wanted, shared)
            if "budget" in result.settings:
                trained = trained or result.settings
                told |= differences(
                    {"budget": trained["budget"]}, {"budget": result.settings["budget"]}
                )
            for key in ("row", "version"):
                told |= differences(
                    {key: of_row[0].settings.get(key)}, {key: result.settings.get(key)}
                )
            if told:
                refuse(name, listed(told))
            if not np.array_equal(result.starts, first.starts):
                refuse(name, "its test starts are others")


def spread(results: Sequence[Result], metric: str) -> dict[str, float] | None:
    """Mean and standard deviation over seeds of a metric, 10⁻² Å²; None without results."""
    values = [result.facts[metric] for result in results if result.facts[metric] is not None]
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) * UNIT if len(values) > 1 else None
    return {"mean": float(np.mean(values)) * UNIT, "std": deviation, "seeds": len(values)}


def published(task: Task) -> dict[str, dict[str, float]]:
    """Published numbers of a task's rows, 10⁻² Å²: only for the published horizon and atoms."""
    known = yaml.safe_load((CONFIGS / "published.yaml").read_text())
    hydrogens = task.atoms == "all"
    where = known.get(f"{task.layout}-hydrogens" if hydrogens else task.layout, {})
    same = task.delta == where.get("delta", task.delta)
    same = same and task.timesteps == where.get("timesteps", task.timesteps)
    if not same or (hydrogens and task.errors_of != "heavy"):
        return {}
    return where.get("molecules", {}).get(task.name, {})


def _compare(
    entries: dict[str, dict[str, Any]], found: dict[str, dict[str, list[Result]]], task: Task
) -> None:
    """Mark the best of each column, and add each row's p against the best other row."""
    for metric, split in COLUMNS:
        column = f"{metric}_{split}"
        errors = {
            name: np.mean([getattr(result, metric) for result in of_row[split]], axis=0)
            for name, of_row in found.items()
            if of_row[split] and getattr(of_row[split][0], metric) is not None
        }
        if not errors:
            continue
        means = {name: float(values.mean()) for name, values in errors.items()}
        order = sorted(means, key=means.__getitem__)
        some = found["stay"][split][0]
        clusters = clusters_of(some.starts, task.delta, some.molecule)
        for name in errors:
            other = next((one for one in order if one != name), None)
            entries[name][column]["best"] = name == order[0]
            if other is not None:
                entries[name][column]["against"] = other
                entries[name][column]["p"] = _p(errors[name], errors[other], clusters)


def _p(first: NDArray, second: NDArray, clusters: NDArray) -> float:
    return paired_test(first.astype(np.float64), second.astype(np.float64), clusters)


def split_name(suite: Suite, task: Task, split: str) -> str:
    """What a task's tables call a split."""
    return (SPLIT_NAMES[task.divided] | suite.split_names)[split]


def heading(task: Task) -> str:
    """Heading of a task's table."""
    atoms = "heavy atoms" if task.atoms == "heavy" else "all atoms"
    if task.atoms == "all" and task.errors_of == "heavy":
        atoms += ", errors of heavy atoms"
    return f"{task.name}, Δ = {task.delta} frames, P = {task.timesteps}, {atoms}"


def markdown_of(page: dict[str, Any]) -> list[str]:
    """Lines of one table, and of its significance tests."""
    compounds = page["task"]["compounds"]
    columns = [(metric, split) for metric, split in COLUMNS if split in compounds]
    heads = [f"{metric.upper()}, {page['splits'][split]}" for metric, split in columns]
    keys = [f"{metric}_{split}" for metric, split in columns]
    return [
        *_data_lines(page),
        *_error_lines(page, heads, keys),
        "",
        "p of a paired sign-flip test over stretches of time, against the other row of least "
        "error. It speaks of the test starts alone: of one seed it does not say what another "
        "training would give.",
        "",
        *_test_lines(page, heads, keys),
        "",
    ]


def _data_lines(page: dict[str, Any]) -> list[str]:
    """Heading, and what the rows were trained and tested on."""
    where = "Public files" if page["public"] else "Generated trajectories"
    counts, splits = page["starts"], page["splits"]
    starts = "; ".join(
        f"{splits[s]} {', '.join(map(str, of.values()))}" for s, of in counts.items()
    )
    lines = [
        f"## {page['heading']}",
        "",
        f"{where}. Training, validation and test starts: {starts}.",
    ]
    if len(counts) < len(page["task"]["compounds"]):
        lines += ["The trajectories leave no room for time blocks at this horizon."]
    return [*lines, ""]


def _error_lines(page: dict[str, Any], heads: list[str], keys: list[str]) -> list[str]:
    """The table itself, and what trivial rows chose."""
    more = (
        *("published S2S", "published S2T", "equivariance error", "parameters"),
        *("training, min", "steps", "ms a state, batch of 100", "alone"),
    )
    body = [
        [
            entry["label"],
            *(cell(entry[key]) for key in keys),
            number(entry["published"].get("s2s")),
            number(entry["published"].get("s2t")),
            number(entry["equivariance"]),
            f"{entry['parameters']:,}".replace(",", " ") if entry["parameters"] else "–",
            number(entry["train_minutes"], 3),
            "–" if entry["steps"] is None else f"{entry['steps']:.0f}",
            number(entry["batch_ms"], 2),
            number(entry["single_ms"], 2),
        ]
        for entry in page["rows"].values()
    ]
    lines = grid(["row", *heads, *more], body)
    notes = [
        f"*{entry['label']}*, {page['splits'][split]}: {choice}"
        for entry in page["rows"].values()
        for split, choice in entry["choice"].items()
    ]
    if notes:
        lines += ["", "Chosen on the validation samples: " + "; ".join(notes) + "."]
    return lines


def _test_lines(page: dict[str, Any], heads: list[str], keys: list[str]) -> list[str]:
    """The table of p, each with the row that it is against."""
    names = {name: entry["label"] for name, entry in page["rows"].items()}

    def told(value: dict[str, Any] | None) -> str:
        if not value or "p" not in value:
            return "–"
        return f"{number(value['p'], 2)} ({names[value['against']]})"

    rows = page["rows"].values()
    body = [[entry["label"], *(told(entry[key]) for key in keys)] for entry in rows]
    return grid(["row", *heads], body)


def cell(value: dict[str, Any] | None) -> str:
    """An error with its deviation, bold if it is the best of its column."""
    if value is None:
        return "–"
    text = number(value["mean"])
    if value["std"] is not None:
        text += f" ± {number(value['std'], 2)}"
    return f"**{text}**" if value.get("best") else text


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent while it is readable."""
    if value is None:
        return "–"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def grid(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    rule = "|" + "---|" * len(heads)
    return [f"| {' | '.join(row)} |" for row in (heads,)] + [
        rule,
        *(f"| {' | '.join(row)} |" for row in body),
    ]
