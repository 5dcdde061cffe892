"""What a picosecond costs by each method: ``python -m benchmarks.compare_engines``.

One thread, whose own time is measured. The methods make some steps or jumps of a molecule in turn,
and the least time of one counts: a picosecond is that many of them. Reference methods and force
field go by velocity Verlet; the operators by ``ase-atom run``'s jumps of 16 fs, with the energy
corrected, each frame given: Langevin, and one molecule in NVE, whose jumps are reversible. The
table is Markdown.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import typer
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from torch.utils.flop_counter import FlopCounterMode

from ase_atom import NVE, Langevin, PhaseState, Propagator, load_operator
from ase_atom.errors import ConfigError
from ase_atom.operator import Operator, OperatorLike
from ase_atom.propagation import Ensemble, sample_velocities
from training.data.molecules import embed
from training.engines.factory import Moving, get_engine
from training.engines.forcefield import ForceField

MOLECULES = {
    "ethanol": ("CCO", "ethanol-gfn2"),
    "aspirin": ("CC(=O)Oc1ccccc1C(=O)O", "tg80-gfn2"),
    "ibuprofen": ("CC(C)Cc1ccc(cc1)C(C)C(=O)O", "tg80-gfn2"),
    "propranolol": ("CC(C)NCC(O)COc1cccc2ccccc12", "tg80-gfn2"),
}
STRIDE = 16.0
ENGINES = ("torch", "onnx", *(("numba",) if find_spec("numba") else ()))
LEAST, TURNS = 3, 8
"""Steps that each method makes in all, however long they take, and parts of its share of time."""


@dataclass
class Row:
    """A line of the table: one method on one molecule.

    Attributes
    ----------
    batch
        Molecules that move together.
    step
        fs.
    call
        Makes a step or jump of the batch.
    flops
        Floating-point operations of matrix products in it; zero where they are not counted.
    """

    molecule: str
    atoms: int
    method: str
    batch: int
    step: float
    call: Callable[[], object]
    flops: float = 0.0
    seconds: float = np.inf

    @property
    def picosecond(self) -> float:
        """Seconds for a picosecond of one molecule."""
        return self.seconds * 1000.0 / self.step / self.batch


def measure(rows: list[Row], share: float) -> None:
    """Note the least time of a step in s, of as many as fit into each row's share of time."""
    spent, counts = np.zeros(len(rows)), np.zeros(len(rows), dtype=int)
    for row in rows:
        row.call()
    while (left := (spent < share) | (counts < LEAST)).any():
        for place in left.nonzero()[0]:
            row, begin = rows[place], time.perf_counter()
            while True:
                start = time.thread_time()
                row.call()
                row.seconds = min(row.seconds, time.thread_time() - start)
                counts[place] += 1
                passed = time.perf_counter() - begin
                if passed > share / TURNS:
                    break
            spent[place] += passed


def matrix_rate() -> float:
    """Floating-point operations a second of products of large matrices in single precision."""
    a = torch.rand(1024, 1024)
    products = Row("", 0, "", 1, 1.0, lambda: a @ a)
    measure([products], 1.0)
    return 2 * 1024**3 / products.seconds


def by_forces(atoms: Atoms, calculator: object, timestep: float) -> Callable[[], object]:
    """Steps of velocity Verlet from 300 K."""
    atoms = atoms.copy()
    atoms.calc = Moving(calculator)
    speeds = sample_velocities(
        PhaseState.from_atoms(atoms), 300.0, torch.Generator().manual_seed(0)
    )
    atoms.set_velocities(speeds.to_atoms()[0].get_velocities())
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    return dynamics.step


def by_jumps(
    operator: OperatorLike, atoms: Atoms, batch: int, ensemble: Ensemble
) -> Callable[[], object]:
    """Jumps of a batch, as ``ase-atom run`` makes them."""
    state = PhaseState.from_atoms(atoms).repeat(batch)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(0))
    return Propagator(operator, state, ensemble, STRIDE, seed=1).run(1e9).__next__


def products(operator: Operator, atoms: Atoms) -> float:
    """Floating-point operations of the matrix products of a jump and an energy."""
    state = PhaseState.from_atoms(atoms)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        operator(state, torch.tensor([STRIDE]))
        operator.energy(state)
    return float(counter.get_total_flops())


