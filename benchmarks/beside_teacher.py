"""An operator beside AIMNet2, its teacher: ``python benchmarks/beside_teacher.py OPERATOR``.

Harmonic frequencies of test compounds, torsion profiles of drug fragments, and with
``--dft FOLDER`` (of ``benchmarks/teacher.py FOLDER``) forces beside density functional theory.
Needs ``pip install '.[training]'``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase.units import kcal, mol

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "benchmarks")]

from teacher import (  # noqa: E402
    COMPOUNDS,
    Reference,
    aimnet2,
    frequencies,
    kept_geometries,
    profile_error,
    rms,
    scan,
)

from ase_atom import ATOMCalculator  # noqa: E402
from ase_atom.operator import OperatorLike, load_operator  # noqa: E402
from training.data.molecules import from_smiles  # noqa: E402

VIBRATING = ("methyl cyanate", "imidazole", "2-chloroethanethiol", "cyclopentadiene", "cyclobutane")
"""Test compounds of `teacher.COMPOUNDS`."""

FRAGMENTS = {
    "biphenyl": ("c1ccc(-c2ccccc2)cc1", (2, 3, 4, 5)),
    "2-phenylpyridine": ("c1ccc(-c2ccccn2)cc1", (2, 3, 4, 5)),
    "anisole": ("COc1ccccc1", (0, 1, 2, 3)),
    "acetanilide": ("CC(=O)Nc1ccccc1", (1, 3, 4, 5)),
    "N-ethylacetamide": ("CCNC(C)=O", (0, 1, 2, 3)),
    "methyl benzoate": ("COC(=O)c1ccccc1", (3, 2, 4, 5)),
    "ethylbenzene": ("CCc1ccccc1", (0, 1, 2, 3)),
    "N-methylaniline": ("CNc1ccccc1", (0, 1, 2, 3)),
    "1-methoxypropane": ("CCCOC", (1, 2, 3, 4)),
    "thioanisole": ("CSc1ccccc1", (0, 1, 2, 3)),
}
"""Canonical SMILES, and the torsion by its atoms there."""


def main(
    name: Annotated[str, typer.Argument(help="A shipped operator, or a file.")],
    dft: Annotated[Path | None, typer.Option(help="Folder of benchmarks/teacher.py.")] = None,
) -> None:
    """Print the tables."""

    operator = load_operator(name)

    print("| harmonic frequencies | mean difference, 1/cm | largest |\n|---|---|---|")
    means = []
    for compound in VIBRATING:
        molecule = from_smiles(COMPOUNDS[compound])
        minimum, taught = frequencies(molecule, aimnet2(0), None)
        _, own = frequencies(molecule, ATOMCalculator(operator, precision="double"), minimum)
        off = np.abs(own - taught)
        means.append(off.mean())
        print(f"| {compound} | {off.mean():.1f} | {off.max():.0f} |", flush=True)
    print(f"| **mean** | **{np.mean(means):.1f}** | |\n")

    print("| torsion profile | RMS difference, kcal/mol | height |\n|---|---|---|")
    errors = []
    for fragment, (smiles, quartet) in FRAGMENTS.items():
        profiles: dict[str, list[float]] = {"teacher": [], "operator": []}
        methods = {"teacher": aimnet2(0), "operator": ATOMCalculator(operator, precision="double")}
        for still in scan(from_smiles(smiles), quartet, aimnet2(0)):
            for label, calculator in methods.items():
                still.calc = calculator
                profiles[label].append(still.get_potential_energy() / (kcal / mol))
        errors.append(profile_error(profiles["operator"], profiles["teacher"]))
        print(f"| {fragment} | {errors[-1]:.2f} | {np.ptp(profiles['teacher']):.1f} |", flush=True)
    print(f"| **mean** | **{np.mean(errors):.2f}** | |")

    if dft is not None:
        _forces(operator, dft)


def _forces(operator: OperatorLike, folder: Path) -> None:
    """Forces of teacher and operator beside those that the folder holds."""
    known = json.loads((folder / "tables.json").read_text())["forces"]
    print("\n| forces, meV/Å | operator | teacher |\n|---|---|---|")
    rows = []
    for compound in known:
        molecule = from_smiles(COMPOUNDS[compound], charges=(-1, 0, 1))
        found = []
        for atoms in kept_geometries(molecule, folder):
            atoms.calc = Reference(folder, molecule.charge)
            truth = atoms.get_forces()
            atoms.info["charge"] = molecule.charge
            atoms.calc = ATOMCalculator(operator, precision="double")
            found.append(rms(atoms.get_forces() - truth))
        rows.append((np.mean(found), np.mean([row[0] for row in known[compound].values()])))
        print(f"| {compound} | {rows[-1][0]:.0f} | {rows[-1][1]:.0f} |", flush=True)
    print("| **median** | **{:.0f}** | {:.0f} |".format(*np.median(rows, axis=0)))


if __name__ == "__main__":
    typer.run(main)
