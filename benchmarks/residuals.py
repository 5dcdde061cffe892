"""Where a path's errors come from: ``python benchmarks/residuals.py OPERATOR DATA...``.

From the middle of each burst the operator goes forwards, and backwards with the velocities turned
round. Half the sum of both errors does not change with the sign of the velocities: wrong forces and
wrong equilibrium positions make it. Half the difference is what stiffness and coupling got wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT)]

from ase_atom.operator import load_operator  # noqa: E402
from ase_atom.state import PhaseState  # noqa: E402
from training.curation.scaffolds import identity  # noqa: E402
from training.data.export import find_data  # noqa: E402
from training.data.frames import FrameData, select_states  # noqa: E402
from training.data.store import iterate_collection  # noqa: E402
from training.data.tables import read_partition  # noqa: E402

LAGS = (4, 8, 16, 32)
STARTS = 4


def main(
    operator: Annotated[str, typer.Argument(help="A shipped operator, or a file.")],
    data: Annotated[list[Path], typer.Argument(help="Reference bursts with frames every fs.")],
    table: Annotated[str, typer.Option()] = "training/data/general.csv",
    part: Annotated[str, typer.Option(help="Of the table.")] = "validation",
) -> None:
    """Print both parts, each over the displacements of its own kind."""
    model, parts = load_operator(operator), read_partition(table)
    sums = np.zeros((len(LAGS), 4))
    for folder in data:
        for burst in iterate_collection(find_data(folder)):
            if parts.get(identity(burst.smiles)) != part:
                continue
            frames = FrameData.from_bursts([burst])
            first, last = max(LAGS), len(burst.positions) - 1 - max(LAGS)
            starts = torch.linspace(first, last, STARTS).round().long()
            for row, lag in enumerate(LAGS):
                sums[row] += _squares(model, frames, starts, lag)
    print("| lag, fs | part of the squared error | its error over displacement | the other's |")
    print("|---|---|---|---|")
    for lag, (even, odd, even_way, odd_way) in zip(LAGS, sums, strict=True):
        ratios = np.sqrt([even / even_way, odd / odd_way])
        print(f"| {lag} | {even / (even + odd):.0%} | {ratios[0]:.3f} | {ratios[1]:.3f} |")


@torch.no_grad()
def _squares(model: torch.nn.Module, frames: FrameData, starts: torch.Tensor, lag: int) -> list:
    """Squared errors that do not and do change with the velocities' sign, and displacements."""
    drawn = select_states(frames, starts)
    errors, ways = [], []
    for sign in (1, -1):
        velocities = sign * frames.velocities[starts]
        state = PhaseState(
            drawn.numbers, drawn.masses, drawn.positions, velocities, charge=drawn.charge
        )
        path = model(state, torch.tensor([lag * frames.interval]))[0][:, 0]
        there = frames.positions[starts + sign * lag]
        errors.append((path - there).double())
        ways.append((there - drawn.positions).double())
    halves = [(0.5 * (a + s * b)).square().sum() for a, b in (errors, ways) for s in (1, -1)]
    return [float(half) for half in halves]


if __name__ == "__main__":
    typer.run(main)
