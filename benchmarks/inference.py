"""Time of one jump on the CPU: ``python benchmarks/inference.py [OPERATOR]``.

Nine atoms of ethanol, eight frames decoded over a 16 fs stride; median over repetitions.
"""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import torch
import typer
from ase.build import molecule
from rich.console import Console
from rich.table import Table

from ase_atom.operator import Operator, SpectralConfig, build_operator, load_operator
from ase_atom.propagation import jump, sample_velocities
from ase_atom.state import PhaseState


def seconds_per_jump(operator: Operator, batch: int, frames: int, repetitions: int) -> float:
    """Median wall time of one jump of ``batch`` ethanol molecules, s."""
    generator = torch.Generator().manual_seed(0)
    state = PhaseState.from_atoms(molecule("CH3CH2OH")).repeat(batch)
    state = sample_velocities(state, 300.0, generator)
    times = torch.linspace(0, 16, frames + 1, dtype=torch.float64)[1:]
    for _ in range(3):
        jump(operator, state, times)
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        jump(operator, state, times)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def main(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[OPERATOR]", help="Shipped name or file; default: untrained."),
    ] = None,
    batches: Annotated[str, typer.Option(help="Batch sizes.")] = "1,8,64",
    threads: Annotated[str, typer.Option(help="Numbers of threads.")] = "1",
    frames: Annotated[int, typer.Option(help="Frames decoded in each jump.")] = 8,
    repetitions: Annotated[int, typer.Option(help="Jumps to take the median of.")] = 50,
) -> None:
    """Print the median time of one jump for every batch size and number of threads."""
    operator = load_operator(name) if name else build_operator(SpectralConfig()).eval()
    size = sum(parameter.numel() for parameter in operator.parameters())
    table = Table(title=f"{name or 'untrained default'}, {size / 1e6:.2f} M parameters")
    for column in ("batch", "threads", "ms a jump", "ms a molecule", "ns/day in all"):
        table.add_column(column, justify="right")
    for count in map(int, threads.split(",")):
        torch.set_num_threads(count)
        for batch in map(int, batches.split(",")):
            seconds = seconds_per_jump(operator, batch, frames, repetitions)
            speed = batch * 16e-6 / seconds * 86400
            table.add_row(
                str(batch), str(count), f"{1000 * seconds:.2f}", f"{1000 * seconds / batch:.3f}",
                f"{speed:.1f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
