"""What was expected of the jumps that frames lie on, beside temperature and energy."""

from __future__ import annotations

import numpy as np

from ase_atom.analysis.inputs.trajectory import Segment
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.plots import Curve, Panel, Plot, Section
from ase_atom.units import AMU_A2_FS2_IN_EV, KB, PS

_LABEL = "time / ps"


def add_expected_errors(pair: Pair, section: Section) -> None:
    """Add the course of the expected error in the trajectory's first run, where it has one.

    Runs with a tolerance note it, see `ase_atom.propagation.Adaptive`.
    """
    runs = [run for run in pair.trajectory if run.strides is not None and run.times is not None]
    if not runs:
        return
    run = runs[0]
    by_forces = [np.mean(each.strides[np.isfinite(each.strides)] == 0) for each in runs]
    section.facts.append(
        ("frames moved by a calculator's forces", f"{100 * float(np.mean(by_forces)):.3g} %")
    )
    shaded = _stretches(run)
    time = run.known_times / PS
    panels = []
    if run.velocities is not None:
        half = 0.5 * AMU_A2_FS2_IN_EV * pair.trajectory.masses
        kinetic = np.einsum("n,tnx,tnx->t", half, run.velocities, run.velocities)
        kelvin = 2 * kinetic / (KB * (3 * len(pair.trajectory.masses) - 3))
        panels.append(_panel(time, kelvin, "temperature / K", shaded))
    if run.energies is not None:
        energies = run.energies - run.energies.mean()
        panels.append(_panel(time, energies, "potential energy / eV", shaded))
    if run.expected_errors is not None:
        panels.append(_panel(time, 100 * run.expected_errors, "expected error / %", shaded))
    caption = (
        "The first run of the trajectory: temperature (of 3N - 3 degrees of freedom), potential "
        "energy from its mean, and the expected error of the jump that each frame lies on. In "
        "coloured stretches a calculator's forces moved the molecule, and the error is that of the "
        "jump that was not made."
    )
    section.plots.append(
        Plot("expected-error", section.name, "Expected error", caption, tuple(panels), columns=1)
    )


def _panel(
    time: np.ndarray, values: np.ndarray, label: str, shaded: tuple[tuple[float, float], ...]
) -> Panel:
    curve = Curve("trajectory", time, values, "trajectory")
    return Panel(label.partition(" /")[0], _LABEL, label, (curve,), shaded=shaded)


def _stretches(run: Segment) -> tuple[tuple[float, float], ...]:
    """Return begin and end in ps of stretches that forces moved, each from the frame before."""
    assert run.strides is not None
    time = run.known_times / PS
    forced = np.concatenate([[False], run.strides == 0, [False]])
    begins = np.flatnonzero(forced[1:] & ~forced[:-1])
    ends = np.flatnonzero(forced[:-1] & ~forced[1:]) - 1
    return tuple(
        (float(time[max(first - 1, 0)]), float(time[last]))
        for first, last in zip(begins, ends, strict=True)
    )
