"""Processor time of a force call of AIMNet2 by size and batch: ``python benchmarks/batches.py``.

Milliseconds a molecule, on one thread: `training.generate --engine aimnet2` fills its batches
accordingly. The best of three rounds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT))  # training is run from the checkout and not installed

from training.data.molecules import embed  # noqa: E402
from training.engines.aimnet2 import Ensemble, load_ensemble  # noqa: E402

MOLECULES = {
    "water": "O",
    "ethanol": "CCO",
    "methyl benzoate": "COC(=O)c1ccccc1",
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "fentanyl": "CCC(=O)N(c1ccccc1)C1CCN(CCc2ccccc2)CC1",
}
BATCHES = (1, 4, 16, 64)
LARGEST = 160_000
"""Pairs of atoms above which a batch is left out."""


def milliseconds(ensemble: Ensemble, smiles: str, batch: int) -> float:
    """Processor time of a force call, in ms a molecule."""
    atoms = embed(smiles, 0)
    random = np.random.default_rng(0)
    positions = atoms.positions + random.normal(0, 0.02, (batch, len(atoms), 3))
    numbers, charges = np.tile(atoms.numbers, (batch, 1)), np.zeros(batch, dtype=int)
    ensemble(positions, numbers, charges)
    rounds, repeats = [], max(2, 24 // batch)
    for _ in range(3):
        start = time.process_time()
        for _ in range(repeats):
            ensemble(positions, numbers, charges)
        rounds.append(time.process_time() - start)
    return 1000 * min(rounds) / (repeats * batch)


def main(
    file: Annotated[Path | None, typer.Option(help="The engine's file. [default: found]")] = None,
) -> None:
    """Print the table as Markdown."""
    torch.set_num_threads(1)
    ensemble = load_ensemble(None if file is None else str(file))
    print(f"| molecule | atoms | {' | '.join(map(str, BATCHES))} |")
    print(f"|{'---|' * (2 + len(BATCHES))}")
    for name, smiles in MOLECULES.items():
        size = len(embed(smiles, 0))
        cells = [
            f"{milliseconds(ensemble, smiles, batch):.1f}" if batch * size**2 <= LARGEST else ""
            for batch in BATCHES
        ]
        print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
