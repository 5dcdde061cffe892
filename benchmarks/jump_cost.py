"""What 16 fs cost: ``python benchmarks/jump_cost.py``, of one thread's own time.

A jump of the general operators by the engines that are installed, as it is and at constant energy,
where it is reversible, steps of 1 fs by the operator's own forces, and a force call of AIMNet2, in
turn; the least time of each counts. Positions differ from call to call, so that no engine has kept
the forces of the last one. Needs ``pip install '.[training,numba]'``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT)]  # training is run from the checkout and not installed

from ase_atom import NVE, PhaseState, PotentialSteps, Propagator, load_operator  # noqa: E402
from ase_atom.ase.conformer import from_smiles  # noqa: E402
from ase_atom.operator import OperatorLike  # noqa: E402
from training.engines.aimnet2 import load_ensemble  # noqa: E402

STRIDE = 16.0


def main(
    smiles: Annotated[str, typer.Argument()] = "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    batches: Annotated[str, typer.Option(help="Molecules side by side.")] = "1,16",
    repeats: Annotated[int, typer.Option(help="Calls of each.")] = 12,
) -> None:
    """Print milliseconds, and the ratio to the first row."""
    torch.set_num_threads(1)
    atoms, ensemble = from_smiles(smiles, 0), load_ensemble()
    atoms.set_velocities(0.02 * np.random.default_rng(0).standard_normal((len(atoms), 3)))
    print("| what | molecules | ms for 16 fs | ratio |\n|---|---|---|---|")
    for batch in map(int, batches.split(",")):
        state = PhaseState.from_atoms([atoms] * batch)
        calls = {
            f"{name}, {engine}": _jump(name, engine)
            for name, engine in (
                ("tg80-gfn2", "torch"),
                ("tg80-gfn2", "numba"),
                ("organic-wb97m", "torch"),
                ("organic-wb97m", "onnx"),
                ("organic-wb97m", "numba"),
            )
        }
        charge = np.zeros(batch, int)

        general = load_operator("organic-wb97m", engine="onnx")
        calls["organic-wb97m, onnx, constant energy"] = partial(_run, general)
        calls["organic-wb97m, onnx, 16 steps"] = partial(_run, PotentialSteps(general, 1.0))

        def teacher(moved: PhaseState, charge: np.ndarray = charge) -> None:
            ensemble(moved.positions.numpy(), moved.numbers.numpy(), charge)

        steps = {"32 steps of AIMNet2, TorchScript": 2 * STRIDE}
        calls["32 steps of AIMNet2, TorchScript"] = teacher
        best = dict.fromkeys(calls, np.inf)
        for call in calls.values():
            call(state)
        for _ in range(repeats):
            for name, call in calls.items():
                noise = 1e-3 * torch.randn_like(state.positions)
                moved = state.replace(positions=state.positions + noise)
                begun = time.thread_time()
                call(moved)
                spent = 1000 * (time.thread_time() - begun) * steps.get(name, 1)
                best[name] = min(best[name], spent)
        first = best["tg80-gfn2, torch"]
        for name, spent in best.items():
            print(f"| {name} | {batch} | {spent:.1f} | {spent / first:.2f} |", flush=True)


def _run(operator: OperatorLike, state: PhaseState) -> None:
    for _ in Propagator(operator, state, NVE(), STRIDE).run(STRIDE):
        pass


def _jump(name: str, engine: str) -> Callable[[PhaseState], object]:
    operator = load_operator(name, engine=engine)  # type: ignore[call-overload]
    return lambda state: operator(state, torch.tensor([STRIDE], dtype=torch.float64))


if __name__ == "__main__":
    typer.run(main)
