"""What isolated molecules keep: the motion of the centre of mass, and the momenta."""

from __future__ import annotations

import math

import numpy as np

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Missing
from ase_atom.analysis.measures.motion import Motion
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.plots import Curve, Panel, Plot, Section
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

_TOLERANCE = 0.05  # of what is thermal
_EXCHANGED = 0.2  # a quantity that changes by more of what is thermal is not conserved
_MOST_POINTS = 2000


def compare_conservation(
    pair: Pair,
    motions: tuple[list[Motion], list[Motion]] | None,
    ensembles: tuple[str, str],
) -> Section:
    """Compare drifts and momenta; of positions alone where there are no velocities.

    Parameters
    ----------
    pair
        The two trajectories.
    motions
        Of the runs of either.
    ensembles
        ``nve``, ``canonical`` or empty, of either.
    """
    section = Section("conservation")
    total = pair.reference.masses.sum()
    # The root-mean-square speed that the whole molecule has in equilibrium.
    speed = math.sqrt(3 * KB * pair.temperature / (AMU_A2_FS2_IN_EV * total))
    _drift(pair, speed, section)
    if motions is None:
        section.missing.append(
            Missing("conservation", "linear and angular momentum", "there are no velocities")
        )
        return section
    section.lines.append(
        pair.mean_line(
            ("conservation", "centre of mass"),
            "speed of the centre of mass, from velocities",
            "of thermal",
            *([np.linalg.norm(m.drift, axis=1) / speed for m in side] for side in motions),
            _TOLERANCE,
        )
    )
    linear = [[m.drift / speed for m in side] for side in motions]
    angular = [
        [
            m.angular_momentum
            / np.sqrt(KB * pair.temperature / AMU_A2_FS2_IN_EV * m.thermal_momentum.mean())
            for m in side
        ]
        for side in motions
    ]
    for name, parts in (("linear momentum", linear), ("angular momentum", angular)):
        _momentum(pair, name, parts, ensembles, section)
    return section


def _drift(pair: Pair, speed: float, section: Section) -> None:
    """Add the motion of the centre of mass as positions have it."""
    if pair.trajectory.interval is None or pair.reference.interval is None:
        section.missing.append(
            Missing("conservation", "motion of the centre of mass", "times are unknown")
        )
        return
    drifts = [[speeds / speed for speeds in _walks(side)] for side in pair.sides]
    section.lines.append(
        pair.mean_line(
            ("conservation", "centre of mass"),
            "speed of the centre of mass, from positions",
            "of thermal",
            *drifts,
            _TOLERANCE,
            note=f"the thermal speed is {1000 * speed:.3g} Å/ps at {pair.temperature:.0f} K",
        )
    )
    section.plots.append(_path_plot(pair))


def _momentum(
    pair: Pair,
    name: str,
    parts: list[list[np.ndarray]],
    ensembles: tuple[str, str],
    section: Section,
) -> None:
    """Add how far a momentum, in units of the thermal one, leaves its value at the start."""
    changes = [[np.linalg.norm(run - run[0], axis=1) for run in side] for side in parts]
    reason = ""
    if np.concatenate(changes[1]).mean() > _EXCHANGED:
        reason = "the reference itself does not conserve it: a thermostat exchanges it"
    elif ensembles[0] == "canonical" and ensembles[1] == "nve":
        reason = "the trajectory has a thermostat, which exchanges it, and the reference none"
    if reason:
        section.missing.append(Missing("conservation", f"conservation of {name}", reason))
        return
    section.lines.append(
        pair.mean_line(
            ("conservation", name),
            f"change of {name} within runs",
            "of thermal",
            *changes,
            _TOLERANCE,
        )
    )


def centre_paths(trajectory: Trajectory) -> list[np.ndarray]:
    """Positions of the centre of mass of each run, from its start, Å, ``[T, 3]``."""
    weights = trajectory.masses / trajectory.masses.sum()
    paths = [np.einsum("n,tnx->tx", weights, run.positions) for run in trajectory]
    return [path - path[0] for path in paths]


def _walks(trajectory: Trajectory) -> list[np.ndarray]:
    """Speed of the centre of mass over a tenth of each run, Å/fs."""
    out = []
    for path in centre_paths(trajectory):
        lag = max(1, len(path) // 10)
        moved = np.linalg.norm(path[lag:] - path[:-lag], axis=1) / (lag * trajectory.interval)
        out.append(moved if len(moved) else np.zeros(1))
    return out


def _path_plot(pair: Pair) -> Plot:
    drawn = []
    for role, side in zip(("reference", "trajectory"), reversed(pair.sides), strict=True):
        paths = [np.linalg.norm(path, axis=1) for path in centre_paths(side)]
        count = min(len(path) for path in paths)
        stack = np.stack([path[:count] for path in paths])
        frames = np.unique(np.linspace(0, count - 1, _MOST_POINTS).astype(int))
        some = stack[:, frames]
        values = some.mean(0)
        several = len(some) > 1
        reach = 1.96 * some.std(0, ddof=1) / math.sqrt(len(some)) if several else 0.0 * values
        times = frames * side.interval / 1000
        drawn.append(Curve(role, times, values, role, values - reach, values + reach))
    panel = Panel("", "time / ps", "distance from the start / Å", tuple(drawn))
    return Plot(
        "centre-of-mass",
        "conservation",
        "Centre of mass",
        "How far the centre of mass is from where each run starts, mean over runs with 95 % "
        "intervals.",
        (panel,),
        columns=1,
    )
