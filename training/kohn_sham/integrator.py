"""Exchange and correlation by numerical integration."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyscf.dft.numint import NumInt

from training.kohn_sham.grid import COMPONENTS, MovingGrid, evaluate

SECOND = ((4, 5, 6), (5, 7, 8), (6, 8, 9))
"""Where the second derivatives xx, xy, xz; yx, ... are among the ten values of an orbital."""


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
        components = COMPONENTS[0 if kind == "LDA" else 1]
        for block in grids.blocks:
            basis = block.orbitals[:components]
            density = _density(coefficients.T @ basis, occupations, kind)
            each, slopes = self.eval_xc_eff(xc_code, density, deriv=1, xctype=kind, spin=0)[:2]
            charge = density[0] * block.weights
            electrons += charge.sum()
            energy += charge @ each
            slopes *= block.weights
            # Half, as the transpose is added below.
            product = basis[0] * (0.5 * slopes[0])
            for x in range(1, min(len(slopes), 4)):
                product += basis[x] * slopes[x]
            potential += basis[0] @ product.T
            if kind == "MGGA":
                for x in (1, 2, 3):
                    potential += basis[x] @ (basis[x] * (0.25 * slopes[4])).T
        return electrons, energy, potential + potential.T

    def gradient(self, grid: MovingGrid, xc_code: str, density_matrix: np.ndarray) -> np.ndarray:
        """Return the gradient ``[N, 3]`` of the energy in hartree/bohr at fixed density matrix.

        Basis functions and grid points move with their atoms and the weights change. The energy
        depends on the orbitals through Σ_g D_mn (a φ_m φ_n + b·φ_m ∇φ_n), whence the derivative
        of each function meets ``D (a φ + b·∇φ)``, and its second derivatives meet ``D φ``.
        """
        kind = self._xc_type(xc_code)
        mol = grid.mol
        gradient = np.zeros((mol.natm, 3))
        if kind == "HF":
            return gradient
        coefficients, occupations = orbitals_of(density_matrix)
        occupied = coefficients * occupations
        by_function = np.zeros((mol.nao, 3))
        energies = []
        order = 1 if kind == "LDA" else 2
        if grid.order < order:
            largest = max(len(block.weights) for block in grid.blocks)
            memory = np.empty(COMPONENTS[order] * mol.nao * largest)
        for block in grid.blocks:
            basis = block.orbitals
            psi = coefficients.T @ basis[: COMPONENTS[order - 1]]
            if grid.order < order:
                basis = evaluate(mol, block.coords, order, memory)
            density = _density(psi, occupations, kind)
            each, slopes = self.eval_xc_eff(xc_code, density, deriv=1, xctype=kind, spin=0)[:2]
            energies.append(density[0] * each)
            slopes *= block.weights
            first = psi[0] * slopes[0]
            for x in range(1, min(len(slopes), 4)):
                first += psi[x] * slopes[x]
            meeting = occupied @ first
            shift = np.stack([_sums(basis[x], meeting) for x in (1, 2, 3)], axis=1)
            for y in range(1, min(len(slopes), 4)):
                second = psi[0] * slopes[y]
                if kind == "MGGA":
                    second += psi[y] * (0.5 * slopes[4])
                meeting = occupied @ second
                for x in range(3):
                    shift[:, x] += _sums(basis[SECOND[x][y - 1]], meeting)
            by_function -= 2 * shift
            gradient[block.atom] += 2 * shift.sum(0)
        for atom, (_, _, start, stop) in enumerate(mol.aoslice_by_atom()):
            gradient[atom] += by_function[start:stop].sum(0)
        return gradient + grid.weight_gradient(energies)


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
    weighted = psi[0] * occupations[:, None]
    rows = [np.einsum("og,og->g", weighted, psi[0])]
    if kind != "LDA":
        rows += [2 * np.einsum("og,og->g", weighted, psi[x]) for x in (1, 2, 3)]
    if kind == "MGGA":
        rows.append(0.5 * np.einsum("o,xog,xog->g", occupations, psi[1:], psi[1:]))
    return np.stack(rows)


def _sums(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("mg,mg->m", one, other)
