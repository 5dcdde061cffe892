"""Populations of torsional states: ``python -m benchmarks.populations OPERATOR RUN``.

Those of the operator and of its teacher. Frames of a run, weighted by exp(-β (V_teacher -
V_operator)), are samples of the teacher's own equilibrium: what the operator errs in energy is
corrected, and no long dynamics of the teacher are needed. RUN is a file of `training.leap.teacher`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ase_atom.operator import load_operator
from ase_atom.operator.torch_settings import set_threads
from ase_atom.units import KB
from training.engines.factory import get_engine
from training.leap.judge import Judge
from training.leap.measures import STATES, states
from training.leap.teacher import read_run

NAMES = ("trans", "gauche+", "gauche-")
BATCH = 64


def energies(engine: str, judge: Judge, x: NDArray) -> NDArray:
    """Potential energies of structures ``[M, N, 3]`` by a reference engine, eV."""
    make = get_engine(engine).potential
    if make is None:
        raise typer.BadParameter(f"{engine} does not evaluate many structures at a time")
    potential = make()
    found = []
    for first in range(0, len(x), BATCH):
        part = x[first : first + BATCH]
        numbers = np.repeat(judge.atoms.numbers[None].astype(np.int64), len(part), axis=0)
        charges = np.full(len(part), judge.run.charge, dtype=np.int64)
        found.append(potential(part, numbers, charges).energies)
    return np.concatenate(found)


def main(
    operator: Annotated[str, typer.Argument(help="Its name or file.")],
    run: Annotated[Path, typer.Argument(help="Langevin dynamics of it.")],
    engine: Annotated[str, typer.Option(help="The teacher.")] = "aimnet2",
    frames: Annotated[int, typer.Option(min=2, help="Of each replica.")] = 64,
) -> None:
    """Print the populations with errors over the replicas."""
    set_threads(1)
    judge = Judge(load_operator(operator, "auto"), read_run(run), 8, 0)
    chosen = np.linspace(0, judge.x.shape[1] - 1, frames).astype(int)
    x = judge.x[:, chosen]
    flat = x.reshape(-1, *x.shape[2:])
    difference = energies(engine, judge, flat) - judge.energy(flat)
    logs = -(difference - difference.mean()) / (KB * judge.run.temperature_K)
    weights = np.exp(logs - logs.max())
    left = weights.sum() ** 2 / (weights**2).sum()
    print(
        f"{len(flat)} frames, {left:.0f} left by the weights; energies differ by "
        f"{1000 * difference.std():.1f} meV (standard deviation)"
    )
    weights = weights.reshape(x.shape[:2])
    for index, torsion in enumerate(judge.coordinates.torsions):
        found = states(judge.coordinates.angles(x)[..., index])
        atoms = "-".join(f"{judge.atoms.symbols[int(atom)]}{int(atom)}" for atom in torsion)
        for state in range(STATES):
            there = found == state
            own, error = there.mean(), there.mean(1).std(ddof=1) / np.sqrt(len(there))
            teacher = (weights * there).sum() / weights.sum()
            # Of a ratio of means over replicas (Cochran, Sampling Techniques, 1977, 6.4).
            rest = (weights * (there - teacher)).sum(1) / weights.sum(1).mean()
            scatter = rest.std(ddof=1) / np.sqrt(len(rest))
            print(
                f"{atoms} {NAMES[state]}: operator {own:.3f} ± {error:.3f}, teacher {teacher:.3f} "
                f"± {scatter:.3f}"
            )


if __name__ == "__main__":
    typer.run(main)
