"""Drawing plots: SVG for the page, PNG and CSV beside it."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ase_atom.analysis.plots import Curve, Mark, Panel, Plot
from ase_atom.files import replace_file, replacing

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = {
    "trajectory": "#0072B2",
    "reference": "#D55E00",
    "expected": "#444444",
    "difference": "#009E73",
}
_SHADE = "#F0E442"  # of the same palette
_DOTS_PER_INCH = 130
_MOST_POINTS = 800  # of a curve in a picture; its table has all
_APART = 0.014  # of the axis's length, between the names of neighbouring marks
_STYLE: Any = {  # matplotlib names all keys of such a dictionary in its type
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "legend.fontsize": 8,
    "svg.fonttype": "none",  # text stays text, at half the size
    "svg.hashsalt": "ase-atom",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(plot: Plot) -> Figure:
    """Draw a plot's panels in rows."""
    panels = plot.panels[: plot.shown]
    columns = min(plot.columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    with rc_context(_STYLE):
        height = {1: 3.6, 2: 3.2}.get(columns, 2.3)
        named = max((len(m.text) for p in panels for m in p.marks if m.along == "x"), default=0)
        figure = Figure(figsize=(10.5, height * rows + 0.05 * named), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw_panel(axis, panel)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        axes[0].legend(frameon=False)
    return figure


def _draw_panel(axis: Axes, panel: Panel) -> None:
    for curve in panel.curves:
        _draw_curve(axis, _thinned(curve, panel.log_x))
    for first, last in panel.shaded:
        axis.axvspan(first, last, color=_SHADE, alpha=0.35, lw=0, zorder=0)
    for mark in panel.marks:
        put = axis.axvline if mark.along == "x" else axis.axhline
        put(mark.value, color="#777777", linewidth=0.8, linestyle=":", zorder=0)
        if mark.along == "y":
            axis.text(
                0.99,
                mark.value,
                mark.text,
                transform=axis.get_yaxis_transform(),
                fontsize=7,
                ha="right",
                va="bottom",
                color="#555555",
            )
    _name_marks(axis, [mark for mark in panel.marks if mark.along == "x"])
    axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_x:
        axis.set_xscale("log")
    if panel.log_y:
        axis.set_yscale("log")
    if panel.ticks:
        axis.set_xticks(range(len(panel.ticks)), panel.ticks, rotation=90 * (len(panel.ticks) > 8))
    axis.grid(alpha=0.2)


def _name_marks(axis: Axes, marks: list[Mark]) -> None:
    """Write names above the axes, moved apart where marks are close, with lines to their places."""
    if not marks:
        return
    low, high = axis.get_xlim()
    axis.set_xlim(low, high)
    marks = sorted(marks, key=lambda mark: mark.value)
    places = np.array([(mark.value - low) / (high - low) for mark in marks])
    # Neighbours that would overlap move apart by as much to either side.
    for _ in range(500):
        short = _APART - np.diff(places)
        if (short <= 1e-6).all():
            break
        push = 0.5 * np.clip(short, 0.0, None)
        places[:-1] -= push
        places[1:] += push
    for mark, place in zip(marks, places, strict=True):
        axis.annotate(
            mark.text,
            (mark.value, 1.0),
            (place, 1.05),
            xycoords=axis.get_xaxis_transform(),
            textcoords="axes fraction",
            fontsize=7,
            rotation=90,
            ha="center",
            va="bottom",
            color="#555555",
            arrowprops={
                "arrowstyle": "-",
                "color": "#999999",
                "lw": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def _thinned(curve: Curve, log_x: bool) -> Curve:
    """A curve with no more points than a picture can show."""
    count = len(curve.x)
    if count <= _MOST_POINTS or curve.style != "line":
        return curve
    picks = np.linspace(0, count - 1, _MOST_POINTS)
    if log_x:
        picks = np.geomspace(1, count, _MOST_POINTS) - 1
    picks = np.unique(np.rint(picks).astype(int))
    bands = [None if end is None else end[picks] for end in (curve.low, curve.high)]
    return replace(curve, x=curve.x[picks], y=curve.y[picks], low=bands[0], high=bands[1])


def _draw_curve(axis: Axes, curve: Curve) -> None:
    colour = COLOURS[curve.role]
    dashed = "--" if curve.role == "expected" else "-"
    if curve.style == "points":
        bars = None
        if curve.low is not None:
            # A percentile interval need not hold the value itself.
            bars = np.clip([curve.y - curve.low, curve.high - curve.y], 0, None)
        shift = {"trajectory": 0.08, "reference": -0.08}.get(curve.role, 0.0)
        axis.errorbar(
            curve.x + shift,
            curve.y,
            bars,
            fmt="o",
            ms=3.5,
            lw=1,
            capsize=2,
            color=colour,
            label=curve.label,
        )
        return
    steps = curve.style == "steps"
    (drawn,) = axis.plot(curve.x, curve.y, dashed, color=colour, lw=1.2, label=curve.label)
    if steps:
        drawn.set_drawstyle("steps-mid")
    if curve.low is not None and curve.high is not None:
        step: Literal["mid"] | None = "mid" if steps else None
        axis.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, lw=0, step=step)


def write_png(plot: Plot, path: Path) -> str:
    """Write a plot as a PNG file, and return it as the text of an SVG file."""
    with rc_context(_STYLE):
        figure = draw(plot)
        FigureCanvasAgg(figure)
        replace_file(
            path, lambda scratch: figure.savefig(scratch, dpi=_DOTS_PER_INCH, format="png")
        )
        figure.set_layout_engine("none")  # laid out once is enough
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def write_csv(plot: Plot, path: Path) -> None:
    """Write every point of a plot, with the ends of its 95 % band where it has one."""
    with replacing(path) as scratch, scratch.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["panel", "curve", "x", "y", "low", "high"])
        for panel, curve, *values in plot.rows():
            shown = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
            writer.writerow([panel, curve, *shown])
