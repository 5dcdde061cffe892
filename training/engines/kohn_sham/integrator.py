"""Exchange and correlation by numerical integration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf.dft.numint import NumInt

from training.engines.kohn_sham.grid import COMPONENTS, MovingGrid, evaluate

SECOND = ((4, 5, 6), (5, 7, 8), (6, 8, 9))
"""Where the second derivatives xx, xy, xz; yx, ... are among the ten values of an orbital."""


@dataclass(frozen=True)
class Found:
    """What an integration found at the points of one block.

    Attributes
    ----------
    psi
        Occupied orbitals ``[C, O, G]``.
    energies
        Energy of exchange and correlation in hartree/bohr³, ``[G]``.
    slopes
        Its derivatives by density, density gradient and kinetic energy density, times the weights,
        ``[1, 4 or 5, G]``.
    """

    psi: np.ndarray
    energies: np.ndarray
    slopes: np.ndarray


class Integrator(NumInt):
    """PySCF's numerical integration, for small molecules in motion.

    All basis functions count as nonzero everywhere, so that all is products of dense matrices, and
    their values are those that the grid keeps between iterations. Closed shells only.
    """

    def nr_rks(
        self, mol: Any, grids: Any, xc_code: str, dms: np.ndarray, *rest: Any, **options: Any
    ) -> tuple[float, float, np.ndarray]:
        """Return the number of electrons, the energy (hartree) and its potential ``[K, K]``."""
        if not isinstance(grids, MovingGrid):
            return super().nr_rks(mol, grids, xc_code, dms, *rest, **options)
        potential = np.zeros((mol.nao, mol.nao))
        kind = self._xc_type(xc_code)
        electrons = energy = 0.0
        if kind == "HF":
            return electrons, energy, potential
        coefficients, occupations = orbitals_of(dms)
        found = []
        components = COMPONENTS[0 if kind == "LDA" else 1]
        for block in grids.blocks:
            basis = block.orbitals[:components]
            psi = coefficients.T @ basis
            density = _density(psi, occupations, kind)
            each, slopes = self.eval_xc_eff(xc_code, density, deriv=1, xctype=kind, spin=0)[:2]
            electrons += density[0] @ block.weights
            energies = density[0] * each
            energy += energies @ block.weights
            slopes *= block.weights
            halved = slopes[:components].copy()
            halved[0] *= 0.5  # as the transpose is added below
            product = np.einsum("xmg,xg->mg", basis, halved)
            potential += basis[0] @ product.T
            if kind == "MGGA":
                for x in (1, 2, 3):
                    potential += basis[x] @ (basis[x] * (0.25 * slopes[4])).T
            found.append(Found(psi, energies, slopes))
        grids.found = coefficients * occupations, found
        return electrons, energy, potential + potential.T

    def gradient(self, grid: MovingGrid, xc_code: str) -> np.ndarray:
        """Return the gradient ``[N, 3]`` in hartree/bohr of the energy last integrated on a grid.

        The density matrix is held fixed.
        Basis functions and grid points move with their atoms and the weights change. The energy
        depends on the orbitals through Σ_g D_mn (a φ_m φ_n + b·φ_m ∇φ_n), whence the derivative
        of each function meets ``D (a φ + b·∇φ)``, and its second derivatives meet ``b D φ``.
        """
        kind = self._xc_type(xc_code)
        mol = grid.mol
        gradient = np.zeros((mol.natm, 3))
        if kind == "HF":
            return gradient
        occupied, found = grid.found
        by_function = np.zeros((3, mol.nao))
        order = 1 if kind == "LDA" else 2
        if grid.order < order:
            largest = max(len(block.weights) for block in grid.blocks)
            memory = np.empty(COMPONENTS[order] * mol.nao * largest)
        for block, at in zip(grid.blocks, found, strict=True):
            basis = block.orbitals
            if grid.order < order:
                basis = evaluate(mol, block.coords, order, memory)
            psi, slopes = at.psi, at.slopes
            meeting = occupied @ np.einsum("xog,xg->og", psi, slopes[: len(psi)])
            shift = np.einsum("xmg,mg->xm", basis[1:4], meeting)
            for y in range(1, len(psi)):
                second = psi[0] * slopes[y]
                if kind == "MGGA":
                    second += psi[y] * (0.5 * slopes[4])
                meeting = occupied @ second
                for x in range(3):
                    shift[x] += np.einsum("mg,mg->m", basis[SECOND[x][y - 1]], meeting)
            by_function -= 2 * shift
            gradient[block.atom] += 2 * shift.sum(1)
        for atom, (_, _, start, stop) in enumerate(mol.aoslice_by_atom()):
            gradient[atom] += by_function[:, start:stop].sum(1)
        return gradient + grid.weight_gradient([at.energies for at in found])


def orbitals_of(density_matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return orbitals ``[K, O]`` and occupations ``[O]`` that make up a density matrix."""
    coefficients = getattr(density_matrix, "mo_coeff", None)
    if coefficients is None:
        occupations, coefficients = np.linalg.eigh(density_matrix)
    else:
        occupations = density_matrix.mo_occ
    kept = np.abs(occupations) > 1e-12
    return np.ascontiguousarray(coefficients[:, kept]), occupations[kept]


def _density(psi: np.ndarray, occupations: np.ndarray, kind: str) -> np.ndarray:
    """Return density, its gradient and kinetic energy density, as far as the kind has them."""
    density = np.einsum("og,xog->xg", psi[0] * occupations[:, None], psi)
    density[1:] *= 2
    if kind == "MGGA":
        kinetic = 0.5 * np.einsum("o,xog,xog->g", occupations, psi[1:], psi[1:])
        density = np.vstack([density, kinetic])
    return density
