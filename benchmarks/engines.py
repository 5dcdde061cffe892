"""What an engine costs beside torch: ``python benchmarks/engines.py``.

One thread, whose own time is measured. In every row each engine makes a few calls in turn, as it
makes them one after another in a run, and the least time counts: so ratios hold on a machine that
has other work, and times only on a quiet one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np
import torch
import typer
from ase import Atoms
from rich.console import Console
from rich.table import Table

from ase_atom import NVE, Langevin, PhaseState, Propagator, load_operator
from ase_atom.analysis.summary import RunSummary
from ase_atom.operator import OperatorLike
from ase_atom.propagation import jump, sample_velocities

MOLECULES = {
    "ethanol": ("CCO", "ethanol-gfn2"),
    "ethanol ": ("CCO", "tg80-gfn2"),
    "aspirin": ("CC(=O)Oc1ccccc1C(=O)O", "tg80-gfn2"),
    "ibuprofen": ("CC(C)Cc1ccc(cc1)C(C)C(=O)O", "tg80-gfn2"),
}
ENGINES = ("torch", "onnx", *(("numba",) if find_spec("numba") else ()))
IN_TURN = 4
FRAMES = torch.linspace(2, 16, 8, dtype=torch.float64)
ENSEMBLES = {
    "Langevin": Langevin(energy_correction=True),
    "NVE": NVE(energy_correction=True, reversible=True),
}


def molecule(smiles: str) -> Atoms:
    """A conformer by ETKDG."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(mol)
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    return Atoms(numbers, mol.GetConformer().GetPositions())


def least(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least time of each call in ms, all of them in turn."""
    for call in calls.values():
        call()
    best = dict.fromkeys(calls, np.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            for _ in range(IN_TURN):
                start = time.thread_time()
                call()
                best[name] = min(best[name], 1e3 * (time.thread_time() - start))
    return best


def steps(operator: OperatorLike, state: PhaseState, ensemble: Langevin | NVE) -> Iterator[None]:
    """Jumps of a run as ``ase-atom run`` makes them, all but the writing."""
    propagator = Propagator(operator, state, ensemble, 16.0, seed=1)
    summary = RunSummary(propagator.state, ensemble)
    for frames in propagator.run(1e9):
        summary.add(frames)
        yield


def main(
    batches: str = typer.Option("1,16,64", help="Batch sizes."),
    repeats: int = typer.Option(200, help="Calls of each kind for one molecule."),
    only: str = typer.Option("", help="Molecules, with commas; all by default."),
) -> None:
    """Print a table of times, and of their ratios to torch's."""
    torch.set_num_threads(1)
    table = Table(title="ms, least of many calls; one thread")
    ratios = [f"{engine}/torch" for engine in ENGINES[1:]]
    for column in ("molecule", "operator", "atoms", "batch", "what", *ENGINES, *ratios):
        table.add_column(column, justify="right" if "torch" in column else "left")
    for name, (smiles, operator) in MOLECULES.items():
        if only and name not in only.split(","):
            continue
        engines = {engine: load_operator(operator, engine) for engine in ENGINES}
        for batch in map(int, batches.split(",")):
            state = PhaseState.from_atoms(molecule(smiles)).repeat(batch)
            state = sample_velocities(state, 300.0, torch.Generator().manual_seed(0))
            count = max(2, repeats // batch // IN_TURN)
            kinds: dict[str, Callable[[OperatorLike], Callable[[], object]]] = {
                "jump, 8 frames": lambda e, s=state: lambda: jump(e, s, FRAMES),
                "energy": lambda e, s=state: lambda: e.energy(s),
                "energy and forces": lambda e, s=state: lambda: e.energy_and_forces(s),
            }
            for kind, ensemble in ENSEMBLES.items():
                kinds[f"run, {kind}"] = lambda e, s=state, n=ensemble: steps(e, s, n).__next__
            for what, make in kinds.items():
                calls = {engine: make(each) for engine, each in engines.items()}
                found = least(calls, count)
                table.add_row(
                    name, operator, str(state.numbers.shape[1]), str(batch), what,
                    *(f"{found[engine]:.2f}" for engine in ENGINES),
                    *(f"{found[engine] / found['torch']:.2f}" for engine in ENGINES[1:]),
                )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
