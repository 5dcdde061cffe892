"""What `ATOMPropagator` costs a step beside the operator: ``python benchmarks/ase_overhead.py``.

Runs of ethanol at a 0.5 fs time step and a 16 fs stride, one thread, no observers, and the
operator alone on the same jumps, in turn; the median of their differences.
"""

from __future__ import annotations

import statistics
import time

import torch
import typer
from ase import units
from ase.build import molecule

from ase_atom import ATOMPropagator, load_operator
from ase_atom.state import PhaseState

STEPS = 32
"""Steps a stride."""


def main(
    operator: str = typer.Argument("ethanol-gfn2", help="Name or file of an operator for ethanol."),
    strides: int = typer.Option(10, help="Jumps in each run."),
    repeats: int = typer.Option(20, help="Runs of each kind."),
) -> None:
    """Print the time of a step with and without the operator's part."""
    torch.set_num_threads(1)
    model = load_operator(operator)
    atoms = molecule("CH3CH2OH")
    atoms.set_velocities(0.001 * atoms.positions)
    times = torch.arange(1, STEPS + 1) * 0.5
    kinds = {
        "NVE": {},
        "Langevin": {"temperature_K": 300, "friction": 0.01 / units.fs},
        "Bussi": {"temperature_K": 300, "taut": 100 * units.fs},
    }
    for name, settings in kinds.items():
        dynamics = ATOMPropagator(
            atoms.copy(),
            0.5 * units.fs,
            operator=model,
            stride=16 * units.fs,
            energy_correction=False,
            reversible=False,  # one pass of the operator a stride, as timed alone
            **settings,
        )
        dynamics.run(2 * STEPS)
        whole, alone = [], []
        for _ in range(repeats):
            begin = time.perf_counter()
            dynamics.run(strides * STEPS)
            between = time.perf_counter()
            _jumps(model, PhaseState.from_atoms(dynamics.atoms), times, strides)
            alone.append((time.perf_counter() - between) / strides / STEPS)
            whole.append((between - begin) / strides / STEPS)
        beside = statistics.median(a - b for a, b in zip(whole, alone, strict=True))
        print(
            f"{name}: {1e6 * statistics.median(whole):.0f} µs a step, of which the operator "
            f"{1e6 * statistics.median(alone):.0f} µs and all else {1e6 * beside:.0f} µs"
        )


@torch.no_grad()
def _jumps(model, state: PhaseState, times: torch.Tensor, count: int) -> None:
    for _ in range(count):
        model(state, times)


if __name__ == "__main__":
    typer.run(main)
