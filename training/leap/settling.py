"""What part of a leap's lag its settling stands for: torsions turn under strong friction, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ase_atom.operator import OperatorLike
from ase_atom.operator.leap.card import LeapCard
from ase_atom.propagation import Langevin, Propagator, roll_out
from ase_atom.propagation.leaps.asked import settling_ensemble, settling_stride
from training.leap.judge import Judge
from training.leap.measures import states
from training.leap.teacher import TeacherRun

LONGEST = 8
"""Frames of a run over which hops are looked at."""


def measured_settling(
    operator: OperatorLike,
    runs: Sequence[TeacherRun],
    card: LeapCard,
    count: int = 1024,
    seed: int = 0,
) -> float | None:
    """Time over which torsions change their states as often as in settling.

    Frames of the runs settle as samples of leaps do, and their hops are compared with those of the
    runs themselves over the same starts. Torsions count by how often they hop.

    Parameters
    ----------
    operator
        That settles.
    runs
        Its Langevin dynamics at the friction of the leaps.
    card
        Says how leaps settle.
    count
        Frames of each run that are settled.
    seed
        Of frames and noise.

    Returns
    -------
    In fs; None if nothing hops, as in molecules without torsions.
    """
    in_settling, in_time = 0.0, np.zeros(LONGEST + 1)
    for run in runs:
        judge = Judge(operator, run, count, seed)
        if not len(judge.coordinates.torsions):
            continue
        found = _states(judge, judge.x)
        for lag in range(1, LONGEST + 1):
            apart = min(lag, found.shape[1] - 1)
            in_time[lag] += (found[:, apart:] != found[:, :-apart]).mean((0, 1)).sum()
        in_settling += _hops(judge, card)
    if not in_settling or not in_time.any():
        return None
    times = np.arange(LONGEST + 1) * runs[0].interval
    return float(np.interp(in_settling, np.maximum.accumulate(in_time), times))


def _hops(judge: Judge, card: LeapCard) -> float:
    """Changes of torsional states in one settling, summed over torsions."""
    x = judge.drawn(1)
    stride = settling_stride(judge.operator)
    ensemble = settling_ensemble(Langevin(judge.run.temperature_K, judge.run.friction), card)
    time = card.settling_jumps * stride
    propagator = Propagator(
        judge.operator, judge.state(x, 1), ensemble, stride, time, seed=judge.seed, drop_broken=True
    )
    for _ in roll_out(propagator, time):
        pass
    after = propagator.state.positions.double().numpy()
    whole = np.isfinite(after).all((1, 2))
    changed = _states(judge, x[whole]) != _states(judge, after[whole])
    return float(changed.mean(0).sum())


def _states(judge: Judge, x: NDArray) -> NDArray:
    return states(judge.coordinates.angles(x))
