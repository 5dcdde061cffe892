"""Nested Monte Carlo beside a calculator's dynamics: ``python benchmarks/nested_sampling.py``.

Reads a trajectory of ``ase-atom sample`` and bursts of Langevin dynamics by the same calculator,
and prints means and effective samples for a call of the calculator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase.geometry import get_dihedrals
from ase.io import read
from numpy.typing import NDArray

from ase_atom.analysis.statistics import Estimate, correlated_mean
from training.data.export import find_data
from training.data.store import iterate_collection


def torsion(positions: NDArray, atoms: tuple[int, ...]) -> NDArray:
    """Torsion of four atoms in rad, ``[T]``, from positions ``[T, N, 3]``."""
    a, b, c, d = (positions[:, atom] for atom in atoms)
    angles: NDArray = np.radians(get_dihedrals(b - a, c - b, d - c))
    return angles


def main(
    samples: Annotated[Path, typer.Argument(help="Trajectory of ase-atom sample.")],
    reference: Annotated[Path, typer.Argument(help="Bursts of Langevin dynamics.")],
    atoms: Annotated[str, typer.Option(help="Atoms of the torsion.")] = "0,1,2,3",
    reference_atoms: Annotated[str, typer.Option(help="The same in the bursts.")] = "0,1,2,8",
    timestep: Annotated[float, typer.Option(help="Of the bursts' dynamics, fs.")] = 0.5,
    discard: Annotated[float, typer.Option(help="Part of the proposals to leave out.")] = 0.2,
) -> None:
    """Print the table as Markdown."""
    places, others = (
        tuple(int(word) for word in text.split(",")) for text in (atoms, reference_atoms)
    )
    frames = read(samples, ":")
    kept = frames[int(discard * len(frames)) :]
    energies = [np.array([frame.get_potential_energy() for frame in kept])]
    angles = [torsion(np.array([frame.positions for frame in kept]), places)]
    bursts = list(iterate_collection(find_data(reference)))
    theirs = [np.asarray(burst.energies) for burst in bursts]
    turns = [torsion(np.asarray(burst.positions, float), others) for burst in bursts]
    # The calls of kept proposals alone, as of the dynamics those after equilibration alone.
    calls = (
        len(kept),
        sum(round(burst.interval / timestep) * len(burst.energies) for burst in bursts),
    )
    rows = {
        "potential energy, eV": (energies, theirs),
        "cos φ": ([np.cos(a) for a in angles], [np.cos(a) for a in turns]),
        "cos 3φ": ([np.cos(3 * a) for a in angles], [np.cos(3 * a) for a in turns]),
    }
    print("| | nested Monte Carlo | Langevin dynamics | calls saved |\n|---|---|---|---|")
    print(f"| calls | {calls[0]} | {calls[1]} | |")
    for name, sides in rows.items():
        ours, reference_mean = (correlated_mean(side) for side in sides)
        print(f"| mean of {name} | {_in_words(ours)} | {_in_words(reference_mean)} | |")
        rates = ours.samples / calls[0], reference_mean.samples / calls[1]
        print(
            f"| effective samples of it for a call | {rates[0]:.2g} | {rates[1]:.2g} | "
            f"{rates[0] / rates[1]:.0f} × |"
        )


def _in_words(mean: Estimate) -> str:
    return f"{mean.value:.3f} ± {mean.error:.3f}"


if __name__ == "__main__":
    typer.run(main)