def references(name: str, smiles: str, atoms: Atoms, aimnet2: Path | None) -> Iterator[Row]:
    """Rows of the methods that go step by step."""
    engine = get_engine("gfn2")
    for timestep in (0.5, 1.0):
        step = by_forces(atoms, engine.make(), timestep)
        yield Row(name, len(atoms), "GFN2-xTB (tblite)", 1, timestep, step)
    try:
        options = json.dumps({} if aimnet2 is None else {"path": str(aimnet2)})
        step = by_forces(atoms, get_engine("aimnet2", options).make(), 0.5)
    except ConfigError as error:
        print(f"AIMNet2 is left out: {error}", file=sys.stderr)
    else:
        yield Row(name, len(atoms), "AIMNet2", 1, 0.5, step)
    step = by_forces(atoms, ForceField(smiles), 0.5)
    yield Row(name, len(atoms), "MMFF94 (RDKit)", 1, 0.5, step)


def jumps(name: str, atoms: Atoms, operator: str, batches: list[int]) -> Iterator[Row]:
    """Rows of an operator."""
    for engine in ENGINES:
        loaded = load_operator(operator, engine)
        flops = products(load_operator(operator), atoms)
        for batch in batches:
            step, method = by_jumps(loaded, atoms, batch, Langevin()), f"{operator}, {engine}"
            yield Row(name, len(atoms), method, batch, STRIDE, step, batch * flops)
        step = by_jumps(loaded, atoms, 1, NVE())
        yield Row(name, len(atoms), f"{method}, NVE", 1, STRIDE, step)


def line(row: Row, reference: float, rate: float) -> str:
    """A row as Markdown."""
    picosecond = row.picosecond
    numbers = (1e3 * row.seconds, picosecond, 86.4 / picosecond)
    cells = (
        row.molecule, str(row.atoms), row.method, str(row.batch), f"{row.step:g}",
        *map(_short, numbers), _length(1000 * picosecond), _short(reference / picosecond),
        f"{100 * row.flops / row.seconds / rate:.0f} %" if row.flops else "",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def growth(rows: list[Row], batch: int) -> str:
    """How the time of a jump grows from the smallest to the largest molecule of one operator."""
    chosen = [row for row in rows if row.batch == batch and row.method == "tg80-gfn2, onnx"]
    sizes, times = (np.log([getattr(row, key) for row in chosen]) for key in ("atoms", "seconds"))
    return f"{np.polyfit(sizes, times, 1)[0]:.1f}"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 99.5 else f"{number:.2g}"


def _length(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"


def main(
    aimnet2: Path | None = typer.Option(
        None, help="The file of AIMNet2; by default where ASE_ATOM_DATA has it."
    ),
    batches: str = typer.Option("1,16,64,256", help="Batch sizes of the operators."),
    only: str = typer.Option("", help="Molecules, with commas; all by default."),
    share: float = typer.Option(4.0, help="Seconds for each row, and three steps at least."),
) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    chosen = only.split(",") if only else list(MOLECULES)
    if strange := set(chosen) - set(MOLECULES):
        raise typer.BadParameter(f"{min(strange)!r} is none of {', '.join(MOLECULES)}")
    sizes, rate, rows = [int(size) for size in batches.split(",")], matrix_rate(), []
    print(
        "| molecule | atoms | method | batch | step, fs | ms a step | s for 1 ps | ns/day | "
        "1 ns takes | times GFN2-xTB at 0.5 fs | of the matrix rate |"
    )
    print(f"|{'---|' * 11}", flush=True)
    for name in chosen:
        smiles, operator = MOLECULES[name]
        atoms = embed(smiles, 0)
        atoms.calc = ForceField(smiles)
        BFGS(atoms, logfile=None).run(0.05, 500)
        found = [*references(name, smiles, atoms, aimnet2), *jumps(name, atoms, operator, sizes)]
        measure(found, share)
        for row in found:
            print(line(row, found[0].picosecond, rate), flush=True)
        rows += found
    print(f"\nMatrix products of 1024 × 1024 in single precision: {rate / 1e9:.0f} GFLOP/s.")
    if len(chosen) == len(MOLECULES):
        powers = ", ".join(f"N^{growth(rows, batch)} in batches of {batch}" for batch in sizes)
        print(f"A jump of tg80-gfn2 by ONNX Runtime takes a time as {powers}.")


if __name__ == "__main__":
    typer.run(main)
