"""The audit's page: tables in Markdown, one figure, and all numbers as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

from ase_atom.units import PS
from training.auditing.canonical import LENGTH, WIDTH, BondsBeside, CanonicalRun
from training.auditing.errors import LOST, Correlation, is_lost, written
from training.auditing.report import Audit, Row
from training.evaluation.report import write_report
from training.evaluation.rollouts import Plan

_SIDES = [
    (side, across, up)
    for up in (3, -10, 12, -19)
    for side, across in (("left", 4), ("right", -4), ("center", 0))
]


def write_page(audit: Audit, folder: Path) -> None:
    """Write ``audit.md``, ``audit.png`` and ``audit.json`` to a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    _figure(audit, folder / "audit.png")
    write_report(_finite(_plain(audit)), folder / "audit.json")
    (folder / "audit.md").write_text(as_markdown(audit))


def as_markdown(audit: Audit) -> str:
    """The page as text."""
    lags = [f"{lag:g} fs" for lag in audit.lags]
    several = len(audit.rows) + len(audit.left_out)
    count = f"{len(audit.rows)} of {several} " if audit.left_out else f"{several} "
    lines = [
        f"# {audit.operator}: what it does with molecules that it has not seen",
        "",
        f"    {audit.command}",
        "",
        f"{count}{'compound' if several == 1 else 'compounds'}, {audit.training} in the training "
        "set, none of them among these. Errors are RMS position error over RMS displacement, with "
        "95 % intervals from resampled bursts.",
        "",
        f"Trained on {audit.theory}; the bursts are of {'; '.join(audit.theories)}.",
        *(line for warning in audit.warnings for line in ("", f"**Warning:** {warning}.")),
        *_left_out(audit.left_out),
        "",
        f"| compound | atoms | {' | '.join(lags)} |",
        f"|---|---|{'---|' * len(lags)}",
    ]
    for row in audit.rows:
        cells = [
            f"{written(e.value)} ({written(e.low)} to {written(e.high)})"
            if not is_lost(e.value)
            else written(e.value)
            for e in row.errors
        ]
        lines.append(f"| {row.name} | {row.atoms} | {' | '.join(cells)} |")
    for of_set in (*audit.sets(), None):
        medians = [f"**{written(value)}**" for value in audit.medians(of_set)]
        count = sum(row.set == of_set for row in audit.rows)
        label = "median" if of_set is None else f"median of {count}, {of_set}"
        lines.append(f"| **{label}** | | {' | '.join(medians)} |")
    if _anything_lost(audit):
        lines += [
            "",
            f"lost: an error above {LOST:g} times the displacement, or no number; the molecule has "
            "come apart. It ranks last in medians, and is left out of correlations and of "
            "comparisons with other operators.",
        ]
    lines += ["", "![Errors by compound, and against likeness](audit.png)", ""]
    lines += [
        "| compound | largest Tanimoto | mean | nearest | scaffold in training | "
        "embedding distance | groups never seen |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in audit.rows:
        like = row.likeness
        core = f"{like.shared_scaffold} with {like.scaffold}" if like.scaffold else "no ring"
        distance = "" if like.distance is None else f"{like.distance:.2f}"
        lines.append(
            f"| {row.name} | {like.largest:.2f} | {like.mean:.2f} | {like.nearest} | {core} | "
            f"{distance} | {', '.join(like.unseen_groups) or 'none'} |"
        )
    lines += ["", _correlations(audit)]
    if audit.others:
        lines += ["", _others(audit)]
    if audit.plan:
        lines += ["", _canonical(audit, audit.plan)]
    return "\n".join(lines) + "\n"


def _correlations(audit: Audit) -> str:
    lines = [
        "Rank correlation (Spearman) of the error with likeness, over compounds, with 95 % "
        "bootstrap intervals. Below zero for a similarity, or above for a distance: "
        "what is less like the training set is done worse.",
        "",
        f"| | {' | '.join(f'{lag:g} fs' for lag in audit.lags)} |",
        f"|---|{'---|' * len(audit.lags)}",
    ]
    for name, found in audit.correlations.items():
        lines.append(f"| {name} | {' | '.join(_written(one) for one in found)} |")
    return "\n".join(lines)


def _written(one: Correlation | None) -> str:
    if one is None or math.isnan(one.value):
        return "-"
    return f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})"


