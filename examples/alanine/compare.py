"""Leaps of alanine dipeptide beside the dynamics that they learned from.

python examples/alanine/compare.py alanine-leaps.safetensors alanine.dcd --after 3.84

It needs deeptime (pip install deeptime) for VAMP-2 scores (Wu and Noé, J. Nonlinear Sci. 30, 23
(2020)).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from deeptime.decomposition import VAMP
from dynamics import FILES
from numpy.typing import NDArray
from openmm.app import AmberPrmtopFile, NoCutoff

from ase_atom import Langevin, OpenMMSteps, PhaseState, Propagator, load_leaps
from ase_atom.io import read_trajectory
from ase_atom.propagation import sample_velocities
from ase_atom.units import KB

KELVIN, FRICTION = 300.0, 0.01
PHI, PSI = (4, 6, 8, 14), (6, 8, 14, 16)
BINS = 12
STATES = ("C5", "C7eq", "other", "phi > 0")


def torsion(x: NDArray, atoms: tuple[int, ...]) -> NDArray:
    """Angles in rad of structures ``[..., N, 3]``."""
    a, b, c, d = (x[..., i, :] for i in atoms)
    axis = c - b
    one, two = np.cross(b - a, axis), np.cross(axis, d - c)
    unit = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    found: NDArray = np.arctan2((np.cross(one, two) * unit).sum(-1), (one * two).sum(-1))
    return found


def states(x: NDArray) -> NDArray:
    """0 for C5, 1 for C7eq, 2 for what is neither, 3 for φ > 0."""
    phi, psi = np.degrees(torsion(x, PHI)), np.degrees(torsion(x, PSI))
    found = np.full(phi.shape, 2)
    found[(psi > 110) | (psi < -150)] = 0
    found[(psi > 0) & (psi <= 110)] = 1
    found[(phi > 0) & (phi < 150)] = 3
    return found


def transitions(before: NDArray, after: NDArray) -> tuple[NDArray, NDArray]:
    """Probabilities between states, ``[4, 4]``, and their binomial errors."""
    counts = np.zeros((len(STATES), len(STATES)))
    np.add.at(counts, (before.ravel(), after.ravel()), 1.0)
    total = counts.sum(1, keepdims=True).clip(1)
    p = counts / total
    return p, np.sqrt(p * (1 - p) / total)


def implied(p: NDArray, lag: float, used: NDArray) -> NDArray:
    """Relaxation times of the states that are used, in the lag's unit."""
    values = np.sort(np.linalg.eigvals(p[np.ix_(used, used)]).real)[::-1][1:]
    return np.array([-lag / np.log(v) if 0 < v < 1 else 0.0 for v in values])


def free_energies(x: NDArray) -> NDArray:
    """Of bins of φ and ψ in k_B T, ``[12, 12]``, not a number where there is nothing."""
    edges = np.linspace(-np.pi, np.pi, BINS + 1)
    p = np.histogram2d(torsion(x, PHI).ravel(), torsion(x, PSI).ravel(), [edges, edges])[0]
    with np.errstate(divide="ignore"):
        f = -np.log(p / p.sum())
    f[~np.isfinite(f)] = np.nan
    found: NDArray = f
    return found


def features(x: NDArray) -> NDArray:
    """Sines and cosines of φ and ψ, and their products, ``[M, 8]``."""
    phi, psi = torsion(x, PHI), torsion(x, PSI)
    one, other = ((np.cos(angle), np.sin(angle)) for angle in (phi, psi))
    found: NDArray = np.stack([*one, *other, *(a * b for a in one for b in other)], axis=-1)
    return found


def koopman(before: NDArray, after: NDArray) -> Any:
    """VAMP model of the two slowest processes, from pairs of structures a lag apart."""
    return VAMP(dim=2).fit((features(before), features(after))).fetch_model()


def vamp2(x: NDArray, step: int, before: NDArray, after: NDArray) -> None:
    """Print VAMP-2 scores of a model of half the dynamics on the other half and on leaps.

    The scores of parts with as many pairs as there are leaps say what so many pairs determine.
    """
    half = len(x) // 2
    model = koopman(x[: half - step], x[step:half])
    rest = x[half:]
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(16):
        first = rng.integers(len(rest) - step, size=len(before))
        parts.append(model.score(2, test_model=koopman(rest[first], rest[first + step])))
    of_leaps = model.score(2, test_model=koopman(before, after))
    print(
        f"VAMP-2 of the model of half the dynamics: {model.score(2):.3f}; on as many pairs of the "
        f"other half as there are leaps {np.mean(parts):.3f} ± {np.std(parts, ddof=1):.3f}; on "
        f"leaps {of_leaps:.3f}"
    )


