"""What is bonded to what: bonds from distances, and the molecule's name as SMILES."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.symbols import Symbols
from numpy.typing import ArrayLike, NDArray

from ase_atom.errors import CoverageError
from ase_atom.molecules.lewis import (
    build,
    draw,
    drawn_elements,
    lewis_structure,
    separated_charges,
)
from ase_atom.units import format_charge

BOND_FACTOR = 1.3
"""Two atoms are bonded up to this multiple of the sum of their covalent radii.

RDKit's default for connectivity from coordinates; a C-H bond stretched by heat to 1.39 Å is still
one, and the shortest distance that is no bond, 1.78 Å between two hydrogens of a methyl group, is
far above.
"""


def is_element(numbers: NDArray[np.integer], or_none: bool = False) -> NDArray[np.bool_]:
    """Return which atomic numbers are those of an element, or zero where ``or_none`` is given."""
    return (numbers >= (0 if or_none else 1)) & (numbers < len(chemical_symbols))


def radii(numbers: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return covalent radii in Å (Cordero et al. 2008, as tabulated in ASE)."""
    found: NDArray[np.float64] = covalent_radii[numbers]
    return found


def formula(numbers: NDArray[np.integer]) -> str:
    """Return the chemical formula in Hill's order."""
    return str(Symbols(numbers).get_chemical_formula())


def perceive_bonds(
    numbers: NDArray[np.integer], positions: NDArray[np.floating]
) -> list[tuple[int, int]]:
    """Return the bonded pairs (i < j) of an isolated molecule, judged by distance alone.

    Parameters
    ----------
    numbers, positions
        Atomic numbers, ``[N]``, and positions in Å, ``[N, 3]``.
    """
    radius = radii(numbers)
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    bonded = distance < BOND_FACTOR * (radius[:, None] + radius[None])
    return [(i, j) for i, j in combinations(range(len(numbers)), 2) if bonded[i, j]]


def fragments(numbers: NDArray[np.integer], positions: NDArray[np.floating]) -> list[list[int]]:
    """Return the atom indices of each bonded fragment, in the order of their first atoms.

    Parameters
    ----------
    numbers, positions
        Atomic numbers, ``[N]``, and positions in Å, ``[N, 3]``.
    """
    label = list(range(len(numbers)))
    for i, j in perceive_bonds(numbers, positions):
        old, new = label[j], label[i]
        label = [new if value == old else value for value in label]
    found: dict[int, list[int]] = {}
    for index, value in enumerate(label):
        found.setdefault(value, []).append(index)
    return list(found.values())


_COUNTED = re.compile(r"([A-Za-z]+)(\d+)")


def numbered_names(numbers: ArrayLike) -> list[str]:
    """Name atoms by element and count: C1, C2, O1, H1, …"""
    counts: Counter[str] = Counter()
    names = []
    for number in np.asarray(numbers).tolist():
        symbol = chemical_symbols[number]
        counts[symbol] += 1
        names.append(f"{symbol}{counts[symbol]}")
    return names


def atom_label(numbers: ArrayLike, index: int) -> str:
    """Return an atom's name for messages, see `numbered_names`."""
    return numbered_names(numbers)[index]


def group_name(names: Sequence[str]) -> str:
    """Name equivalent atoms together: ``H4,5`` for H4 and H5."""
    found = [_COUNTED.fullmatch(name) for name in names]
    if all(found) and len({one.group(1) for one in found if one}) == 1:
        return names[0] + "".join(f",{one.group(2)}" for one in found[1:] if one)
    return ",".join(names)


def canonical(smiles: str) -> str:
    """Return RDKit's canonical form of a SMILES string.

    Raises
    ------
    CoverageError
        If RDKit cannot read it.
    """
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise CoverageError(f"{smiles!r} is not a SMILES string that RDKit can read")
    return Chem.MolToSmiles(molecule)


@cache
def drawn(smiles: str) -> str:
    """Return the canonical form of the Lewis structure that names a molecule.

    So that a sulfoxide is one molecule as S=O and as [S+][O-], see `ase_atom.molecules.lewis`.

    Raises
    ------
    CoverageError
        If RDKit cannot read it.
    """
    if "+" not in smiles:
        return canonical(smiles)
    from rdkit import Chem

    plain = canonical(smiles)
    try:
        whole = draw(Chem.AddHs(Chem.MolFromSmiles(plain)))
    except ValueError:  # no octets, as in a carbocation: there is one way to write it
        return plain
    return canonical(Chem.MolToSmiles(Chem.RemoveHs(whole)))


def is_zwitterion(smiles: str) -> bool:
    """Say whether a molecule has separated formal charges, see `ase_atom.molecules.lewis`."""
    from rdkit import Chem

    return "+" in smiles and separated_charges(Chem.MolFromSmiles(drawn(smiles)))


def perceive_smiles(
    numbers: NDArray[np.integer], positions: NDArray[np.floating], charge: int = 0
) -> tuple[str, str]:
    """Name a molecule from its positions.

    Bonds come from ``rdkit.Chem.rdDetermineBonds``, their orders from `ase_atom.molecules.lewis`.

    Parameters
    ----------
    numbers, positions
        Atomic numbers, ``[N]``, and positions in Å, ``[N, 3]``.
    charge
        Total charge in e.

    Returns
    -------
    Canonical SMILES with the stereochemistry of the positions, and the same without it.

    Raises
    ------
    CoverageError
        If no closed-shell molecule of that charge fits the positions.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds
    from rdkit.Geometry import Point3D

    skeleton = Chem.RWMol()
    conformer = Chem.Conformer(len(numbers))
    for index, (number, position) in enumerate(zip(numbers, positions, strict=True)):
        skeleton.AddAtom(Chem.Atom(int(number)))
        conformer.SetAtomPosition(index, Point3D(*map(float, position)))
    skeleton.AddConformer(conformer)
    radius = radii(numbers)
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineConnectivity(skeleton)
            bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in skeleton.GetBonds()]
            # Of structures that are as good otherwise, short bonds are the multiple ones.
            length = [
                float(np.linalg.norm(positions[j] - positions[i]) / (radius[i] + radius[j]) / 2)
                for i, j in bonds
            ]
            found = lewis_structure(numbers.tolist(), bonds, charge, length)
            molecule = build(skeleton, *found)
            Chem.AssignStereochemistryFrom3D(molecule)
            bare = Chem.RemoveHs(molecule)
        except (ValueError, RuntimeError) as error:
            raise CoverageError(_nameless(numbers, charge)) from error
    # Written and read once, so that both sides of a comparison went through the same canonicaliser.
    return drawn(Chem.MolToSmiles(bare)), drawn(Chem.MolToSmiles(bare, isomericSmiles=False))


def _nameless(numbers: NDArray[np.integer], charge: int) -> str:
    """Why no closed shell may fit a molecule's positions."""
    if strange := sorted(set(numbers.tolist()) - drawn_elements()):
        symbols = ", ".join(chemical_symbols[number] for number in strange)
        return (
            f"{formula(numbers)} cannot be named, since bonds of {symbols} are not understood; "
            "operators are for molecules of light non-metals"
        )
    reasons = (
        "it is an ion, or a radical, or an atom is missing or misplaced"
        if charge == 0
        else "it is a radical, it has another charge, it lacks an octet as carbocations do, or an "
        "atom is missing or misplaced"
    )
    return (
        f"no closed-shell molecule of charge {format_charge(charge)} fits the positions of "
        f"{formula(numbers)}: {reasons}"
    )
