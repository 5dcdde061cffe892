"""Lewis structures: bond orders and formal charges from what is bonded to what.

Bond orders o, lone pairs n and formal charges q are integers with q = V - 2 n - Σ o for V valence
electrons, an octet 2 n + 2 Σ o = 8 (2 about hydrogen; more about phosphorus and sulphur; 6 will do
for boron), and Σ q the molecule's charge. Of the structures that fit, the one that a chemist would
draw has the fewest charges, and the fewest that have no opposite charge beside them. That is a
small integer programme, which is solved exactly. Electrons are paired: no radical fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rdkit.Chem import Atom, Mol

_VALENCE = {
    **{1: 1, 5: 3, 13: 3, 6: 4, 14: 4, 32: 4, 7: 5, 15: 5, 33: 5},
    **{8: 6, 16: 6, 34: 6, 9: 7, 17: 7, 35: 7, 53: 7},
}
_EXPANDED = {15: 1, 33: 1, 16: 2, 34: 2}
"""Bonds or lone pairs beyond the octet that an element is drawn with."""

_NEGATIVITY = {1: 2.2, 5: 2.0, 6: 2.5, 7: 3.0, 8: 3.5, 9: 4.0, 16: 2.6, 17: 3.1}
"""Pauling's electronegativities, rounded; 2 for others."""

# Costs: each kind outweighs all that a molecule of some forty atoms can gain of the next.
_CHARGE, _ALONE, _EXPANSION, _PLACE, _TIE = 1.0, 0.5, 0.05, 0.01, 1e-3


