"""Tests of single leaps: structure, energy, torsions and orientation of samples at a lag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_atom.operator.leap.rigid import turned
from ase_atom.propagation import torch_noise
from ase_atom.units import format_time
from training.leap.judge import Judge, Line
from training.leap.measures import (
    axes_after,
    divergence,
    implied_time,
    legendre,
    mean_and_error,
    states,
    transitions,
)


@dataclass(frozen=True)
class Structure:
    """Bonds, angles and energies of samples beside those of a run, each value with its error.

    Parameters
    ----------
    bond, angle
        Largest error of a mean, Å and degrees.
    widths, angle_widths
        Smallest and largest width of a bond or an angle over that of the run.
    energy
        Mean potential energy above that of the run, k_BT per degree of freedom.
    """

    bond: tuple[float, float]
    widths: tuple[float, float]
    angle: tuple[float, float]
    angle_widths: tuple[float, float]
    energy: tuple[float, float]

    @classmethod
    def of(cls, judge: Judge, x: NDArray) -> Structure:
        """Compare samples ``[M, N, 3]`` with frames of the run."""
        bond, widths = _compared(*(judge.coordinates.lengths(each) for each in (x, judge.flat)))
        angle, others = _compared(*(judge.coordinates.valence(each) for each in (x, judge.flat)))
        excess = (judge.energy(x) - judge.energies.mean()) / judge.unit / 2
        energy = float(excess.mean()), float(excess.std() / np.sqrt(len(excess)))
        return cls(bond, widths, angle, others, energy)


def _compared(ours: NDArray, theirs: NDArray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Largest error of a mean with its standard error, and least and largest ratio of widths."""
    off = np.abs(ours.mean(0) - theirs.mean(0)).max()
    ratio = ours.std(0) / theirs.std(0)
    error = theirs.std(0).max() / np.sqrt(len(ours))
    return (float(off), float(error)), (float(ratio.min()), float(ratio.max()))


def structure(judge: Judge, x: NDArray, name: str) -> Iterator[Line]:
    """Bonds, angles and energies of samples beside those of the run."""
    found = Structure.of(judge, x)
    (bond, error), (low, high) = found.bond, found.widths
    yield (
        f"{name}: bonds",
        f"largest error of a mean {bond:.4f} ± {error:.4f} Å, widths {low:.2f} to {high:.2f} of "
        "the run's",
    )
    (angle, error), (low, high) = found.angle, found.angle_widths
    yield (
        f"{name}: angles",
        f"largest error of a mean {angle:.2f} ± {error:.2f} degrees, widths {low:.2f} to "
        f"{high:.2f} of the run's",
    )
    energy, error = found.energy
    yield f"{name}: energy", f"{energy:+.3f} ± {error:.3f} k_BT per degree of freedom"


def at(
    judge: Judge, frames: int, calculator: Calculator | None = None, points: int = 128
) -> Iterator[Line]:
    """Samples of one leap of so many of the run's frames."""
    lag = frames * judge.run.interval
    x = judge.drawn(frames)
    made = judge.leap(x, lag)
    assert made.leaping is not None
    tally, after = made.leaping.tally, made.state.positions.numpy()
    name = format_time(lag)
    raw = (tally.raw - tally.settled) / max(tally.kept, 1) / judge.unit / 2
    yield from structure(judge, after, name)
    yield f"{name}: energy as drawn", f"{raw:+.3f} k_BT per degree of freedom above settled"
    yield (
        f"{name}: drawn again",
        f"{tally.drawn_again} of {tally.kept}; {len(made.broken)} lost",
    )
    if calculator is not None:
        yield from by_calculator(judge, after, name, calculator, points)
    yield from torsions(judge, x, after, frames, name)


