"""The report: one page that needs no network, with pictures and tables beside it."""

from __future__ import annotations

import base64
import csv
import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line, Verdict, headlines
from ase_atom.analysis.outcome import Outcome
from ase_atom.analysis.report import figures, words
from ase_atom.analysis.report.scene import make_scene
from ase_atom.errors import ConfigError
from ase_atom.files import replace_text, replacing
from ase_atom.molecules.topology import formula
from ase_atom.units import format_time

PAGE = "report.html"
_COLUMNS = (
    *("section", "group", "name", "unit"),
    *("trajectory", "trajectory_error", "reference", "reference_error"),
    *("kind", "deviation", "deviation_error", "tolerance"),
    *("effective_samples", "p", "verdict", "note"),
)
_PROGRAMS = ("ase-atom", "numpy", "scipy", "rdkit", "ase", "matplotlib", "tblite", "pyscf", "torch")


def check_folder(folder: Path, overwrite: bool = False) -> None:
    """Refuse a folder that holds a report, or a file in its place.

    Raises
    ------
    ConfigError
        Before anything is written.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a folder for the report")
    if (folder / PAGE).exists() and not overwrite:
        raise ConfigError(f"{folder / PAGE} exists and is kept; --overwrite replaces it")
    above = Path(os.path.realpath(folder)).parent
    if not above.is_dir():
        raise ConfigError(f"the folder {above} of the report does not exist")


def write_report(
    comparison: Outcome, folder: Path, *, command: str = "", overwrite: bool = False
) -> Path:
    """Write ``report.html``, ``lines.csv``, ``comparison.json``, and plots as PNG and CSV.

    Parameters
    ----------
    comparison
        What to report.
    folder
        Made if it does not exist; its parent has to.
    command
        What made it, for the page.
    overwrite
        Replace a report that is there.

    Returns
    -------
    The page.

    Raises
    ------
    ConfigError
        If the folder cannot be used.
    """
    check_folder(folder, overwrite)
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    images = {}
    for plot in comparison.plots:
        images[plot.name] = figures.write_png(plot, plots / f"{plot.name}.png")
        figures.write_csv(plot, plots / f"{plot.name}.csv")
    _write_lines(comparison, folder / "lines.csv")
    plain = _plain(comparison, command)
    replace_text(folder / "comparison.json", json.dumps(plain, indent=1, ensure_ascii=False))
    page = folder / PAGE
    replace_text(page, _render(comparison, command, images))
    return page


def _render(comparison: Outcome, command: str, images: dict[str, str]) -> str:
    here = files("ase_atom.analysis.report")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((here / "template.html").read_text(encoding="utf-8"))
    scene = make_scene(comparison.trajectory, comparison.reference, comparison.coordinates)
    return template.render(
        title=f"{comparison.trajectory.short_name} beside {comparison.reference.short_name}",
        trajectory=comparison.trajectory,
        reference=comparison.reference,
        formula=formula(comparison.trajectory.numbers),
        in_words=words.in_words(comparison.lines, [one.name for one in comparison.findings]),
        settings=[words.settings(side) for side in (comparison.trajectory, comparison.reference)],
        counts=words.summary({v: comparison.count(v) for v in Verdict}),
        findings=comparison.findings,
        headlines=[
            {
                "section": row.section,
                "group": row.group,
                "verdict": row.verdict,
                "tally": words.tally(row),
                "worst": words.worst(row),
                "tolerance": words.tolerance(row.worst),
            }
            for row in headlines(comparison.lines)
        ],
        missing=comparison.missing,
        sections=[_section(comparison, name, images) for name in comparison.sections],
        lines=[_row(line) for line in comparison.worst()],
        data_rows=data_rows(comparison.trajectory, comparison.reference),
        notes=notes(comparison),
        command=command or "ase_atom.analysis.compare(...)",
        versions=_versions(),
        viewer=(here / "viewer.js").read_text(encoding="utf-8"),
        scene=json.dumps(scene).replace("</", "<\\/"),
        colours=figures.COLOURS,
        badge=_badge,
    )


def _badge(verdict: Verdict) -> Markup:
    return Markup('<span class="verdict {}">{}</span>').format(words.css(verdict), verdict)


def _section(comparison: Outcome, name: str, images: dict[str, str]) -> dict[str, Any]:
    plots = [plot for plot in comparison.plots if plot.section == name]
    return {
        "name": name,
        "remarks": [text for section, text in comparison.remarks if section == name],
        "facts": [(what, value) for section, what, value in comparison.facts if section == name],
        "plots": [
            {
                "name": plot.name,
                "title": plot.title,
                "caption": plot.caption,
                "hidden": max(0, len(plot.panels) - plot.shown),
                "image": base64.b64encode(images[plot.name].encode()).decode(),
            }
            for plot in plots
        ],
    }


def _row(line: Line) -> dict[str, Any]:
    return {
        "section": line.section,
        "name": line.name,
        "note": line.note,
        "trajectory": words.estimate(line.trajectory, line),
        "reference": words.estimate(line.reference, line),
        "deviation": words.deviation(line),
        "tolerance": words.tolerance(line),
        "samples": words.samples(line),
        "verdict": line.verdict,
        "css": words.css(line.verdict),
    }


def data_rows(ours: Trajectory, theirs: Trajectory) -> list[tuple[str, str, str]]:
    """What is known of either trajectory, row by row."""

    def describe(side: Trajectory) -> dict[str, str]:
        interval, duration = side.interval, side.duration
        return {
            "from": side.name,
            "frames": f"{side.frames} in {len(side.segments)} runs",
            "frame interval": "unknown" if interval is None else f"{interval:g} fs",
            "time simulated": "unknown" if duration is None else format_time(duration),
            "velocities": side.velocity_source or "none",
            "energies": "given" if side.has_energies else "none",
            **side.facts,
        }

    left, right = describe(ours), describe(theirs)
    return [(name, left.get(name, ""), right.get(name, "")) for name in {**left, **right}]


def notes(comparison: Outcome) -> list[str]:
    """Notes on both trajectories, as sentences that name them."""
    return [
        f"{side.name}: {note}"
        for side in (comparison.trajectory, comparison.reference)
        for note in side.notes
    ]


def _write_lines(comparison: Outcome, path: Path) -> None:
    with replacing(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for line in comparison.lines:
            theirs = line.reference
            writer.writerow(
                [
                    *(line.section, line.group, line.name, line.unit),
                    *(line.trajectory.value, line.trajectory.error),
                    *(("", "") if theirs is None else (theirs.value, theirs.error)),
                    *(line.kind, line.deviation, line.error, line.tolerance),
                    *(line.samples, line.p, line.verdict, line.note),
                ]
            )


def _plain(comparison: Outcome, command: str) -> dict[str, Any]:
    """Everything but plots, for programs."""
    return {
        "trajectory": comparison.trajectory.name,
        "reference": comparison.reference.name,
        "data": [list(row) for row in data_rows(comparison.trajectory, comparison.reference)],
        "notes": notes(comparison),
        "command": command,
        "versions": _versions(),
        "findings": [{"name": one.name, "text": one.text} for one in comparison.findings],
        "headlines": [
            {
                "section": row.section,
                "group": row.group,
                "verdict": str(row.verdict),
                "lines": words.tally(row),
                "worst": words.worst(row),
                "tolerance": words.tolerance(row.worst),
            }
            for row in headlines(comparison.lines)
        ],
        "facts": [list(fact) for fact in comparison.facts],
        "missing": [vars(one) for one in comparison.missing],
        "lines": [_row(line) for line in comparison.lines],
    }


def _versions() -> str:
    found = []
    for name in _PROGRAMS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"Python {platform.python_version()}, {', '.join(found)}; {now}"
