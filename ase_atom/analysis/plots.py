"""Plots as data: what to draw, apart from how, so that a picture and its table never differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ase_atom.analysis.lines import Line, Missing

Role = Literal["trajectory", "reference", "expected", "difference"]


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes
    ----------
    label
        For the legend.
    x, y
        ``[n]``; gaps are NaN.
    role
        Decides the colour.
    low, high
        95 % band about ``y``, or None.
    style
        ``line``, ``steps`` of a histogram whose bins are centred on ``x``, or ``points``.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    role: Role
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    style: Literal["line", "steps", "points"] = "line"


@dataclass(frozen=True)
class Mark:
    """A vertical or horizontal line in a panel, with a few words."""

    value: float
    text: str
    along: Literal["x", "y"] = "x"


@dataclass(frozen=True)
class Panel:
    """Axes with curves."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    log_x: bool = False
    log_y: bool = False
    ticks: tuple[str, ...] = ()
    shaded: tuple[tuple[float, float], ...] = ()
    """Stretches of x that are coloured; the caption says what they are."""


@dataclass(frozen=True)
class Plot:
    """A figure of one or more panels.

    Attributes
    ----------
    name
        Of its files, without an ending.
    section
        Of the report.
    title, caption
        For people.
    panels
        Drawn in rows, the first ones first; see ``shown``.
    shown
        How many panels the picture has; the table has all.
    columns
        Panels in a row.
    """

    name: str
    section: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    shown: int = 12
    columns: int = 3

    def rows(self) -> Iterator[tuple[str, str, float, float, float, float]]:
        """Yield panel, curve, x, y and the band's ends of every point, for a CSV file."""
        for panel in self.panels:
            for curve in panel.curves:
                low = np.full_like(curve.y, np.nan) if curve.low is None else curve.low
                high = np.full_like(curve.y, np.nan) if curve.high is None else curve.high
                for x, y, least, most in zip(curve.x, curve.y, low, high, strict=True):
                    yield panel.title, curve.label, float(x), float(y), float(least), float(most)


@dataclass
class Section:
    """What one part of the comparison found.

    Attributes
    ----------
    name
        Of the part.
    lines, missing
        Numbers with verdicts, and what could not be measured.
    plots
        Its figures.
    remarks
        How it was measured, sentences.
    facts
        Numbers without a verdict: what they are, and what they say.
    """

    name: str
    lines: list[Line] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
