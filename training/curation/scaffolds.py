"""Division of compounds into training, validation and test by scaffold, fixed before training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold

from ase_atom.errors import ConfigError
from ase_atom.molecules.topology import canonical
from training.curation.candidates import digest

LARGEST_GROUP = 3
"""Scaffolds of more compounds than this stay in training."""

QUOTAS = {
    "rings of carbon": (3, 1),
    "rings with N": (2, 1),
    "rings with O or S": (2, 1),
    "chains with N": (1, 0),
    "chains with O": (1, 1),
    "other chains": (1, 1),
}
"""Compounds of each class for the test and validation sets."""


def scaffold(smiles: str) -> str:
    """Return the Bemis-Murcko scaffold (Bemis and Murcko 1996) as SMILES; empty without a ring."""
    core = MurckoScaffold.GetScaffoldForMol(Chem.MolFromSmiles(canonical(smiles)))
    return Chem.MolToSmiles(core, isomericSmiles=False)


@cache
def identity(smiles: str) -> str:
    """Return what all ways to write one compound share: the first block of the InChIKey.

    Stereoisomers are one compound, and so are tautomers if their hydrogens move between
    heteroatoms.

    Raises
    ------
    CoverageError
        If RDKit cannot read the SMILES.
    """
    molecule = Chem.MolFromSmiles(canonical(smiles))
    return Chem.MolToInchiKey(molecule).partition("-")[0]


def classify(smiles: str) -> str:
    """Return the class of a compound among those of `QUOTAS`."""
    core = Chem.MolFromSmiles(scaffold(smiles))
    if core.GetNumAtoms():
        rings = {atom.GetSymbol() for atom in core.GetAtoms() if atom.IsInRing()}
        if "N" in rings:
            return "rings with N"
        return "rings of carbon" if rings == {"C"} else "rings with O or S"
    symbols = {atom.GetSymbol() for atom in Chem.MolFromSmiles(smiles).GetAtoms()}
    if "N" in symbols:
        return "chains with N"
    return "chains with O" if "O" in symbols else "other chains"


def divide(compounds: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Say for each compound whether it is for ``train``, ``validation`` or ``test``.

    Compounds with the same scaffold are one group, those without a ring stand each by itself.
    Within each class, groups are put in the order of the SHA-256 of their scaffold (or SMILES);
    the first of at most `LARGEST_GROUP` compounds fill the test quota and the next that of
    validation, as whole groups: one that does not fit any more is passed over.

    Parameters
    ----------
    compounds
        Names and canonical SMILES.

    Raises
    ------
    ConfigError
        If there are too few compounds of a class.
    """
    classes: dict[str, dict[str, list[str]]] = {kind: defaultdict(list) for kind in QUOTAS}
    for name, smiles in compounds:
        classes[classify(smiles)][scaffold(smiles) or smiles].append(name)
    parts = {name: "train" for name, _ in compounds}
    for kind, groups in classes.items():
        waiting = [groups[core] for core in sorted(groups, key=digest)]
        waiting = [names for names in waiting if len(names) <= LARGEST_GROUP]
        for part, count in zip(("test", "validation"), QUOTAS[kind], strict=True):
            for names in list(waiting):
                if len(names) <= count:
                    waiting.remove(names)
                    count -= len(names)
                    parts.update(dict.fromkeys(names, part))
            if count:
                raise ConfigError(f"too few compounds among {kind} for the {part} set")
    return parts