def by_calculator(
    judge: Judge, x: NDArray, name: str, calculator: Calculator, points: int
) -> Iterator[Line]:
    """Energies of samples and of the run's frames by the teacher's teacher."""
    rng = np.random.default_rng(judge.seed)
    atoms = judge.atoms.copy()
    atoms.calc = calculator
    found = []
    for structures in (x, judge.flat):
        chosen = structures[rng.permutation(len(structures))[:points]]
        energies = []
        for positions in chosen:
            atoms.positions = positions
            energies.append(atoms.get_potential_energy())
        found.append(np.array(energies) / judge.unit / 2)
    excess = found[0].mean() - found[1].mean()
    error = np.sqrt(sum(each.var() / len(each) for each in found))
    yield (
        f"{name}: energy by {type(calculator).__name__}",
        f"{excess:+.3f} ± {error:.3f} k_BT per degree of freedom above the run's own",
    )


def torsions(judge: Judge, x: NDArray, after: NDArray, frames: int, name: str) -> Iterator[Line]:
    """Transitions between torsional states, implied times and distributions of angles."""
    before, then = judge.coordinates.angles(x), judge.coordinates.angles(after)
    everything = states(judge.coordinates.angles(judge.x))
    lag = frames * judge.run.interval / 1000.0
    for index, torsion in enumerate(judge.coordinates.torsions):
        which = f"{name}: torsion {'-'.join(str(int(atom)) for atom in torsion)}"
        ours = transitions(states(before[:, index]), states(then[:, index]))
        replicas = [transitions(each[:-frames, index], each[frames:, index]) for each in everything]
        theirs = transitions(everything[:, :-frames, index], everything[:, frames:, index])
        spread = mean_and_error(replicas)[1]
        flat = states(judge.coordinates.angles(judge.flat)[:, index])
        drawn = np.array([(flat == state).mean() for state in range(3)])
        drawn[1:] = drawn[1:].mean()
        stays, crosses, trans = (
            f"{ours[1, end]:.3f} (run {theirs[1, end]:.3f} ± {spread[1, end]:.3f})"
            for end in (1, 2, 0)
        )
        yield (
            which,
            f"from gauche: stays {stays}, crosses {crosses}, to trans {trans}; torsions drawn at "
            f"random: {drawn[1]:.3f}, {drawn[2]:.3f}, {drawn[0]:.3f}",
        )
        hops = [
            float((one != other).mean())
            for one, other in (
                (states(before[:, index]), states(then[:, index])),
                (everything[:, :-frames, index], everything[:, frames:, index]),
            )
        ]
        times = [implied_time(each, lag) for each in (ours, theirs)]
        far = divergence(then[:, index], judge.coordinates.angles(judge.flat)[:, index])
        yield (
            f"{which}, in all",
            f"hops {hops[0]:.3f} (run {hops[1]:.3f}), implied time {times[0]:.2f} (run "
            f"{times[1]:.2f}) ps, divergence {far:.4f} nat",
        )


def orientation(judge: Judge, frames: int, count: int = 2000) -> Iterator[Line]:
    """Correlation of the principal axes over a lag, beside rigid-body dynamics."""
    lag = frames * judge.run.interval
    rng = np.random.default_rng(judge.seed)
    replica = rng.integers(len(judge.x), size=count)
    first = rng.integers(judge.x.shape[1] - frames, size=count)
    start, end = judge.x[replica, first], judge.x[replica, first + frames]
    theirs = axes_after(start, end, judge.run.masses.numpy())
    state = judge.state(start, 11)
    kelvin, friction = judge.run.temperature_K, judge.run.friction
    rotation = turned(state, lag, kelvin, friction, torch_noise(12)).numpy()
    moved = np.einsum("bxy,bny->bnx", rotation, start - start.mean(1, keepdims=True))
    ours = axes_after(start, moved, judge.run.masses.numpy())
    for name, one, other in zip("12", legendre(ours), legendre(theirs), strict=True):
        error = np.hypot(one.std(0), other.std(0)) / np.sqrt(count)
        pairs = ", ".join(
            f"{a:.3f} ({b:.3f} ± {e:.3f})"
            for a, b, e in zip(one.mean(0), other.mean(0), error, strict=True)
        )
        yield f"{format_time(lag)}: orientation, l = {name}", f"three axes: {pairs}"
