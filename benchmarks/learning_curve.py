"""Validation errors by set of a table against steps of a training.

    python benchmarks/learning_curve.py RUN [BRANCH ...] --table training/data/general.csv

RUN is a training's folder and BRANCH that of ``--decay``, whose steps take the place of those of
the folders before it. Medians over the compounds of each set are printed as Markdown and drawn.
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import typer

mpl.use("Agg")
import matplotlib.pyplot as plt

TRAINED = "compounds in training"
"""Held-out bursts of compounds that are in training: a row of their own."""

Curve = dict[int, dict[str, float]]
"""Median error of each set by step."""


def read_sets(table: Path) -> dict[str, str]:
    """Set of each compound of a table by the compound's name."""
    with table.open(newline="") as file:
        return {row["name"]: row["set"] for row in csv.DictReader(file)}


def read_curve(folders: Sequence[Path], sets: Mapping[str, str], metric: str) -> Curve:
    """Medians of a metric, such as ``position_16fs``, by set at each step that has them.

    Raises
    ------
    typer.BadParameter
        If a folder has no log, or no log has the metric.
    """
    curve: Curve = {}
    for folder in folders:
        log = folder / "metrics.csv"
        if not log.is_file():
            raise typer.BadParameter(f"{folder} holds no metrics.csv: name a training's folder")
        with log.open(newline="") as file:
            rows = {int(row["step"]) + 1: row for row in csv.DictReader(file) if _has(row, metric)}
        found = {step: _medians(row, sets, metric) for step, row in rows.items()}
        curve = {step: row for step, row in curve.items() if step < min(found, default=step + 1)}
        curve |= found
    if not curve:
        raise typer.BadParameter(f"no validation of {metric} in {', '.join(map(str, folders))}")
    return dict(sorted(curve.items()))


def _has(row: Mapping[str, str], metric: str) -> bool:
    return any(value and column.endswith(f"/{metric}") for column, value in row.items())


def _medians(row: Mapping[str, str], sets: Mapping[str, str], metric: str) -> dict[str, float]:
    found = defaultdict(list)
    for column, value in row.items():
        place, _, rest = column.partition("/")
        compound, _, name = rest.rpartition("/")
        if place == "compounds" and name == metric and value:
            found[sets.get(compound, "of no set")].append(float(value))
    medians = {name: statistics.median(values) for name, values in sorted(found.items())}
    trained = row.get(f"validation/{metric}")  # none where no burst of theirs is held out
    return {TRAINED: float(trained), **medians} if trained else medians


def as_markdown(curve: Curve) -> str:
    """One row a step and one column a set."""
    names = list(dict.fromkeys(name for row in curve.values() for name in row))
    lines = [f"| step | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    for step, row in curve.items():
        cells = (f"{row[name]:.3f}" if name in row else "" for name in names)
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(curve: Curve, metric: str, path: Path) -> None:
    """Both axes logarithmic: a power law is a straight line."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name in dict.fromkeys(name for row in curve.values() for name in row):
        points = [(step, row[name]) for step, row in curve.items() if name in row]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel=f"{metric}, median over compounds")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize=7)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(
    folders: Annotated[list[Path], typer.Argument(help="A training, and its branches.")],
    table: Annotated[Path, typer.Option(help="Compounds: CSV with the columns name and set.")],
    metric: Annotated[str, typer.Option(help="As the log names it.")] = "position_16fs",
    output: Annotated[Path | None, typer.Option("-o", help="Draw the curve to this PNG.")] = None,
) -> None:
    """Print the medians, and draw them if asked to."""
    curve = read_curve(folders, read_sets(table), metric)
    print(as_markdown(curve))
    if output is not None:
        draw(curve, metric, output)


if __name__ == "__main__":
    typer.run(main)
