"""Integration grids that move with the atoms, and how their weights answer to the nuclei."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pyscf import gto
from pyscf.dft import radi
from pyscf.dft.gen_grid import ANG_ORDER, LEBEDEV_ORDER, RAD_GRIDS, Grids

NO_SHARE = 1e-12
"""Points of which their own atom has less are left out: they lie deep inside other atoms."""

NO_PULL = 1e-14
"""Points whose energy (hartree) can change by no more with the weights have no gradient."""

COMPONENTS = (1, 4, 10)
"""Values of an orbital and its derivatives up to an order."""

NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)

CHUNK = 1024


@dataclass(frozen=True)
class Block:
    """The points that one atom carries along.

    Attributes
    ----------
    atom
        Its index.
    coords
        Positions ``[G, 3]`` in bohr.
    weights
        ``[G]`` in bohr³.
    foreign
        Part ``[G]`` of a point's volume that belongs to other atoms.
    orbitals
        Values and derivatives of the basis functions ``[C, K, G]``, in PySCF's order.
    """

    atom: int
    coords: np.ndarray
    weights: np.ndarray
    foreign: np.ndarray
    orbitals: np.ndarray


class MovingGrid(Grids):
    """PySCF's Becke grid, kept in one block for each atom, with orbital values.

    `build` follows the molecule to its present place. Memory is reused, which matters: the kernel
    of an operating system takes as long to hand out fresh pages as the orbitals to be computed.

    Parameters
    ----------
    mol
        Whose positions may change; its elements and basis may not.
    level
        PySCF's level of the grid, 0 to 9.
    order
        Highest derivative of the orbitals that is kept.
    radial
        Part of the level's radial points that is used. With Delley's placing of them (J. Chem.
        Phys. 104, 9848 (1996)) instead of PySCF's usual, fewer are enough.

    Attributes
    ----------
    blocks
        The points where they are now.
    found
        What the `Integrator` found there last.
    """

    _keys: ClassVar = {"blocks", "found", "order"}

    def __init__(self, mol: gto.Mole, level: int, order: int, radial: float) -> None:
        super().__init__(mol)
        self.level = level
        self.radi_method = radi.delley
        # Nuclear charges would lack the electrons of effective core potentials.
        numbers = [gto.charge(mol.atom_symbol(atom)) for atom in range(mol.natm)]
        self.atom_grid = {
            mol.atom_symbol(atom): _size(number, level, radial)
            for atom, number in enumerate(numbers)
        }
        self.order = order
        self.blocks: list[Block] = []
        self.found: Any = None
        self._table: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._memory: dict[int, np.ndarray] = {}
        first, second = np.triu_indices(mol.natm, 1)
        self._pairs = first, second
        root = np.sqrt(self.atomic_radii[numbers])
        ratio = root[:, None] / root
        # As in PySCF (Treutler and Ahlrichs, J. Chem. Phys. 102, 346 (1995)).
        self._shift = np.clip(0.25 * (ratio.T - ratio), -0.5, 0.5)[first, second]

    def points(self) -> int:
        """Return the number of points before any are left out."""
        if not self._table:
            self._table = self.gen_atomic_grids(self.mol)
        symbols = (self.mol.atom_symbol(atom) for atom in range(self.mol.natm))
        return sum(len(self._table[symbol][1]) for symbol in symbols)

    def build(self, *_: object, **__: object) -> MovingGrid:
        """Move the points with their atoms and evaluate the orbitals there."""
        self.points()
        coords, weights = self.get_partition(
            self.mol, self._table, self.radii_adjust, self.atomic_radii, concat=False
        )
        self.blocks, self.found = [], None
        for atom, points in enumerate(coords):
            volumes = self._table[self.mol.atom_symbol(atom)][1]
            share = weights[atom] / volumes  # both negative at some points of Lebedev's
            kept = share > NO_SHARE
            if atom not in self._memory:
                self._memory[atom] = np.empty(COMPONENTS[self.order] * self.mol.nao * len(volumes))
            orbitals = evaluate(self.mol, points[kept], self.order, self._memory[atom])
            self.blocks.append(
                Block(atom, points[kept], weights[atom][kept], 1 - share[kept], orbitals)
            )
        self.coords = np.concatenate([block.coords for block in self.blocks])
        self.weights = np.concatenate([block.weights for block in self.blocks])
        return self

    def weight_gradient(self, values: list[np.ndarray]) -> np.ndarray:
        """Return the gradient ``[N, 3]`` of the sum of weights times values of all points.

        The values ``[G]`` of each block are held fixed; the points move with their atoms (Johnson,
        Gill and Pople, J. Chem. Phys. 98, 5612 (1993), here by reverse differentiation).
        """
        nuclei = self.mol.atom_coords()
        gradient = np.zeros_like(nuclei)
        along = np.zeros(len(self._shift))
        for block, value in zip(self.blocks, values, strict=True):
            weighted = block.weights * value
            kept = np.abs(weighted) * block.foreign > NO_PULL
            coords, weighted = block.coords[kept], weighted[kept]
            for chunk in _chunks(len(coords)):
                self._add_gradient(
                    gradient, along, nuclei, block.atom, coords[chunk], weighted[chunk]
                )
        first, second = self._pairs
        towards = nuclei[first] - nuclei[second]
        push = (along / (towards**2).sum(1))[:, None] * towards
        np.add.at(gradient, first, -push)
        np.add.at(gradient, second, push)
        return gradient

    def _add_gradient(
        self,
        gradient: np.ndarray,
        along: np.ndarray,
        nuclei: np.ndarray,
        owner: int,
        coords: np.ndarray,
        weighted: np.ndarray,
    ) -> None:
        """Add what some points contribute through their distances from the nuclei.

        What they contribute through the distances between nuclei is added to ``along [P]``.
        """
        first, second = self._pairs
        apart = coords - nuclei[:, None]
        distance = np.sqrt(np.einsum("ngx,ngx->ng", apart, apart))
        separation = np.linalg.norm(nuclei[first] - nuclei[second], axis=1)[:, None]
        mu = (distance[first] - distance[second]) / separation
        shift = self._shift[:, None]
        one = mu + shift * (1 - mu * mu)
        two = (1.5 - 0.5 * one * one) * one
        three = (1.5 - 0.5 * two * two) * two
        cell = 0.5 - (0.75 - 0.25 * three * three) * three
        shares = np.ones_like(distance)
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            shares[i] *= cell[pair]
            shares[j] *= 1 - cell[pair]
        # With weights proportional to P_owner / Σ_i P_i and P_i = Π_j s_ij, the sum changes by
        # Σ_i pull_i d ln P_i, where pull_i = (δ_i,owner - share_i) × weight × value.
        pull = shares * (-weighted / shares.sum(0))
        pull[owner] += weighted
        tiny = 1e-200  # where a cell function has vanished, so has the pull
        slope = (-27 / 16) * (1 - three * three) * (1 - two * two) * (1 - one * one)
        slope *= pull[first] / (cell + tiny) - pull[second] / (1 - cell + tiny)
        slope *= (1 - 2 * shift * mu) / separation
        along += np.einsum("pg,pg->p", slope, mu) * separation[:, 0]
        radial = np.zeros_like(distance)
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            radial[i] += slope[pair]
            radial[j] -= slope[pair]
        radial[owner] = 0.0  # the distance from the atom that carries the point is fixed
        distance[owner] = 1.0
        force = np.einsum("ng,ngx->nx", radial / distance, apart)
        gradient -= force
        gradient[owner] += force.sum(0)


def _size(number: int, level: int, radial: float) -> tuple[int, int]:
    """Return the numbers of radial and angular points of an element."""
    period = int(np.searchsorted(NOBLE_GASES, number))
    points = round(radial * RAD_GRIDS[level, period])
    return points, LEBEDEV_ORDER[int(ANG_ORDER[level, period])]


def evaluate(mol: gto.Mole, coords: np.ndarray, order: int, memory: np.ndarray) -> np.ndarray:
    """Return the basis functions and derivatives up to an order, ``[C, K, G]``, in given memory."""
    kind = "cart" if mol.cart else "sph"
    values = mol.eval_gto(f"GTOval_{kind}_deriv{order}", coords, out=memory)
    return (values if order else values[None]).transpose(0, 2, 1)


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))