def _others(audit: Audit) -> str:
    lags = [f"{lag:g} fs" for lag in audit.lags]
    lines = [
        "Other operators on the same starts, median over compounds; ± is the standard deviation "
        f"over seeds, and in brackets is {audit.operator} on the same compounds.",
        "",
        f"| | compounds | seeds | {' | '.join(lags)} |",
        f"|---|---|---|{'---|' * len(lags)}",
    ]
    for other in audit.others:
        medians = np.array(other.medians)
        cells = [
            f"{_with_spread(medians[:, n])} ({written(audited)})"
            for n, audited in enumerate(other.audited)
        ]
        count = f"{len(other.errors)} of {len(audit.rows)}"
        lines.append(f"| {other.label} | {count} | {len(medians)} | {' | '.join(cells)} |")
    lines += [
        "",
        "Error of the second over that of the first, geometric mean over the compounds that both "
        "were measured on, with those on which the second errs less and the probability of "
        "Wilcoxon's signed-rank test.",
        "",
        f"| first | second | {' | '.join(lags)} |",
        f"|---|---|{'---|' * len(lags)}",
    ]
    for each in audit.comparisons:
        cells = [
            f"{p.ratio:.2f} ({p.better}/{p.compounds}, p {p.probability:.3f})"
            if p.compounds
            else "-"
            for p in each.pairs
        ]
        lines.append(f"| {each.first} | {each.second} | {' | '.join(cells)} |")
    for other in audit.others:
        if other.taught:
            count = f"{len(other.taught)} of these compounds"
            lines += [
                "",
                f"{other.label} was trained on {count}: on other bursts than these, or its row "
                "says nothing.",
            ]
    return "\n".join(lines)


def _canonical(audit: Audit, plan: Plan) -> str:
    runs = [(row.name, row.canonical, row.bonds) for row in audit.rows if row.canonical]
    total = sum(run.replicas for _, run, _ in runs)
    whole = sum(run.unbroken for _, run, _ in runs)
    times = sorted(run.time for _, run, _ in runs)
    until = (
        f" or longer, until the standard error is {plan.precision:g} K (median "
        f"{np.median(times):g} ps, at most {times[-1]:g} ps),"
        if plan.precision
        else ""
    )
    lines = [
        f"Langevin dynamics at {plan.temperature:g} K, friction {plan.friction * PS:g}/ps, "
        f"{plan.stride:g} fs jumps, {plan.duration / PS:g} ps{until} of each replica: {whole} of "
        f"{total} replicas unbroken. Temperatures are of all motion about the centre of mass, and "
        "of the atoms of the element that is farthest from it; bonds are those whose mean length, "
        "and whose width, is farthest from that of the reference engine's own runs.",
        "",
        "| compound | unbroken | temperature, K | element, K | mean length less the reference's, Å "
        "| width over the reference's |",
        "|---|---|---|---|---|---|",
    ]
    for name, run, bonds in runs:
        heat = _with_error(run.temperature, run.temperature_error, ".1f")
        cells = ["", ""]
        if bonds:
            off = _with_error(bonds.difference, bonds.difference_error, "+.4f")
            ratio = _with_error(bonds.ratio, bonds.ratio_error, ".2f")
            cells = [f"{bonds.bond} {off}", f"{bonds.width} {ratio}"]
        lines.append(
            f"| {name} | {run.unbroken}/{run.replicas} | {heat} | {_of_element(run)} | "
            f"{' | '.join(cells)} |"
        )
    for of_set in audit.sets():
        of_it = [row.canonical for row in audit.rows if row.set == of_set and row.canonical]
        if of_it:
            heats = [run.temperature for run in of_it if run.temperature is not None]
            far = max(heats, key=lambda heat: abs(heat - plan.temperature), default=None)
            lines += [
                "",
                f"Of {of_set}: {sum(run.unbroken for run in of_it)} of "
                f"{sum(run.replicas for run in of_it)} unbroken; "
                + ("no temperatures." if far is None else f"farthest temperature {far:.1f} K.")
                + _near_enough(of_it, plan.temperature),
            ]
    if found := [bonds for _, _, bonds in runs if bonds]:
        lines += ["", _bonds_beside(found)]
    for name, run, _ in runs:
        if run.reasons:
            lines += ["", f"{name}: {run.reasons[0]}"]
    return "\n".join(lines)


def _of_element(run: CanonicalRun) -> str:
    heat = _with_error(run.element_temperature, run.element_error, ".1f")
    return "" if run.element is None else f"{run.element} {heat}"


def _near_enough(runs: Sequence[CanonicalRun], nominal: float) -> str:
    """How many are within 5 K, and elements within 3 %, and two standard errors."""
    pairs = [
        (run.temperature, run.temperature_error, run.element_temperature, run.element_error)
        for run in runs
    ]
    known = [[np.nan if value is None else value for value in pair] for pair in pairs]
    heat, error, element, own = np.array(known).T
    error, own = np.nan_to_num(error), np.nan_to_num(own)  # of a single replica they are unknown
    near = np.sum(np.abs(heat - nominal) <= 5 + 2 * error)
    equal = np.sum(np.abs(element - nominal) <= 0.03 * nominal + 2 * own)
    return (
        f" Within 5 K and two standard errors: {near} of {len(runs)}; every element within 3 % and "
        f"two standard errors: {equal} of {len(runs)}."
    )


