"""What no molecule changes without breaking a bond: handedness of centres, double bonds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ase_atom.molecules.lewis import lewis_structure
from ase_atom.molecules.topology import perceive_bonds

_FOUR, _THREE = 4, 3  # neighbours
_NEXT, _LAST = [1, 2, 0], [2, 0, 1]  # components of a vector


@dataclass(frozen=True)
class Handedness:
    """Signs that a molecule keeps, all atoms told apart, so that a methyl group has one too.

    A centre is an atom with four neighbours. Three neighbours make none: amines invert.

    Parameters
    ----------
    centres
        Centre and three of its neighbours, ``[C, 4]``.
    double_bonds
        A neighbour, the two atoms of the bond, and a neighbour on the other end, ``[D, 4]``.
    signs
        Of volumes and of cosines of the torsions in the first structure, ``[C + D]``.
    """

    centres: NDArray[np.intp]
    double_bonds: NDArray[np.intp]
    signs: NDArray[np.float64]

    @classmethod
    def of(
        cls, numbers: NDArray[np.integer], positions: NDArray[np.floating], charge: int = 0
    ) -> Handedness:
        """Take the signs of a structure, ``[N]`` and ``[N, 3]``, with bonds from its positions."""
        bonds = perceive_bonds(numbers, positions)
        neighbours = neighbours_of(bonds, len(numbers))
        centres = [(i, *near[:_THREE]) for i, near in enumerate(neighbours) if len(near) == _FOUR]
        doubles = [
            (_other(neighbours[i], j), i, j, _other(neighbours[j], i))
            for i, j in double_bonds(numbers, bonds, charge)
            if 1 < len(neighbours[i]) <= _THREE and 1 < len(neighbours[j]) <= _THREE
        ]
        found = cls(_quadruples(centres), _quadruples(doubles), np.empty(0))
        signs = found.measured(positions[None])[0]
        return cls(found.centres, found.double_bonds, signs)

    def measured(self, positions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Signs of structures ``[T, N, 3]``: ``[T, C + D]``."""
        origin, *ends = (positions[:, column] for column in self.centres.T)
        arms = [end - origin for end in ends]
        volumes = np.einsum("tcx,tcx->tc", _cross(arms[0], arms[1]), arms[2])
        first, left, right, last = (positions[:, column] for column in self.double_bonds.T)
        axis = right - left
        normals = _cross(first - left, axis), _cross(last - right, axis)
        cosines = np.einsum("tdx,tdx->td", *normals)
        signs: NDArray[np.float64] = np.sign(np.concatenate([volumes, cosines], axis=1))
        return signs

    def kept(self, positions: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Say of structures ``[T, N, 3]`` whether they have the signs of the first: ``[T]``."""
        kept: NDArray[np.bool_] = (self.measured(positions) == self.signs).all(axis=1)
        return kept


class HandednessOfBatch:
    """`Handedness` of many molecules, measured together where they are replicas.

    Parameters
    ----------
    each
        Of the molecules, ``B`` of them.
    """

    def __init__(self, each: Sequence[Handedness]) -> None:
        def kind(row: int) -> tuple[bytes, bytes]:
            return each[row].centres.tobytes(), each[row].double_bonds.tobytes()

        found = [list(rows) for _, rows in groupby(sorted(range(len(each)), key=kind), key=kind)]
        self._kinds = [
            (np.array(rows), each[rows[0]], np.stack([each[row].signs for row in rows]))
            for rows in found
        ]

    @np.errstate(over="ignore", invalid="ignore")  # a molecule that broke has no handedness
    def kept(self, positions: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Say of one structure each, ``[B, N, 3]``, whether it has the signs of the first."""
        found = np.empty(len(positions), dtype=bool)
        for rows, handed, signs in self._kinds:
            found[rows] = (handed.measured(positions[rows]) == signs).all(axis=1)
        return found


def _cross(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Cross product along the last axis; `numpy.cross` takes ten times as long for a few."""
    found: NDArray[np.floating] = a[..., _NEXT] * b[..., _LAST] - a[..., _LAST] * b[..., _NEXT]
    return found


def neighbours_of(bonds: Sequence[tuple[int, int]], atoms: int) -> list[list[int]]:
    """Atoms that each atom is bonded to."""
    found: list[list[int]] = [[] for _ in range(atoms)]
    for i, j in bonds:
        found[i].append(j)
        found[j].append(i)
    return found


def double_bonds(
    numbers: NDArray[np.integer], bonds: Sequence[tuple[int, int]], charge: int = 0
) -> list[tuple[int, int]]:
    """Bonds of order two in the Lewis structure; none where there is no such structure."""
    try:
        orders, _ = lewis_structure(numbers.tolist(), bonds, charge)
    except ValueError:
        return []
    return [bond for bond, order in zip(bonds, orders, strict=True) if order == 2]


def rotatable_bonds(
    numbers: NDArray[np.integer], positions: NDArray[np.floating], charge: int = 0
) -> list[tuple[int, int]]:
    """Single bonds in no ring about which both ends turn, methyl groups included."""
    bonds = perceive_bonds(numbers, positions)
    neighbours = neighbours_of(bonds, len(numbers))
    stiff = set(double_bonds(numbers, bonds, charge))
    return [
        (i, j)
        for i, j in bonds
        if len(neighbours[i]) > 1
        and len(neighbours[j]) > 1
        and (i, j) not in stiff
        and not _in_ring(i, j, neighbours)
    ]


def _in_ring(i: int, j: int, neighbours: Sequence[Sequence[int]]) -> bool:
    """Whether there is another way from i to j than their bond."""
    seen, edge = {i}, [k for k in neighbours[i] if k != j]
    while edge:
        atom = edge.pop()
        if atom == j:
            return True
        if atom not in seen:
            seen.add(atom)
            edge.extend(neighbours[atom])
    return False


def _other(near: Sequence[int], not_this: int) -> int:
    return next(atom for atom in near if atom != not_this)


def _quadruples(rows: Sequence[tuple[int, ...]]) -> NDArray[np.intp]:
    return np.array(rows, dtype=int).reshape(-1, 4)
