"""A suite's errors against the horizon, from its table."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from ase_atom.errors import ConfigError, DataError
from ase_atom.files import replace_file

_SHOWN = (0.1, 10.0)
"""Of ratios to the mean; rows far outside, such as free flight, leave the figure."""


def draw_horizons(table: Path, output: Path) -> None:
    """Draw S2S over that of *mean, aligned* against Δ, a panel for each molecule, split and P.

    Where a curve reaches one, its row knows no more than the mean structure.

    Parameters
    ----------
    table
        A ``table.json`` as `training.benchmarks.tables.write_tables` writes it.
    output
        Image to write, such as ``x.png``.

    Raises
    ------
    ConfigError
        For a kind of image that matplotlib does not write.
    DataError
        If there is no such table, it is damaged, or no molecule in it has two horizons.
    """
    from matplotlib.figure import Figure

    panels = _panels(table)
    count = len(panels)
    figure = Figure(figsize=(1.7 + 4.2 * min(count, 2), 3.6 * -(-count // 2)), layout="constrained")
    kind = kind_of_image(output)
    axes = figure.subplots(-(-count // 2), min(count, 2), sharey=True, squeeze=False).flat
    names = dict.fromkeys(
        name for pages in panels.values() for page in pages for name in page["rows"]
    )
    colours = {name: f"C{place}" for place, name in enumerate(names)}
    several = len({timesteps for _, timesteps, _ in panels}) > 1
    for panel, ((molecule, timesteps, split), pages) in zip(axes, panels.items(), strict=False):
        rows = {name: row for page in pages for name, row in page["rows"].items()}
        for name, row in rows.items():
            points = [point for page in pages if (point := _point(page, name, split))]
            style = {"ls": "-", "lw": 1.6, "marker": "o", "ms": 4, "color": colours[name]}
            if row["trivial"]:
                style |= {"ls": ":", "lw": 1.2, "marker": "."}
            if name != "mean, aligned" and points:
                panel.plot(*zip(*points, strict=True), label=row["label"], **style)
        panel.axhline(1, color="k", lw=0.8)
        panel.set(xscale="log", yscale="log", ylim=_SHOWN, xlabel="Δ, frames")
        title = f"{molecule}, {pages[0]['splits'][split]}"
        panel.set_title(title + several * f", P = {timesteps}", fontsize=10)
        panel.grid(alpha=0.3)
    for panel in list(figure.axes)[count:]:
        panel.remove()
    figure.axes[0].set_ylabel("S2S over that of the mean structure, aligned")
    handles = {}
    for panel in figure.axes:
        handles |= dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles, loc="outside right center", fontsize=9)
    replace_file(output, lambda path: figure.savefig(path, dpi=150, format=kind))


def kind_of_image(output: Path) -> str:
    """Return the kind of image that a file's ending stands for, such as ``png``.

    Raises
    ------
    ConfigError
        For a kind that matplotlib does not write.
    """
    from matplotlib.figure import Figure

    kind, known = output.suffix[1:].lower(), Figure().canvas.get_supported_filetypes()
    if kind not in known:
        raise ConfigError(f"{output}: figures end in {', '.join(sorted(known))}, not in .{kind}")
    return kind


def _panels(table: Path) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    """Pages by molecule, number of frames and split, of rising horizon."""
    try:
        pages = json.loads(table.read_text())["tasks"]
    except FileNotFoundError:
        raise DataError(
            f"{table} is not there: python -m training.benchmark run writes it"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{table} is no table: python -m training.benchmark run --table writes it anew"
        ) from None
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for page in sorted(pages, key=lambda page: page["task"]["delta"]):
        task = page["task"]
        for split in task["splits"]:
            found[task["name"], task["timesteps"], split].append(page)
    found = {key: some for key, some in found.items() if len(some) > 1}
    if not found:
        raise DataError(f"{table}: no molecule has results of two horizons to draw a curve through")
    return found


def _point(page: dict[str, Any], name: str, split: str) -> tuple[float, float] | None:
    cells = [page["rows"].get(row, {}).get(f"s2s_{split}") for row in (name, "mean, aligned")]
    if None in cells:
        return None
    return page["task"]["delta"], cells[0]["mean"] / cells[1]["mean"]