def _bonds_beside(found: Sequence[BondsBeside]) -> str:
    """Of how many classes of bonds means and widths are those of the reference, and all widths."""
    classes = sum(each.classes for each in found)
    ratios = [ratio for each in found for ratio in each.ratios]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return (
        f"Bonds beside the reference engine's runs, of {len(found)} of the compounds: mean lengths "
        f"of {sum(each.alike for each in found)} of {classes} kinds are within {LENGTH:g} Å, and "
        f"widths of {sum(each.as_wide for each in found)} within {WIDTH:.0%}, and two standard "
        f"errors. Widths are {middle:.3f} of the reference's (median; quartiles {low:.3f} and "
        f"{high:.3f})."
    )


def _with_error(value: float | None, error: float | None, form: str) -> str:
    """A number and its standard error, of which either may not be known."""
    if value is None:
        return "-"
    return f"{value:{form}}" + ("" if error is None else f" ± {error:{form.lstrip('+')}}")


def _with_spread(medians: NDArray) -> str:
    """Mean over seeds, with the standard deviation if there are several."""
    if len(medians) == 1 or is_lost(medians).any():
        return written(medians.max())
    return f"{medians.mean():.3f} ± {medians.std(ddof=1):.3f}"


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    if not reasons:
        return []
    return ["", "Left out:", "", *(f"- {name}: {reason}" for name, reason in reasons.items())]


def _anything_lost(audit: Audit) -> bool:
    own = [value for row in audit.rows for e in row.errors for value in (e.value, e.low, e.high)]
    theirs = [each for other in audit.others for errors in other.errors.values() for each in errors]
    return bool(is_lost([*own, *theirs]).any())


def _figure(audit: Audit, path: Path) -> None:
    figure, (bars, near, far) = plt.subplots(
        1, 3, figsize=(13, 4.2), width_ratios=[2, 1, 1], layout="constrained"
    )
    for n, lag in enumerate(audit.lags):
        shift = (n - (len(audit.lags) - 1) / 2) * 0.25
        places = [index + shift for index in range(len(audit.rows))]
        errors = [row.errors[n] for row in audit.rows]
        heights = [math.nan if is_lost(e.value) else e.value for e in errors]
        ends = [[math.nan if is_lost(end) else end for end in (e.low, e.high)] for e in errors]
        reach = [
            [max(0, value - low) for value, (low, _) in zip(heights, ends, strict=True)],
            [max(0, high - value) for value, (_, high) in zip(heights, ends, strict=True)],
        ]
        for place, value in zip(places, heights, strict=True):
            if math.isnan(value):
                bars.annotate("lost", (place, 0), fontsize=6, rotation=90, ha="center")
        bars.bar(places, heights, 0.25, yerr=reach, label=f"{lag:g} fs", capsize=2)
    bars.set_xticks(range(len(audit.rows)), [row.name for row in audit.rows], rotation=35)
    for label in bars.get_xticklabels():
        label.set_ha("right")
    bars.set_xlim(-0.6, len(audit.rows) - 0.4)
    bars.set_ylim(bottom=0)
    bars.set_ylabel("position error / displacement")
    bars.legend()
    middle = len(audit.lags) // 2
    _scatter(near, audit.rows, middle, "largest", "largest Tanimoto similarity")
    _scatter(far, audit.rows, middle, "distance", "embedding distance")
    near.set_ylabel(f"error at {audit.lags[middle]:g} fs")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _scatter(axes: plt.Axes, rows: Sequence[Row], lag: int, what: str, label: str) -> None:
    points = [(getattr(row.likeness, what), row.errors[lag].value, row.name) for row in rows]
    points = [point for point in points if point[0] is not None and not is_lost(point[1])]
    axes.scatter([p[0] for p in points], [p[1] for p in points])
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    _label(axes, points)
    axes.set_xlabel(label)


def _label(axes: plt.Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's name beside it, on the first side where nothing stands yet."""
    figure = axes.figure
    figure.canvas.draw()
    taken = [Bbox.from_bounds(*(axes.transData.transform((x, y)) - 4), 8, 8) for x, y, _ in points]
    for x, y, name in points:
        for side, across, up in _SIDES:
            text = axes.annotate(
                name, (x, y), fontsize=7, ha=side, xytext=(across, up), textcoords="offset points"
            )
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if (side, across, up) == _SIDES[-1] or (inside and not box.count_overlaps(taken)):
                break
            text.remove()
        taken.append(box)


def _finite(value: object) -> object:
    """The same with None for numbers that are not finite, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(audit: Audit) -> Mapping[str, object]:
    of_sets = {each: audit.medians(each) for each in audit.sets()}
    return asdict(audit) | {"medians": audit.medians(), "medians_of_sets": of_sets}