def main() -> None:
    """Leap from frames of the reference, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("leaps")
    parser.add_argument("reference", help="trajectory of dynamics.py")
    parser.add_argument("--after", type=float, default=0.0, help="ns that were learned from")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--lag", type=float, default=10.0, help="ps")
    asked = parser.parse_args()
    with read_trajectory(asked.reference) as reader:
        interval = reader.frame_interval()
        assert interval is not None
        first = round(asked.after * 1e6 / interval)
        x = np.concatenate([block.positions for block in reader.blocks(first)]).astype(float)
        atoms = reader.atoms
    lag = asked.lag * 1000.0
    step = round(lag / interval)
    chosen = np.linspace(0, len(x) - step - 1, asked.samples).astype(int)

    amber = AmberPrmtopFile(f"{FILES}.prmtop")
    system = amber.createSystem(nonbondedMethod=NoCutoff)
    operator = OpenMMSteps(system, 0.5, load_leaps(asked.leaps))
    starts = []
    for frame in x[chosen]:
        copy = atoms.copy()
        copy.positions = frame
        starts.append(copy)
    state = sample_velocities(
        PhaseState.from_atoms(starts), KELVIN, torch.Generator().manual_seed(1)
    )
    leaping = Propagator(
        operator, state, Langevin(KELVIN, FRICTION), stride=lag, seed=2, drop_broken=True
    )
    for _ in leaping.run(lag):
        pass
    ends = leaping.state.positions.double().numpy()
    whole = np.isfinite(ends).all((1, 2))
    assert leaping.leaping is not None
    tally = leaping.leaping.tally
    size = 0.5 * KB * KELVIN * (3 * len(atoms) - 6)
    print(f"{tally.drawn_again} of {tally.kept} drawn again, {len(leaping.broken)} lost")
    for name, total in (("drawn", tally.raw), ("settled", tally.settled)):
        above = (total / tally.kept - size) / size / 2
        print(f"energy {name}: {above:+.3f} k_BT per degree of freedom above harmonic vibrations")

    ours, spread = transitions(states(x[chosen[whole]]), states(ends[whole]))
    theirs, _ = transitions(states(x[:-step]), states(x[step:]))
    parts = np.array_split(x, 8)
    blocks = np.array([transitions(states(p[:-step]), states(p[step:]))[0] for p in parts])
    error = blocks.std(0, ddof=1) / np.sqrt(len(parts))
    print(f"{len(x) * interval / 1e6:.1f} ns of dynamics, in states", *np.bincount(states(x)))
    seen = sorted({*states(x).tolist(), *states(ends[whole]).tolist()})
    for i, one in ((i, STATES[i]) for i in seen):
        for j, other in ((j, STATES[j]) for j in seen):
            print(
                f"{one} to {other}: {ours[i, j]:.3f} ± {spread[i, j]:.3f} "
                f"(dynamics {theirs[i, j]:.3f} ± {error[i, j]:.3f})"
            )
    vamp2(x, step, x[chosen[whole]], ends[whole])
    often = np.bincount(states(x), minlength=len(STATES)) > 0.01 * len(x)
    for name, p in (("leaps", ours), ("dynamics", theirs)):
        print(f"implied times, {name}:", *(f"{t:.1f}" for t in implied(p, asked.lag, often)), "ps")
    f, g = free_energies(ends[whole]), free_energies(x)
    both = np.isfinite(f) & (g < np.nanmin(g) + 3.0)
    shift = (f - g)[both].mean()
    print(
        f"free energies of {both.sum()} bins up to 3 k_BT: RMS {(f - g - shift)[both].std():.2f} "
        f"k_BT apart; of as many frames of the dynamics {_by_chance(x, g, whole.sum()):.2f}"
    )


def _by_chance(x: NDArray, g: NDArray, count: int) -> float:
    """RMS difference of free energies from so many frames, at random, to those of all."""
    f = free_energies(x[np.random.default_rng(0).integers(len(x), size=count)])
    both = np.isfinite(f) & (g < np.nanmin(g) + 3.0)
    return float((f - g)[both].std())


if __name__ == "__main__":
    main()
