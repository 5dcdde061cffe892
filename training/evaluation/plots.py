"""Figures of an evaluation. Each function writes one PNG and touches no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray
from scipy.stats import chi2

# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = {
    "operator": "#0072B2",
    "operator, chained": "#56B4E9",
    "stay": "#999999",
    "ballistic": "#E69F00",
    "harmonic": "#009E73",
    "reference": "#D55E00",
}
_DOTS_PER_INCH = 130


def lag_plot(
    path: Path,
    direct: Mapping[str, Any],
    chained: Mapping[str, Any] | None = None,
    title: str = "",
) -> None:
    """Relative errors of positions and velocities against the lag, on logarithmic axes.

    Parameters
    ----------
    path
        PNG to write.
    direct, chained
        As `training.report.lag_section` makes them.
    title
        Above the panels.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    names = {
        "position": "RMS position error / RMS displacement",
        "velocity": "RMS velocity error / RMS velocity",
    }
    for axis, (kind, label) in zip(axes, names.items(), strict=True):
        for name, values in direct["predictors"].items():
            _error_line(axis, direct["lags_fs"], values, kind, name, marker="o")
        if chained:
            values = chained["predictors"]["operator"]
            name = f"operator, chained by {chained['stride_fs']:g} fs"
            _error_line(axis, chained["lags_fs"], values, kind, name, marker="s", dashed=True)
        axis.set(xscale="log", yscale="log", xlabel="lag / fs", ylabel=label)
        lags = sorted({*direct["lags_fs"], *(chained["lags_fs"] if chained else ())})
        axis.set_xticks(lags)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.tick_params(labelleft=True)
        axis.grid(which="both", alpha=0.25)
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    _write(figure, path)


def _error_line(
    axis: Axes,
    lags: Sequence[float],
    values: Mapping[str, Sequence[float | None]],
    kind: str,
    name: str,
    marker: str,
    dashed: bool = False,
) -> None:
    colour = _COLOURS["operator, chained" if dashed else name]
    middle, low, high = (
        np.array(values[f"{kind}{end}"], dtype=float) for end in ("", "_low", "_high")
    )
    style = "--" if dashed else "-"
    axis.plot(lags, middle, style, marker=marker, markersize=4, color=colour, label=name)
    axis.fill_between(lags, low, high, color=colour, alpha=0.2, linewidth=0)


def energy_plot(
    path: Path,
    times: NDArray,
    energies: NDArray,
    ylabel: str,
    title: str,
    reference: tuple[float, float] | None = None,
) -> None:
    """Energies of all replicas against time, with their mean.

    Parameters
    ----------
    path
        PNG to write.
    times
        ps, ``[n]``.
    energies
        ``[n, R]`` in the unit that ``ylabel`` names; NaN once a replica is broken.
    ylabel, title
        Labels.
    reference
        Mean and standard deviation of the reference engine's own run, drawn as a band.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(times, energies, color=_COLOURS["operator"], alpha=0.2, linewidth=0.8)
    there = np.isfinite(energies).any(1)
    mean = np.nanmean(energies[there], axis=1)
    axis.plot(times[there], mean, color="black", linewidth=1.8, label="mean of replicas")
    if reference is not None:
        level, spread = reference
        axis.axhline(level, color=_COLOURS["reference"], label="reference run, mean ± std")
        axis.axhspan(level - spread, level + spread, color=_COLOURS["reference"], alpha=0.15)
    axis.set(xlabel="time / ps", ylabel=ylabel, title=title)
    axis.title.set_fontsize(10)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)
    _write(figure, path)


def temperature_plot(
    path: Path, edges: NDArray, density: NDArray, dof: int, temperature: float, title: str
) -> None:
    """Histogram of single replicas' temperatures beside the canonical distribution.

    In the canonical ensemble N_f T_kin / T follows a chi-square distribution with N_f degrees of
    freedom, if N_f squared velocities are independent.

    Parameters
    ----------
    path
        PNG to write.
    edges, density
        Bin edges in K, ``[n + 1]``, and probability density in 1/K, ``[n]``.
    dof
        N_f.
    temperature
        Nominal T, K.
    title
        Above the panel.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.stairs(density, edges, fill=True, alpha=0.4, color=_COLOURS["operator"], label="operator")
    kelvin = np.linspace(edges[0], edges[-1], 800)
    expected = chi2.pdf(kelvin * dof / temperature, dof) * dof / temperature
    axis.plot(kelvin, expected, color="black", label=f"χ² with N_f = {dof} at {temperature:g} K")
    inside = np.flatnonzero((density > 1e-3 * density.max()) if density.any() else density)
    last = edges[inside[-1] + 1] if len(inside) else edges[-1]
    axis.set(
        xlabel="kinetic temperature / K",
        ylabel="probability density / K⁻¹",
        title=title,
        xlim=(0, max(last, 2.2 * temperature)),
    )
    axis.title.set_fontsize(10)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.25)
    _write(figure, path)


def bond_plot(
    path: Path,
    edges: NDArray,
    densities: Mapping[str, NDArray],
    reference: Mapping[str, NDArray] | None,
    title: str,
) -> None:
    """Length distribution of each class of bonds.

    Parameters
    ----------
    path
        PNG to write.
    edges
        Bin edges in Å, ``[n + 1]``.
    densities, reference
        Probability densities in 1/Å, ``[n]``, by the label of the class.
    title
        Above the panels.
    """
    columns = min(3, len(densities))
    rows = -(-len(densities) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.7 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis, (label, density) in zip(axes, densities.items(), strict=False):
        axis.stairs(
            density, edges, fill=True, alpha=0.4, color=_COLOURS["operator"], label="operator"
        )
        shown = density
        if reference is not None:
            axis.stairs(
                reference[label], edges, color=_COLOURS["reference"], linewidth=1.2,
                label="reference",
            )  # fmt: skip
            shown = density + reference[label]
        inside = np.flatnonzero(shown > 1e-3 * shown.max()) if shown.any() else np.array([0])
        axis.set_xlim(edges[inside[0]] - 0.02, edges[inside[-1] + 1] + 0.02)
        axis.set_title(label, fontsize=9)
        axis.tick_params(labelsize=8)
    for axis in axes[len(densities) :]:
        axis.set_visible(False)
    axes[0].legend(fontsize=8)
    figure.supxlabel("bond length / Å", fontsize=9)
    figure.supylabel("probability density / Å⁻¹", fontsize=9)
    figure.suptitle(title, fontsize=10)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_figure(path, dpi=_DOTS_PER_INCH)
