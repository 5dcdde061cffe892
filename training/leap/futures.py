"""Tests of leaps beyond one sample: chains, two leaps for one, many futures of one start."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from ase_atom.propagation import Langevin, Propagator
from ase_atom.propagation.propagator import roll_out
from ase_atom.units import format_time
from training.leap.judge import Judge, Line
from training.leap.measures import mean_and_error, states, transitions
from training.leap.pairs import laid
from training.leap.samples import structure
from training.leap.teacher import STRIDE


def chain(judge: Judge, lag: float, leaps: int, replicas: int) -> Iterator[Line]:
    """Leap after leap: does anything drift?

    A slope is fitted to each replica by itself. Their mean has a 95 % interval by Student's t, as
    replicas are independent, whatever the memory from leap to leap. Replicas that are lost are left
    out, and counted.
    """
    propagator = judge.propagator(judge.drawn(1)[:replicas], lag, 3)
    ends = [frames.positions[:, -1].numpy() for frames in propagator.run(leaps * lag)][1:]
    assert propagator.leaping is not None
    tally = propagator.leaping.tally
    x = np.stack(ends, axis=1)  # [replicas, leaps, N, 3]
    x = x[np.isfinite(x).all((1, 2, 3))]
    energies = np.stack([judge.energy(each) for each in x])
    name = f"chain of {leaps} leaps of {format_time(lag)}, {replicas} replicas"
    for index, (i, j) in enumerate(judge.coordinates.bonds.tolist()):
        yield _slope(
            f"{name}: bond {judge.atoms.symbols[i]}{i}-{judge.atoms.symbols[j]}{j}",
            *(judge.coordinates.lengths(x)[..., index], "Å"),
        )
    yield _slope(f"{name}: energy", energies, "eV")
    angles = states(judge.coordinates.angles(x))
    of_run = states(judge.coordinates.angles(judge.x))
    for index, torsion in enumerate(judge.coordinates.torsions):
        which = "-".join(str(int(atom)) for atom in torsion)
        for state, place in enumerate(("trans", "gauche+", "gauche-")):
            label, value = _slope(
                f"{name}: torsion {which} {place}", angles[..., index] == state, "of all"
            )
            yield label, f"{value}, run {(of_run[..., index] == state).mean():.3f}"
    off = energies[:, leaps // 2 :].mean() - judge.energies.mean()
    yield (
        f"{name}: second half",
        f"energy {off / judge.unit / 2:+.3f} k_BT per degree of freedom off the run's; "
        f"{tally.drawn_again} of {tally.kept} drawn again, {len(propagator.broken)} lost",
    )


def _slope(name: str, values: NDArray, unit: str) -> Line:
    """Change over the whole chain of values ``[replicas, leaps]``, and their mean."""
    span = np.linspace(-0.5, 0.5, values.shape[1])
    each = (values * span).sum(1) / (span**2).sum()
    slope, error = mean_and_error(each)
    interval = float(student.ppf(0.975, len(each) - 1)) * error
    return name, f"mean {values.mean():.4f}, over the chain {slope:+.4f} ± {interval:.4f} {unit}"


def chapman_kolmogorov(judge: Judge, lag: float) -> Iterator[Line]:
    """One leap of twice a lag beside two of it."""
    x = judge.drawn(1)
    once = judge.leap(x, 2 * lag, seed=5).state.positions.numpy()
    twice = judge.leap(x, lag, times=2, seed=6).state.positions.numpy()
    before = states(judge.coordinates.angles(x))
    for index, torsion in enumerate(judge.coordinates.torsions):
        ends = [states(judge.coordinates.angles(each)[:, index]) for each in (once, twice)]
        one, two = (transitions(before[:, index], end) for end in ends)
        which = "-".join(str(int(atom)) for atom in torsion)
        yield (
            f"{format_time(2 * lag)} at once or in two: torsion {which}",
            f"total variation from gauche {0.5 * np.abs(one - two)[1].sum():.3f} ± "
            f"{np.sqrt(0.5 / len(x)):.3f}",
        )
    means = [judge.coordinates.lengths(each).mean(0) for each in (once, twice)]
    yield (
        f"{format_time(2 * lag)} at once or in two: bond means",
        f"{np.abs(means[0] - means[1]).max():.4f} Å apart at most",
    )


def diversity(judge: Judge, frames: int, starts: int = 8, copies: int = 32) -> Iterator[Line]:
    """Many futures of the same starts, by leaps and by the operator's own jumps.

    The spread is the standard deviation of positions over the futures of one start, laid on it.
    Their mean is what least squares would answer with: its bonds say how it is blurred.
    """
    lag = frames * judge.run.interval
    x = np.repeat(judge.drawn(frames)[:starts], copies, axis=0)
    leapt = judge.leap(x, lag, seed=21).state.positions.numpy()
    ensemble = Langevin(judge.run.temperature_K, judge.run.friction)
    jumping = Propagator(
        judge.operator, judge.state(x, 22), ensemble, STRIDE, lag, seed=23, drop_broken=True
    )
    for _ in roll_out(jumping, lag):
        pass
    spreads, blurred = [], 0.0
    for ends in (leapt, jumping.state.positions.numpy()):
        end = laid(x, ends, judge.run.masses.numpy())[1].reshape(starts, copies, *x.shape[1:])
        spreads.append(np.sqrt(end.var(1, ddof=1).mean((1, 2))))
        blurred = blurred or float(
            (
                judge.coordinates.lengths(end.mean(1)) / judge.coordinates.lengths(judge.x[0, 0])
            ).min()
        )
    ratio, error = mean_and_error(spreads[0] / spreads[1])
    yield (
        f"{format_time(lag)}: diversity",
        f"spread of {copies} futures of {starts} starts {spreads[0].mean():.3f} Å, "
        f"{ratio:.2f} ± {error:.2f} of that by jumps; the mean of the futures has bonds down to "
        f"{blurred:.2f} of their length",
    )


def baseline(judge: Judge) -> Iterator[Line]:
    """Starts whose torsions are drawn from the equilibrium's histograms, each by itself."""
    x = judge.drawn(1)
    rng = np.random.default_rng((judge.seed, 31))
    angles = judge.coordinates.angles(judge.flat)
    drawn = np.stack([rng.choice(column, len(x)) for column in angles.T], axis=1)
    yield from structure(judge, judge.coordinates.with_angles(x, drawn), "torsions at random")