def lewis_structure(
    numbers: Sequence[int],
    bonds: Sequence[tuple[int, int]],
    charge: int = 0,
    preference: Sequence[float] | None = None,
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return bond orders ``[bonds]`` and formal charges ``[N]`` of the closed shell that fits.

    Parameters
    ----------
    numbers
        Atomic numbers, hydrogens included.
    bonds
        Bonded pairs of atoms.
    charge
        The molecule's.
    preference
        For each bond, how little it likes to be a multiple one, between 0 and 1; decides among
        structures that are as good otherwise.

    Raises
    ------
    ValueError
        If none fits, or an element is none of those that form such molecules.
    """
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    strange = sorted(set(numbers) - set(_VALENCE))
    if strange:
        raise ValueError(f"no Lewis structure with atomic number {strange[0]}")
    atoms, count = len(numbers), len(bonds)
    valence = np.array([_VALENCE[z] for z in numbers])
    first, second = np.array(bonds, dtype=int).reshape(-1, 2).T
    ends, each = np.concatenate([first, second]), np.tile(np.arange(count), 2)
    touching = sparse.csr_array((np.ones(2 * count), (ends, each)), shape=(atoms, count))
    degree = np.bincount(ends, minlength=atoms)
    # An ammonium's proton and a carbanion beside it: so is written what has its negative charge
    # elsewhere, as an ammoniophenolate has. They do not count as a pair.
    kinds = np.array(numbers)
    others = np.concatenate([second, first])
    hydrogens = np.bincount(ends, weights=kinds[others] == 1, minlength=atoms)
    protonated = (degree == 4) & (hydrogens > 0)
    carbon = kinds == 6
    pairs = ~((protonated[ends] & carbon[others]) | (carbon[ends] & protonated[others]))
    shape = (atoms, atoms)
    paired = sparse.csr_array((np.ones(pairs.sum()), (ends[pairs], others[pairs])), shape=shape)
    one, none = sparse.eye_array(atoms), sparse.csr_array(shape)
    nothing = sparse.csr_array((atoms, count))
    # Columns: orders, lone pairs, positive and negative charges, charges alone, beyond the octet.
    total = np.concatenate([np.zeros(count + atoms), np.ones(atoms), -np.ones(atoms)])
    equations = sparse.vstack(
        [
            sparse.hstack([touching, 2 * one, one, -one, none, none]),
            sparse.hstack([touching, one, none, none, none, -one]),
            sparse.csr_array(np.concatenate([total, np.zeros(2 * atoms)])[None]),
        ]
    )
    octet = np.where(kinds == 1, 1, 4)
    right = np.concatenate([valence, octet, [charge]])
    alone = sparse.vstack(
        [
            sparse.hstack([nothing, none, -one, paired, one, none]),
            sparse.hstack([nothing, none, paired, -one, one, none]),
        ]
    )
    negativity = np.array([_NEGATIVITY.get(z, 2.0) for z in numbers]) / 4
    tie = np.zeros(count) if preference is None else np.asarray(preference)
    most = np.array([_EXPANDED.get(z, 0) for z in numbers])
    least = np.array([-1.0 if z in (5, 13) else 0.0 for z in numbers])
    cost = np.concatenate(
        [
            _TIE * tie / max(count, 1),
            np.zeros(atoms),
            _CHARGE + _PLACE * negativity,
            _CHARGE + _PLACE * (1 - negativity + 0.5 * degree),
            np.full(atoms, _ALONE),
            np.full(atoms, _EXPANSION) * (most > 0),
        ]
    )
    low = np.concatenate([np.ones(count), np.zeros(4 * atoms), least])
    high = np.concatenate([np.full(count, 3.0), np.full(4 * atoms, 4.0), most])
    found = milp(
        cost,
        integrality=np.ones(len(cost)),
        bounds=Bounds(low, high),
        constraints=[
            LinearConstraint(equations, right, right),
            LinearConstraint(alone, 0.0, np.inf),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise ValueError(f"no closed-shell Lewis structure of charge {charge} fits the bonds")
    orders, _, plus, minus, _, _ = np.split(
        np.rint(found.x).astype(int), count + atoms * np.arange(5)
    )
    return orders, plus - minus


def draw(molecule: Mol) -> Mol:
    """Return a molecule with all its hydrogens in the one Lewis structure that names it.

    All resonance structures of a molecule give the same: equally good ones are told apart by
    RDKit's canonical ranks of the atoms.
    """
    from rdkit import Chem

    bare = Chem.RWMol(molecule)
    Chem.Kekulize(bare, clearAromaticFlags=True)
    charge = Chem.GetFormalCharge(bare)
    for bond in bare.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
    for atom in bare.GetAtoms():
        atom.SetFormalCharge(0)
        atom.SetNoImplicit(True)
        atom.SetNumRadicalElectrons(0)
    bare.UpdatePropertyCache(strict=False)
    rank = np.array(list(Chem.CanonicalRankAtoms(bare, breakTies=True)), dtype=float)
    rank /= len(rank)
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in bare.GetBonds()]
    preference = [max(rank[i], rank[j]) + 0.3 * min(rank[i], rank[j]) for i, j in bonds]
    numbers = [atom.GetAtomicNum() for atom in bare.GetAtoms()]
    return build(bare, *lewis_structure(numbers, bonds, charge, preference))


def build(skeleton: Mol, orders: NDArray[np.int_], charges: NDArray[np.int_]) -> Mol:
    """Return a molecule with bond orders and formal charges set, and sanitized."""
    from rdkit import Chem

    molecule = Chem.RWMol(skeleton)
    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    for bond, order in zip(molecule.GetBonds(), orders, strict=True):
        bond.SetBondType(kinds[int(order)])
    for atom, charge in zip(molecule.GetAtoms(), charges, strict=True):
        atom.SetFormalCharge(int(charge))
        atom.SetNoImplicit(True)
    Chem.SanitizeMol(molecule)
    return molecule.GetMol()


def separated_charges(molecule: Mol) -> bool:
    """Say whether formal charges of both signs stand apart from their opposites.

    So they do in a zwitterion, and in no nitro group, azide, N-oxide, ylide or isonitrile, whose
    opposite charges are on neighbours. Give it the molecule as `draw` does.
    """
    alone = [
        atom.GetFormalCharge() > 0
        for atom in molecule.GetAtoms()
        if atom.GetFormalCharge() and not any(_paired(atom, each) for each in atom.GetNeighbors())
    ]
    return len(set(alone)) == 2


def _paired(atom: Atom, other: Atom) -> bool:
    """Whether two neighbours bear charges that belong together, as `lewis_structure` has it."""
    if atom.GetFormalCharge() * other.GetFormalCharge() >= 0:
        return False
    plus, minus = (atom, other) if atom.GetFormalCharge() > 0 else (other, atom)
    protonated = plus.GetTotalDegree() == 4 and plus.GetTotalNumHs(includeNeighbors=True) > 0
    return not (protonated and minus.GetAtomicNum() == 6)
