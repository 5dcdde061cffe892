"""Coulomb repulsion by density fitting."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.linalg
from pyscf import df, gto, lib

DEPENDENT = 1e-9
"""Eigenvalues of the metric below which combinations of fitting functions are left out."""

LARGEST = 8_000_000
"""Most derivatives of integrals (numbers, not bytes) in memory at a time."""


class Fitting(df.DF):
    """PySCF's density fitting, which follows the molecule and reuses its integrals for gradients.

    Parameters
    ----------
    mol
        Whose positions may change.
    auxbasis
        The auxiliary basis.
    """

    def __init__(self, mol: gto.Mole, auxbasis: str | None) -> None:
        super().__init__(mol, auxbasis)
        self.auxmol = df.addons.make_auxmol(mol, auxbasis)

    def build(self) -> Fitting:
        """Compute the integrals for where the molecule is now."""
        if self.mol.omega:  # range-separated copies, which gradients here do not use
            return super().build()
        self.auxmol.set_geom_(self.mol.atom_coords(), unit="Bohr")
        self._rsh_df = {}
        self._root = _inverse_root(self.auxmol.intor("int2c2e"))
        integrals = df.incore.aux_e2(self.mol, self.auxmol, "int3c2e", aosym="s2ij")
        self._cderi = self._root @ integrals.T
        return self

    def gradient(self, density_matrix: np.ndarray) -> np.ndarray:
        """Return the gradient ``[N, 3]`` of the Coulomb energy at fixed density matrix.

        The derivative of an integral (mn|P) by the place of P is minus that by the places of m
        and n, so that derivatives by m alone are enough.
        """
        mol, auxmol = self.mol, self.auxmol
        folded = lib.pack_tril(2 * density_matrix)
        diagonal = np.arange(1, mol.nao + 1).cumsum() - 1
        folded[diagonal] *= 0.5
        fit = self._root.T @ (self._cderi @ folded)
        potential = np.zeros((3, mol.nao * mol.nao))
        pull = np.empty((3, auxmol.nao))
        flat = np.ascontiguousarray(density_matrix).reshape(-1)
        for start, stop in _shells(auxmol, 3 * mol.nao**2):
            part = slice(auxmol.ao_loc[start], auxmol.ao_loc[stop])
            derivatives = df.incore.aux_e2(
                mol,
                auxmol,
                "int3c2e_ip1",
                aosym="s1",
                comp=3,
                shls_slice=(0, mol.nbas, 0, mol.nbas, start, stop),
            )
            for x in range(3):
                rows = derivatives[x].transpose(2, 1, 0).reshape(part.stop - part.start, -1)
                potential[x] += fit[part] @ rows
                pull[x, part] = fit[part] * (rows @ flat)
        by_function = 2 * (potential.reshape(3, mol.nao, mol.nao) * density_matrix).sum(1)
        metric = auxmol.intor("int2c2e_ip1")
        by_fit = 2 * pull + fit * (metric @ fit)
        gradient = np.empty((mol.natm, 3))
        ranges = zip(mol.aoslice_by_atom(), auxmol.aoslice_by_atom(), strict=True)
        for atom, ((_, _, start, stop), (_, _, first, last)) in enumerate(ranges):
            gradient[atom] = by_fit[:, first:last].sum(1) - by_function[:, start:stop].sum(1)
        return gradient


def _inverse_root(metric: np.ndarray) -> np.ndarray:
    """Return a matrix whose transpose times itself is the inverse of the metric."""
    try:
        factor = scipy.linalg.cholesky(metric, lower=True)
    except scipy.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(metric)
        kept = values > DEPENDENT
        return (vectors[:, kept] / np.sqrt(values[kept])).T
    return scipy.linalg.solve_triangular(factor, np.eye(len(metric)), lower=True)


def _shells(auxmol: gto.Mole, each: int) -> list[tuple[int, int]]:
    """Cut the auxiliary shells into ranges whose integrals fit the memory."""
    ends = [0]
    for shell in range(auxmol.nbas):
        if (auxmol.ao_loc[shell + 1] - auxmol.ao_loc[ends[-1]]) * each > LARGEST:
            ends.append(max(shell, ends[-1] + 1))
    ends.append(auxmol.nbas)
    return [(a, b) for a, b in itertools.pairwise(ends) if b > a]
