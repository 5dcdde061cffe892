"""What leaps are judged by: bonds, torsional states, correlation of orientation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_atom.molecules.handedness import neighbours_of, rotatable_bonds
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.superposition import superposing_rotations

BINS = 24
STATES = 3


@dataclass(frozen=True)
class Coordinates:
    """Bonds, bond angles and torsions of a molecule.

    Attributes
    ----------
    bonds
        ``[P, 2]``.
    torsions
        One about each bond that turns, between the heaviest neighbours, ``[Q, 4]``.
    corners
        Bond angles, the middle atom second, ``[M, 3]``.
    sides
        Which atoms turn with each torsion's last atom, ``[Q, N]``.
    """

    bonds: NDArray
    torsions: NDArray
    corners: NDArray
    sides: NDArray

    @classmethod
    def of(cls, atoms: Atoms) -> Coordinates:
        """Find those of a structure."""
        bonds = perceive_bonds(atoms.numbers, atoms.positions)
        near = neighbours_of(bonds, len(atoms))

        def heaviest(atom: int, other: int) -> int:
            ends = [each for each in near[atom] if each != other]
            return max(ends, key=lambda end: (atoms.numbers[end], -end))

        torsions = [
            (heaviest(i, j), i, j, heaviest(j, i))
            for i, j in rotatable_bonds(atoms.numbers, atoms.positions)
        ]
        corners = [(i, j, k) for j, ends in enumerate(near) for i, k in combinations(ends, 2)]
        sides = np.zeros((len(torsions), len(atoms)), dtype=bool)
        for side, (_, left, right, _) in zip(sides, torsions, strict=True):
            edge = [right]
            while edge:
                atom = edge.pop()
                side[atom] = True
                edge.extend(each for each in near[atom] if each != left and not side[each])
        return cls(
            np.array(bonds).reshape(-1, 2),
            np.array(torsions, dtype=int).reshape(-1, 4),
            np.array(corners, dtype=int).reshape(-1, 3),
            sides,
        )

    def lengths(self, x: NDArray) -> NDArray:
        """Bond lengths in Å of structures ``[..., N, 3]``: ``[..., P]``."""
        i, j = self.bonds.T
        found: NDArray = np.linalg.norm(x[..., i, :] - x[..., j, :], axis=-1)
        return found

    def valence(self, x: NDArray) -> NDArray:
        """Bond angles in degrees: ``[..., M]``."""
        one, middle, other = (x[..., column, :] for column in self.corners.T)
        first, second = one - middle, other - middle
        lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
        found: NDArray = np.degrees(np.arccos(((first * second).sum(-1) / lengths).clip(-1, 1)))
        return found

    def with_angles(self, x: NDArray, angles: NDArray) -> NDArray:
        """Structures ``[B, N, 3]`` with their torsions turned to angles in rad, ``[B, Q]``."""
        x = x.copy()
        for index, (_, left, right, _) in enumerate(self.torsions):
            turn = (angles - self.angles(x))[:, index]
            axis = x[:, right] - x[:, left]
            unit = (axis / np.linalg.norm(axis, axis=-1, keepdims=True))[:, None]
            side = self.sides[index]
            arms = x[:, side] - x[:, right][:, None]
            cosine, sine = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
            along = unit * (arms * unit).sum(-1, keepdims=True)
            moved = along + cosine * (arms - along) + sine * np.cross(unit, arms)
            x[:, side] = moved + x[:, right][:, None]
        return x

    def angles(self, x: NDArray) -> NDArray:
        """Torsion angles in rad: ``[..., Q]``."""
        first, left, right, last = (x[..., column, :] for column in self.torsions.T)
        axis = right - left
        one, two = np.cross(left - first, axis), np.cross(axis, last - right)
        unit = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
        sine = (np.cross(one, two) * unit).sum(-1)
        found: NDArray = np.arctan2(sine, (one * two).sum(-1))
        return found


def states(angles: NDArray) -> NDArray:
    """Torsional states: 0 about 180°, 1 about 60°, 2 about -60°."""
    found: NDArray = np.where(np.abs(angles) > 2 * np.pi / 3, 0, np.where(angles > 0, 1, 2))
    return found


def transitions(before: NDArray, after: NDArray) -> NDArray:
    """Probabilities of going from each state to each, ``[3, 3]``, symmetrised under reflection.

    The mirror image of a molecule without stereocentres moves alike, which halves the error.
    """
    counts = np.zeros((STATES, STATES))
    np.add.at(counts, (before.ravel(), after.ravel()), 1.0)
    mirror = [0, 2, 1]
    counts = counts + counts[np.ix_(mirror, mirror)]
    found: NDArray = counts / counts.sum(1, keepdims=True).clip(1)
    return found


def implied_time(transition: NDArray, lag: float) -> float:
    """Slowest relaxation time that transition probabilities over a lag imply, in its unit.

    -τ / ln λ_2 of the second largest eigenvalue; zero where nothing is remembered.
    """
    second = float(np.sort(np.linalg.eigvals(transition).real)[-2])
    # An eigenvalue of zero comes out of some linear algebra libraries as 1e-17.
    rounding = len(transition) * np.finfo(float).eps
    return -lag / math.log(second) if rounding < second < 1 else 0.0


def divergence(ours: NDArray, theirs: NDArray) -> float:
    """Jensen-Shannon divergence of two samples of angles, nat, over 24 bins, its bias subtracted.

    Of equal distributions it is (bins - 1) (1/n + 1/m) / 8 in the mean, for n and m independent
    samples (Grosse et al., Phys. Rev. E 65, 041905 (2002)).
    """
    edges = np.linspace(-np.pi, np.pi, BINS + 1)
    one, two = (np.histogram(each, edges)[0] / each.size for each in (ours, theirs))
    middle = (one + two) / 2

    def relative(p: NDArray) -> float:
        there = p > 0
        return float((p[there] * np.log(p[there] / middle[there])).sum())

    bias = (BINS - 1) * (1 / ours.size + 1 / theirs.size) / 8
    return 0.5 * relative(one) + 0.5 * relative(two) - bias


def axes_after(start: NDArray, end: NDArray, masses: NDArray) -> NDArray:
    """Cosines between the principal axes of molecules before and after a lag, ``[B, 3]``.

    The axes are those of the first structure, carried on by the rotation that lays it on the
    second.
    """
    weights = masses / masses.sum()
    start = start - np.einsum("n,bnx->bx", weights, start)[:, None]
    end = end - np.einsum("n,bnx->bx", weights, end)[:, None]
    squares = np.einsum("n,bnx,bny->bxy", weights, start, start)
    axes = np.linalg.eigh(squares)[1]
    rotations = np.concatenate(
        [
            superposing_rotations(one[None], other, weights)[0]
            for one, other in zip(start, end, strict=True)
        ]
    )
    turned = np.swapaxes(rotations, 1, 2) @ axes
    found: NDArray = np.einsum("bxk,bxk->bk", axes, turned)
    return found


def legendre(cosines: NDArray) -> tuple[NDArray, NDArray]:
    """P_1 and P_2."""
    return cosines, 1.5 * cosines**2 - 0.5


def mean_and_error(blocks: Sequence[NDArray] | NDArray) -> tuple[NDArray, NDArray]:
    """Mean over independent blocks, and its standard error."""
    values = np.asarray(blocks)
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
