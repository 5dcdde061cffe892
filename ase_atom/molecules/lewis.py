"""Lewis structures: bond orders and formal charges from what is bonded to what.

Bond orders o, lone pairs n and formal charges q are integers with q = V - 2 n - Σ o for V valence
electrons, an octet 2 n + 2 Σ o = 8 (2 about hydrogen; more about phosphorus and sulphur; 6 will do
for boron), and Σ q the molecule's charge. Of the structures that fit, the one that a chemist would
draw has the fewest charges, and the fewest that have no opposite charge beside them. That is a
small integer programme, which is solved exactly. Electrons are paired: no radical fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def drawn_elements() -> set[int]:
    """Return the atomic numbers of the elements whose bonds are understood."""
    return set(_VALENCE)


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
    strange = sorted(set(numbers) - set(_VALENCE))
    if strange:
        raise ValueError(f"no Lewis structure with atomic number {strange[0]}")
    programme = _Programme(np.array(numbers), np.array(bonds, dtype=int).reshape(-1, 2))
    found = programme.solve(charge, np.zeros(len(bonds)) if preference is None else preference)
    if found is None:
        raise ValueError(f"no closed-shell Lewis structure of charge {charge} fits the bonds")
    orders, _, plus, minus, _, _ = np.split(found, len(bonds) + len(numbers) * np.arange(5))
    return orders, plus - minus


@dataclass(frozen=True)
class _Programme:
    """The integer programme of a molecule.

    Its unknowns are the orders of the bonds, and for each atom its lone pairs, positive and
    negative charges, charges alone, and what it has beyond the octet.

    Parameters
    ----------
    numbers, bonds
        Atomic numbers, ``[N]``, and bonded pairs, ``[bonds, 2]``.
    """

    numbers: NDArray[np.int_]
    bonds: NDArray[np.int_]

    def solve(self, charge: int, preference: ArrayLike) -> NDArray[np.int_] | None:
        """Return all unknowns, one kind after the other; None if nothing fits."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        cost = self._cost(np.asarray(preference))
        equations, right = self._octets(charge)
        found = milp(
            cost,
            integrality=np.ones(len(cost)),
            bounds=Bounds(*self._bounds()),
            constraints=[
                LinearConstraint(equations, right, right),
                LinearConstraint(self._alone(), 0.0, np.inf),
            ],
            options={"mip_rel_gap": 0.0},
        )
        return None if found.x is None else np.rint(found.x).astype(int)

    @cached_property
    def _ends(self) -> NDArray[np.int_]:
        """First atoms of all bonds and then second ones, ``[2 bonds]``."""
        return self.bonds.T.reshape(-1)

    @cached_property
    def _others(self) -> NDArray[np.int_]:
        return self.bonds[:, ::-1].T.reshape(-1)

    @cached_property
    def _degree(self) -> NDArray[np.int_]:
        return np.bincount(self._ends, minlength=len(self.numbers))

    def _octets(self, charge: int) -> tuple[Any, NDArray[np.float64]]:
        """Left and right sides of the charges, the octets, and the sum of the charges."""
        from scipy import sparse

        atoms, count = len(self.numbers), len(self.bonds)
        each = np.tile(np.arange(count), 2)
        touching = sparse.csr_array((np.ones(2 * count), (self._ends, each)), shape=(atoms, count))
        one, none = sparse.eye_array(atoms), sparse.csr_array((atoms, atoms))
        total = np.concatenate([np.zeros(count + atoms), np.ones(atoms), -np.ones(atoms)])
        left = sparse.vstack(
            [
                sparse.hstack([touching, 2 * one, one, -one, none, none]),
                sparse.hstack([touching, one, none, none, none, -one]),
                sparse.csr_array(np.concatenate([total, np.zeros(2 * atoms)])[None]),
            ]
        )
        valence = np.array([_VALENCE[z] for z in self.numbers.tolist()])
        octet = np.where(self.numbers == 1, 1, 4)
        return left, np.concatenate([valence, octet, [charge]])

    def _alone(self) -> Any:
        """What is not below zero where charges that have no opposite beside them count as alone."""
        from scipy import sparse

        atoms, ends, others = len(self.numbers), self._ends, self._others
        # An ammonium's proton and a carbanion beside it: so is written what has its negative charge
        # elsewhere, as an ammoniophenolate has. They do not count as a pair.
        hydrogens = np.bincount(ends, weights=self.numbers[others] == 1, minlength=atoms)
        protonated = (self._degree == 4) & (hydrogens > 0)
        carbon = self.numbers == 6
        pairs = ~((protonated[ends] & carbon[others]) | (carbon[ends] & protonated[others]))
        paired = sparse.csr_array(
            (np.ones(pairs.sum()), (ends[pairs], others[pairs])), shape=(atoms, atoms)
        )
        one, none = sparse.eye_array(atoms), sparse.csr_array((atoms, atoms))
        nothing = sparse.csr_array((atoms, len(self.bonds)))
        return sparse.vstack(
            [
                sparse.hstack([nothing, none, -one, paired, one, none]),
                sparse.hstack([nothing, none, paired, -one, one, none]),
            ]
        )

    @cached_property
    def _most(self) -> NDArray[np.int_]:
        return np.array([_EXPANDED.get(z, 0) for z in self.numbers.tolist()])

    def _cost(self, preference: NDArray[np.float64]) -> NDArray[np.float64]:
        atoms, count = len(self.numbers), len(self.bonds)
        negativity = np.array([_NEGATIVITY.get(z, 2.0) for z in self.numbers.tolist()]) / 4
        return np.concatenate(
            [
                _TIE * preference / max(count, 1),
                np.zeros(atoms),
                _CHARGE + _PLACE * negativity,
                _CHARGE + _PLACE * (1 - negativity + 0.5 * self._degree),
                np.full(atoms, _ALONE),
                np.full(atoms, _EXPANSION) * (self._most > 0),
            ]
        )

    def _bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        atoms, count = len(self.numbers), len(self.bonds)
        least = np.where(np.isin(self.numbers, (5, 13)), -1.0, 0.0)
        low = np.concatenate([np.ones(count), np.zeros(4 * atoms), least])
        return low, np.concatenate([np.full(count, 3.0), np.full(4 * atoms, 4.0), self._most])


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
