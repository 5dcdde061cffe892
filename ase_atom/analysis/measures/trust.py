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

    Runs with a tolerance note that of every jump, see `ase_atom.propagation.Adaptive`, others that
    of some.
    """
    runs = [
        run
        for run in pair.trajectory
        if run.times is not None and (run.strides is not None or run.expected_errors is not None)
    ]
    if not runs:
        return
    run = runs[0]
    divided = [each.strides for each in runs if each.strides is not None]
    if divided:
        by_forces = [np.mean(strides[np.isfinite(strides)] == 0) for strides in divided]
        section.facts.append(
            ("frames moved by a calculator's forces", f"{100 * float(np.mean(by_forces)):.3g} %")
        )
    shaded = () if run.strides is None else _stretches(run)
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
        shown = np.full(len(time), True)
        if run.strides is None:  # of few frames, to be joined by lines
            shown = np.isfinite(run.expected_errors)
        errors = 100 * run.expected_errors[shown]
        panels.append(_panel(time[shown], errors, "expected error / %", shaded))
    caption = (
        "The first run of the trajectory: temperature (of 3N - 3 degrees of freedom), potential "
        "energy from its mean, and the expected error of jumps where it was found out."
    )
    if run.strides is not None:
        caption += (
            " In coloured stretches a calculator's forces moved the molecule, and the error is "
            "that of the jump that was not made."
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
