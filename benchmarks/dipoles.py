"""Dipoles by an operator beside measured ones: ``python benchmarks/dipoles.py OPERATOR``.

Each molecule is relaxed on the operator's own potential. Measured dipoles in the gas phase are
those of the CRC Handbook of Chemistry and Physics, 97th edition, section 9. The teacher's are
those of AIMNet2's charges at the same geometry. Needs ``pip install '.[training]'``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase.units import Debye

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT)]  # training is run from the checkout and not installed

from ase_atom.ase.conformer import from_smiles  # noqa: E402
from ase_atom.ase.relaxation import relax  # noqa: E402
from ase_atom.operator import load_operator  # noqa: E402
from ase_atom.state import PhaseState  # noqa: E402
from training.engines.factory import get_engine  # noqa: E402

MEASURED = {
    "methanol": ("CO", 1.70),
    "dimethyl ether": ("COC", 1.30),
    "acetone": ("CC(C)=O", 2.88),
    "acetonitrile": ("CC#N", 3.92),
    "formamide": ("NC=O", 3.73),
    "nitromethane": ("C[N+](=O)[O-]", 3.46),
    "dimethyl sulfoxide": ("CS(C)=O", 3.96),
    "chloromethane": ("CCl", 1.89),
    "bromomethane": ("CBr", 1.82),
    "fluorobenzene": ("Fc1ccccc1", 1.60),
    "pyridine": ("c1ccncc1", 2.21),
    "furan": ("c1ccoc1", 0.66),
    "thiophene": ("c1ccsc1", 0.55),
    "aniline": ("Nc1ccccc1", 1.13),
    "water": ("O", 1.85),
    "formaldehyde": ("C=O", 2.33),
}
"""SMILES, and the dipole in debye."""


def main(
    name: Annotated[str, typer.Argument(help="An operator's name or file.")] = "organic-wb97m",
) -> None:
    """Print the table as Markdown."""
    operator = load_operator(name)
    if operator.atomic_charges is None:
        raise typer.BadParameter(f"{name} has no atomic charges")
    make = get_engine("aimnet2").potential
    assert make is not None
    teacher = make()
    print("| molecule | measured, D | the operator's | the teacher's |\n|---|---|---|---|")
    rows = []
    for molecule, (smiles, measured) in MEASURED.items():
        atoms = from_smiles(smiles, 0)
        relax(atoms, operator)
        state = PhaseState.from_atoms(atoms)
        own = float(operator.atomic_charges.dipole(state).norm()) / Debye
        found = teacher(
            atoms.positions[None], atoms.numbers[None].astype(np.int64), np.zeros(1, int)
        )
        assert found.atomic_charges is not None
        about = atoms.positions - atoms.get_center_of_mass()
        theirs = float(np.linalg.norm(found.atomic_charges[0] @ about)) / Debye
        rows.append((measured, own, theirs))
        print(f"| {molecule} | {measured:.2f} | {own:.2f} | {theirs:.2f} |", flush=True)
    table = np.array(rows)
    errors = np.abs(table[:, 1:] - table[:, :1]).mean(0)
    print(f"| **mean difference from measured** | | **{errors[0]:.2f}** | **{errors[1]:.2f}** |")


if __name__ == "__main__":
    typer.run(main)
