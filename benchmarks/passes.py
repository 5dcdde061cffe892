"""NVE with the round trip of every m-th jump alone: ``python -m benchmarks.passes --every 1,2``.

Prints kinetic temperatures along the bonds of ethanol in K, in fifths of a run from one Langevin
start. A jump every m starts from z − m δ/2, where δ is the defect of its round trip, and makes up
for the m − 1 single passes after it.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from itertools import count

import numpy as np
import torch
import typer
from torch import Tensor

from ase_atom import NVE, Langevin, PhaseState, Propagator, load_operator
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import OperatorLike
from ase_atom.propagation import Frames, jump, sample_velocities, steps
from ase_atom.units import AMU_A2_FS2_IN_EV, KB
from benchmarks.engines import molecule

STRIDE, SETTLING, PARTS = 16.0, 1600.0, 5


def corrected(
    every: int,
    made: count[int],
    operator: OperatorLike,
    state: PhaseState,
    times: Tensor,
    *_: object,
) -> tuple[Tensor, Tensor]:
    """A jump of one pass in the place of `steps.reversible_jump`, which keeps nothing in it."""
    if next(made) % every:
        return jump(operator, state, times)

    def turned(start: PhaseState) -> PhaseState:
        positions, velocities = jump(operator, start, times[-1:])
        return start.replace(positions=positions[:, 0], velocities=-velocities[:, 0])

    back, half = turned(turned(state)), every / 2
    shared = state.replace(
        positions=(1 + half) * state.positions - half * back.positions,
        velocities=(1 + half) * state.velocities - half * back.velocities,
    )
    return jump(operator, shared, times)


def temperatures(frames: Frames, bonds: dict[str, list[tuple[int, int]]]) -> dict[str, float]:
    """Mean kinetic temperature in K along each kind of bond, and of all motion."""
    x, v, masses = (
        side.numpy() for side in (frames.positions, frames.velocities, frames.masses[0])
    )
    kelvin, found = AMU_A2_FS2_IN_EV / KB, {}
    for kind, pairs in bonds.items():
        i, j = np.array(pairs).T
        along = x[..., i, :] - x[..., j, :]
        along /= np.linalg.norm(along, axis=-1, keepdims=True)
        speed = ((v[..., i, :] - v[..., j, :]) * along).sum(-1)
        reduced = masses[i] * masses[j] / (masses[i] + masses[j])
        found[kind] = float((reduced * speed**2).mean()) * kelvin
    kinetic = (masses[:, None] * v**2).sum((-1, -2)).mean()
    return found | {"all": float(kinetic) * kelvin / (3 * len(masses) - 3)}


def main(
    every: str = typer.Option("1,2", help="Numbers m, with commas."),
    replicas: int = typer.Option(64, help="Molecules that move together."),
    time: float = typer.Option(20.0, help="Length of a run in ps."),
    engine: str = typer.Option("numba", help="As for load_operator."),
    seed: int = typer.Option(11, help="Of the start."),
) -> None:
    """Print a line for each m."""
    torch.set_num_threads(1)
    operator, atoms = load_operator("ethanol-gfn2", engine), molecule("CCO")
    bonds = defaultdict(list)
    for i, j in perceive_bonds(atoms.numbers, atoms.positions):
        bonds["–".join(sorted((atoms.symbols[i], atoms.symbols[j])))].append((i, j))
    state = PhaseState.from_atoms(atoms).repeat(replicas)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(seed))
    settling = Propagator(
        operator, state, Langevin(friction=0.02, reversible=True), STRIDE, seed=seed
    )
    for _ in settling.run(SETTLING):
        pass
    for m in map(int, every.split(",")):
        steps.reversible_jump = partial(corrected, m, count())
        propagator = Propagator(operator, settling.state, NVE(), STRIDE, frame_interval=4.0)
        parts: list[list[dict[str, float]]] = [[] for _ in range(PARTS)]
        for frames in propagator.run(1000.0 * time):
            share = (float(frames.times[-1]) - 1e-6) / (1000.0 * time)
            parts[int(share * PARTS)].append(temperatures(frames, bonds))
        for kind in parts[0][0]:
            means = (f"{np.mean([each[kind] for each in part]):.0f}" for part in parts)
            print(f"m = {m}, {kind}: {', '.join(means)} K", flush=True)


if __name__ == "__main__":
    typer.run(main)
