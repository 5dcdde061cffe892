"""Flexible compounds for general leaps: ``python -m training.leap.flexible -o FILE``.

Those that general operators were trained on, with a bond that turns more than a methyl group.
Compounds of `HELD_OUT` are for judging alone. The others are in random order, small ones first, so
that every beginning of the list is a fair sample.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError, CoverageError, DataError
from ase_atom.io.registry import check_free
from ase_atom.molecules.handedness import neighbours_of, rotatable_bonds
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import load_operator
from training.data.molecules import embed, from_smiles

HELD_OUT = {
    "CCOC": "methyl ethyl ether",
    "CCCN": "propylamine",
    "NCCN": "1,2-ethanediamine",
    "CC(O)CCl": "1-chloro-2-propanol",
    "CCCS": "propanethiol",
    "CCC(C)=O": "butanone",
    "COCCO": "2-methoxyethanol",
    "CCOC(C)=O": "ethyl acetate",
}
"""Canonical SMILES that no training of leaps sees."""

SHIPPED = ("organic-wb97m", "tg80-gfn2")

SIZES = (8, 14, 20)
"""Atoms in the smallest, in the largest of the first tier, and in the largest."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Flexible(NamedTuple):
    """A row of the list."""

    smiles: str
    part: str
    atoms: int
    rotors: int


def rotors(smiles: str) -> tuple[int, int]:
    """Atoms of a molecule, and bonds in it that turn more than a methyl group or a linear end."""
    atoms = embed(smiles, 0)
    near = neighbours_of(perceive_bonds(atoms.numbers, atoms.positions), len(atoms))

    def turns(atom: int, other: int) -> bool:
        ends = [each for each in near[atom] if each != other]
        if len(ends) == 1 and atoms.get_angle(other, atom, ends[0]) > 160.0:
            return False
        return not (
            atoms.numbers[atom] == 6 and (atoms.numbers[ends] == 1).all() and len(ends) == 3
        )

    bonds = rotatable_bonds(atoms.numbers, atoms.positions)
    return len(atoms), sum(turns(i, j) and turns(j, i) for i, j in bonds)


def chosen(smiles: Iterable[str], seed: int) -> list[Flexible]:
    """Rows of flexible compounds, those held out first."""
    smallest, small, largest = SIZES
    found: dict[str, Flexible] = {}
    for text in (*HELD_OUT, *smiles):
        try:
            molecule = from_smiles(text)
            size = len(molecule.numbers())
            if molecule.smiles in found or not smallest <= size <= largest:
                continue
            atoms, turning = rotors(molecule.smiles)
        except (DataError, CoverageError):
            continue
        if turning:
            part = "test" if molecule.smiles in HELD_OUT else "train"
            found[molecule.smiles] = Flexible(molecule.smiles, part, atoms, turning)
    held_out = [row for row in found.values() if row.part == "test"]
    rest = [row for row in found.values() if row.part == "train"]
    random.Random(seed).shuffle(rest)
    return held_out + sorted(rest, key=lambda row: row.atoms > small)


@app.command()
def run(
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file.")],
    operator: Annotated[
        list[str] | None,
        typer.Option(help="General operator; may be repeated. Default: both that ship."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Choose the flexible among the compounds that operators were trained on."""
    check_free(output, overwrite)
    smiles: list[str] = []
    for name in operator or SHIPPED:
        card = load_operator(name).card
        if card is None:
            raise ConfigError(f"{name} has no card, which would list its compounds")
        smiles += card.smiles
    rows = chosen(smiles, seed)
    with output.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Flexible._fields)
        writer.writerows(rows)
    print(f"{len(rows)} compounds: {output}")


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.leap.flexible"))


if __name__ == "__main__":
    main()
