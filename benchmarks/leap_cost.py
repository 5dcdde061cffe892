"""What a leap costs beside forces at each time step: ``python -m benchmarks.leap_cost``.

One thread, whose own time is measured. Forces by GFN2-xTB each 0.5 fs, as
`benchmarks.compare_engines` makes them, and leaps of ethanol, alone and in batches, in each engine,
take turns, and the least time of each counts: so ratios hold on a machine that has other work. A
leap is all that ``ase-atom run`` does: drawn, settled, judged, and drawn again where it must be.
The tables are Markdown.

``--torsion`` also says how many independent samples of the O-H torsion a second gives. That needs
its memory: from leap to leap, and in dynamics, for which jumps of the operator at the friction of
its leaps stand in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from ase_atom import Langevin, PhaseState, Propagator, load_operator
from ase_atom.operator import OperatorLike
from ase_atom.propagation import equilibrate, sample_velocities
from ase_atom.units import PS
from benchmarks.compare_engines import ENGINES, by_forces
from training.data.molecules import embed
from training.engines.factory import get_engine
from training.leap.measures import Coordinates

NAME, SMILES = "ethanol-gfn2", "CCO"
FORCE_STEP, STRIDE = 0.5, 16.0
FORCE_CALLS = 20
"""Time steps that count as one turn."""

REPLICAS, DYNAMICS = 64, 4000.0
"""Replicas of the torsion's series, and their length in fs in dynamics."""

MEMORY = 500.0
"""fs, over which the torsion's memory in dynamics is measured."""


def taking_turns(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Least time in s of each call, made one after another so many times."""
    best = dict.fromkeys(calls, math.inf)
    for call in calls.values():
        call()
    for _ in range(turns):
        for name, call in calls.items():
            begin = time.thread_time()
            call()
            best[name] = min(best[name], time.thread_time() - begin)
    return best


def thermal(operator: OperatorLike, count: int) -> PhaseState:
    """Replicas of ethanol at 300 K."""
    state = PhaseState.from_atoms(embed(SMILES, 0)).repeat(count)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(0))
    return equilibrate(operator, state, 300.0, duration=480.0, friction=0.05, seed=2).state


def frames_of(
    operator: OperatorLike, state: PhaseState, stride: float
) -> Callable[[], NDArray[np.floating]]:
    """Give the positions of one step after another, ``[B, N, 3]``."""
    run = Propagator(operator, state, Langevin(300.0, 0.01), stride, seed=1).run(1e12)
    next(run)
    return lambda: next(run).positions[:, -1].numpy()


def memory(series: NDArray[np.floating], apart: int) -> float:
    """Correlation of ``[T, B]`` with itself so many steps later."""
    series = series - series.mean()
    return float((series[apart:] * series[:-apart]).mean() / (series * series).mean())


def torsion(frames: Callable[[], NDArray[np.floating]], steps: int) -> NDArray[np.floating]:
    """Sine of the O-H torsion, which tells one gauche from the other, ``[T, B]``."""
    coordinates = Coordinates.of(embed(SMILES, 0))
    numbers = embed(SMILES, 0).numbers
    (which,) = np.flatnonzero([8 in numbers[each[1:3]] for each in coordinates.torsions])
    return np.stack([np.sin(coordinates.angles(frames())[:, which]) for _ in range(steps)])


def main(
    lag: float = typer.Option(4.0, help="Length of a leap, ps."),
    batches: str = typer.Option("1,64", help="Batch sizes of the leaps."),
    turns: int = typer.Option(4, min=1, help="How often each is measured."),
    with_torsion: bool = typer.Option(False, "--torsion", help="Also count independent samples."),
) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    sizes = [int(size) for size in batches.split(",")]
    operators = {engine: load_operator(NAME, engine) for engine in ENGINES}
    fastest = operators[ENGINES[-1]]
    starts = {size: thermal(fastest, size) for size in sizes}
    step = by_forces(embed(SMILES, 0), get_engine("gfn2").make(), FORCE_STEP)
    calls: dict[str, Callable[[], object]] = {
        "forces": lambda: [step() for _ in range(FORCE_CALLS)],
        **{
            f"{engine} {size}": frames_of(operator, starts[size], lag * PS)
            for engine, operator in operators.items()
            for size in sizes
        },
    }
    seconds = taking_turns(calls, turns)
    forces = seconds["forces"] / FORCE_CALLS * lag * PS / FORCE_STEP
    print(f"| {lag:g} ps of ethanol by | molecules | ms a molecule | times less than forces |")
    print("|---|---|---|---|")
    print(f"| GFN2-xTB, forces each {FORCE_STEP} fs | 1 | {1000 * forces:.0f} | |")
    costs = {}
    for engine in operators:
        for size in sizes:
            cost = costs[engine, size] = seconds[f"{engine} {size}"] / size
            print(f"| leaps, {engine} | {size} | {1000 * cost:.1f} | {forces / cost:.0f} |")
    if with_torsion:
        independent(fastest, costs, forces / lag, lag, sizes)


def independent(
    operator: OperatorLike,
    costs: dict[tuple[str, int], float],
    forces: float,
    lag: float,
    sizes: list[int],
) -> None:
    """Print how many independent samples of the torsion a second gives.

    Parameters
    ----------
    operator
        That moves.
    costs
        Seconds of a leap, by engine and batch.
    forces
        Seconds of a picosecond by forces.
    lag
        ps.
    sizes
        Of the batches.
    """
    state = thermal(operator, REPLICAS)
    dynamics = torsion(frames_of(operator, state, STRIDE), round(DYNAMICS / STRIDE))
    apart = round(MEMORY / STRIDE)
    # Of a correlation that decays as exp(-t/τ), 2 τ of dynamics are one sample.
    time_constant = -apart * STRIDE / math.log(memory(dynamics, apart)) / PS
    kept = memory(torsion(frames_of(operator, state, lag * PS), 16), 1)
    a_leap = min(1.0, (1 - kept) / (1 + kept))
    print(
        f"\nMemory of the O-H torsion: {time_constant:.2f} ps in dynamics, and {kept:.2f} from "
        f"leap to leap: {a_leap:.2f} samples a leap, and one in {2 * time_constant:.2f} ps of "
        "dynamics.\n"
    )
    by_forces_ = 1 / (forces * 2 * time_constant)
    print("| independent samples by | molecules | a second | times those of forces |")
    print("|---|---|---|---|")
    print(f"| GFN2-xTB, forces each {FORCE_STEP} fs | 1 | {by_forces_:.2g} | |")
    for (engine, size), cost in costs.items():
        rate = a_leap / cost
        print(f"| leaps, {engine} | {size} | {rate:.3g} | {rate / by_forces_:.0f} |")


if __name__ == "__main__":
    typer.run(main)
