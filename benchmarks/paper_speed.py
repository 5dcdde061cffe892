"""Time of the published architecture on the CPU: ``python benchmarks/paper_speed.py``.

Nine atoms of ethanol, P = 8 frames, random weights. Inference: milliseconds a state, one state at
a time and in batches, for the published model and for the one that is propagated. Training: one
step of the published model at batch 100, with its noise, dropout, gradients and optimiser. Best
and median over repetitions; other work on the machine shows in the median.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from ase.build import molecule
from rich.console import Console
from rich.table import Table

from ase_atom.operator import PaperConfig, build_operator
from ase_atom.propagation import sample_velocities
from ase_atom.state import PhaseState

CONFIGS = {
    "published": PaperConfig(horizon=1500.0),
    "propagator": PaperConfig(
        horizon=16.0,
        anchor=True,
        velocities=True,
        update="path",
        frame="centre_of_mass",
        frame_interval=None,
        constant_input=True,
    ),
}


def ethanol(batch: int) -> PhaseState:
    """Ethanol molecules at 300 K."""
    state = PhaseState.from_atoms(molecule("CH3CH2OH")).repeat(batch)
    return sample_velocities(state, 300.0, torch.Generator().manual_seed(0))


def times_taken(task: Callable[[], object], repetitions: int) -> tuple[float, float]:
    """Best and median wall time, s."""
    for _ in range(3):
        task()
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        task()
        taken.append(time.perf_counter() - start)
    return min(taken), float(np.median(taken))


def inference(name: str, batch: int) -> Callable[[], object]:
    """One call for a batch of states."""
    config = CONFIGS[name]
    operator = build_operator(config).eval().requires_grad_(False)
    state = ethanol(batch)
    times = torch.arange(1, 9) * config.segment / 8
    return lambda: operator.positions(state, times)


def training_step(batch: int) -> Callable[[], object]:
    """One step of the published model's training."""
    config = CONFIGS["published"]
    operator = build_operator(config).train()
    optimiser = torch.optim.AdamW(
        operator.parameters(), lr=1e-3, weight_decay=1e-5, eps=1e-10, amsgrad=True, fused=True
    )
    state = ethanol(batch).to(torch.float32)
    times = torch.arange(1, 9) * config.segment / 8
    targets = state.positions[:, None].expand(-1, 8, -1, -1)

    def step() -> None:
        loss = (operator.positions(state, times) - targets).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(operator.parameters(), 1.0)
        optimiser.step()

    return step


def main(
    batches: Annotated[str, typer.Option(help="Batch sizes of inference.")] = "1,12",
    threads: Annotated[int, typer.Option(help="CPU threads of inference.")] = 1,
    training_threads: Annotated[int, typer.Option(help="CPU threads of training.")] = 2,
    repetitions: Annotated[int, typer.Option(help="Calls to time.")] = 100,
) -> None:
    """Print the times of calls and of a training step."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    table = Table(title=f"ms a state, {threads} thread(s)")
    for column in ("operator", "batch", "best", "median"):
        table.add_column(column, justify="right")
    for name in CONFIGS:
        for batch in map(int, batches.split(",")):
            best, median = times_taken(inference(name, batch), max(20, repetitions // batch))
            table.add_row(
                name, str(batch), f"{1e3 * best / batch:.2f}", f"{1e3 * median / batch:.2f}"
            )
    console = Console()
    console.print(table)
    torch.set_num_threads(training_threads)
    best, median = times_taken(training_step(100), max(5, repetitions // 20))
    console.print(
        f"training step, batch 100, {training_threads} threads: best {best:.2f} s, "
        f"median {median:.2f} s"
    )


if __name__ == "__main__":
    typer.run(main)
