"""What `ATOMPropagator` costs a step beside the operator: ``python benchmarks/ase_overhead.py``.

Runs of ethanol at a 0.5 fs time step and a 16 fs stride, one thread, an observer that does nothing
every 100 steps and none, the jumps alone (`Path.begin`: operator, thermostat, conservation laws,
guard), and the operator alone, in turn: the least processor time of each. What is left beside the
jumps is the adapter's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

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
    engine: str = typer.Option("auto", help="As for load_operator."),
) -> None:
    """Print the time of a step with and without the operator's part."""
    torch.set_num_threads(1)
    model = load_operator(operator, engine)
    atoms = molecule("CH3CH2OH")
    atoms.set_velocities(0.001 * atoms.positions)
    times = torch.arange(1, STEPS + 1) * 0.5
    kinds = {
        "NVE": {},
        "Langevin": {"temperature_K": 300, "friction": 0.01 / units.fs},
        "Bussi": {"temperature_K": 300, "taut": 100 * units.fs},
    }
    for name, settings in kinds.items():
        calls: dict[str, Callable[[], object]] = {}
        for interval in (0, 100, 1):
            dynamics = ATOMPropagator(
                atoms.copy(),
                0.5 * units.fs,
                operator=model,
                stride=16 * units.fs,
                energy_correction=False,
                reversible=False,  # one pass of the operator a stride, as timed alone
                **settings,
            )
            if interval:
                dynamics.attach(lambda: None, interval=interval)
            dynamics.run(2 * STEPS)
            seen = f"observer every {interval} steps" if interval else "no observer"
            calls[seen] = partial(dynamics.run, strides * STEPS)
        calls["jumps"] = partial(_begun, dynamics, strides)
        start = PhaseState.from_atoms(atoms)
        calls["operator"] = partial(_jumps, model, start, times, strides)
        best = dict.fromkeys(calls, math.inf)
        for _ in range(repeats):
            for kind, call in calls.items():
                begin = time.thread_time()
                call()
                best[kind] = min(best[kind], 1e6 * (time.thread_time() - begin) / strides / STEPS)
        alone, jumps = best.pop("operator"), best.pop("jumps")
        for kind, whole in best.items():
            print(
                f"{name}, {kind}: {whole:.1f} µs a step, of which the operator {alone:.1f} µs and "
                f"all else {whole - alone:.1f} µs: {jumps - alone:.1f} µs in the jump, "
                f"{whole - jumps:.1f} µs in the adapter"
            )


def _begun(dynamics: ATOMPropagator, count: int) -> None:
    path = dynamics._path
    for _ in range(count):
        last = path.positions[-1].numpy(), path.velocities[-1].numpy()
        path.begin(dynamics._state_of(*last), dynamics._noise)
        path.take(STEPS)


@torch.no_grad()
def _jumps(model, state: PhaseState, times: torch.Tensor, count: int) -> None:
    for _ in range(count):
        model(state, times)


if __name__ == "__main__":
    typer.run(main)
