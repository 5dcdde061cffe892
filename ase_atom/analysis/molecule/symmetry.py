"""Which bonds of a molecule are equivalent, and the symmetries of its graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from rdkit import Chem

from ase_atom.molecules.topology import group_name, numbered_names


@dataclass(frozen=True)
class BondClass:
    """Bonds that the molecule's symmetry makes equivalent, to be pooled in statistics.

    Attributes
    ----------
    label
        Names of the atoms as in `ase_atom.molecules.topology.numbered_names`, such as
        ``C1–H4,5,6``.
    pairs
        Atom indices, ``[P, 2]``.
    """

    label: str
    pairs: np.ndarray


def graph(numbers: ArrayLike, pairs: ArrayLike) -> Chem.Mol:
    """RDKit molecule with the given atoms, all bonds single and nothing implied."""
    molecule = Chem.RWMol()
    for number in np.asarray(numbers).tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for first, second in np.asarray(pairs).tolist():
        molecule.AddBond(first, second, Chem.BondType.SINGLE)
    plain = molecule.GetMol()
    plain.UpdatePropertyCache(strict=False)
    return plain


def automorphisms(numbers: ArrayLike, pairs: ArrayLike, at_most: int = 512) -> np.ndarray:
    """Relabellings of the atoms that keep elements and bonds, ``[P, N]``, identity first.

    Handedness is not looked at, so these include relabellings that only a reflection realises.

    Parameters
    ----------
    numbers, pairs
        Atomic numbers, ``[N]``, and bonded pairs, ``[P, 2]``.
    at_most
        Give up enumerating after this many and return the identity alone if there are more.
    """
    molecule = graph(numbers, pairs)
    identity = np.arange(molecule.GetNumAtoms())[None]
    matches = molecule.GetSubstructMatches(molecule, uniquify=False, maxMatches=at_most + 1)
    if not 0 < len(matches) <= at_most:
        return identity
    found = np.asarray(matches)
    return np.concatenate([identity, found[(found != identity).any(1)]])


def bond_classes(numbers: ArrayLike, pairs: ArrayLike) -> list[BondClass]:
    """Bonds grouped by the canonical ranks that RDKit gives their two atoms.

    Parameters
    ----------
    numbers, pairs
        Atomic numbers, ``[N]``, and bonded pairs, ``[P, 2]``.
    """
    numbers = np.asarray(numbers)
    ranks = list(Chem.CanonicalRankAtoms(graph(numbers, pairs), breakTies=False))
    groups: dict[tuple[int, ...], list[list[int]]] = {}
    for pair in np.asarray(pairs).tolist():
        # Hydrogen last, so that the label reads C–H and not H–C.
        ordered = sorted(pair, key=lambda atom: (numbers[atom] == 1, numbers[atom], ranks[atom]))
        groups.setdefault(tuple(sorted(ranks[atom] for atom in pair)), []).append(ordered)
    names = numbered_names(numbers)
    return [BondClass(_label(names, group), np.asarray(group)) for group in groups.values()]


def _label(names: list[str], pairs: list[list[int]]) -> str:
    ends = [sorted({pair[side] for pair in pairs}) for side in (0, 1)]
    return "–".join(group_name([names[atom] for atom in atoms]) for atoms in ends)
