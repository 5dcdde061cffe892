"""Exchange and correlation on a grid whose orbital values are kept between iterations."""

from __future__ import annotations

import numpy as np
from pyscf import gto
from pyscf.dft.numint import NumInt

from training.kohn_sham.grid import MovingGrid

COMPONENTS = {0: 1, 1: 4, 2: 10}
SECOND = ((4, 5, 6), (5, 7, 8), (6, 8, 9))
"""Where PySCF's second derivatives of an orbital are: xx, xy, xz; yx, ..."""


class DenseIntegrator(NumInt):
    """PySCF's numerical integration for small molecules in motion.

    Orbitals are taken as nonzero everywhere, so that all is products of dense matrices, and their
    values on the grid are computed once for each geometry.
    """

    def __init__(self, grid: MovingGrid) -> None:
        super().__init__()
        self.grid = grid
        self._memory = []

    def place(self, molecule: gto.Mole, xc: str) -> None:
        self.kind = self._xc_type(xc)
        self.molecule = molecule
        self.nuclei = molecule.atom_coords()
        self.blocks = self.grid.place(self.nuclei)
        self._order = 0 if self.kind == "LDA" else 1
        self._values = []
        for i, block in enumerate(self.blocks):
            if i == len(self._memory):
                self._memory.append(
                    np.empty((COMPONENTS[self._order], molecule.nao, len(block.weights)))
                )
            self._values.append(self._evaluate(block.coords, self._order, self._memory[i]))

    def _evaluate(
        self, coords: np.ndarray, order: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Return orbitals and derivatives ``[C, K, G]``."""
        if out is not None:
            out = out.ravel()
        ao = self.molecule.eval_gto(f"GTOval_sph_deriv{order}", coords, out=out)
        return (ao if order else ao[None]).transpose(0, 2, 1)

    def nr_rks(self, mol, grids, xc_code, dms, *args, **kw):
        density = np.asarray(dms)
        coeff, occ = _orbitals(dms)
        nel = exc = 0.0
        pot = np.zeros_like(density)
        for block, ao in zip(self.blocks, self._values, strict=True):
            psi = coeff.T @ ao
            rho = _rho(psi, occ, self.kind)
            e, v = self.eval_xc_eff(xc_code, rho, deriv=1, xctype=self.kind, spin=0)[:2]
            den = (rho if self.kind == "LDA" else rho[0]) * block.weights
            nel += den.sum()
            exc += den @ e
            wv = v * block.weights
            wv[0] *= 0.5
            aow = ao[0] * wv[0]
            if self.kind != "LDA":
                for x in (1, 2, 3):
                    aow += ao[x] * wv[x]
            if self.kind == "MGGA":
                for x in (1, 2, 3):
                    pot += ao[x] @ (ao[x] * (0.25 * wv[4])).T
            pot += ao[0] @ aow.T
        pot = pot + pot.T
        return nel, exc, pot

    def gradient(self, xc, dm):
        coeff, occ = _orbitals(dm)
        weighted = coeff * occ
        natm = len(self.nuclei)
        grad = np.zeros((natm, 3))
        per_orbital = np.zeros((self.molecule.nao, 3))
        energies = []
        buffer = np.empty(
            max(len(b.weights) for b in self.blocks)
            * COMPONENTS[self._order + 1]
            * self.molecule.nao
        )
        for block, ao1 in zip(self.blocks, self._values, strict=True):
            ao = self._evaluate(block.coords, self._order + 1, buffer)
            psi = coeff.T @ ao1
            rho = _rho(psi, occ, self.kind)
            e, v = self.eval_xc_eff(xc, rho, deriv=1, xctype=self.kind, spin=0)[:2]
            energies.append((rho if self.kind == "LDA" else rho[0]) * e)
            wv = v * block.weights
            wv[0] *= 0.5
            if self.kind == "LDA":
                y = weighted @ (psi[0] * (2 * wv[0]))
                local = np.stack([np.einsum("mg,mg->m", ao[x], y) for x in (1, 2, 3)], 1)
            else:
                # Σ_g ∂xφ (D (w0 φ + Σ wy ∂yφ)) + Σ_y wy ∂x∂yφ (Dφ)
                y = weighted @ (
                    2 * wv[0] * psi[0] + wv[1] * psi[1] + wv[2] * psi[2] + wv[3] * psi[3]
                )
                local = np.stack([np.einsum("mg,mg->m", ao[x], y) for x in (1, 2, 3)], 1)
                for k in range(3):
                    p = psi[0] * wv[1 + k]
                    if self.kind == "MGGA":
                        p += psi[1 + k] * (0.5 * wv[4])
                    z = weighted @ p
                    for x in range(3):
                        local[:, x] += np.einsum("mg,mg->m", ao[SECOND[x][k]], z)
            per_orbital -= 2 * local
            grad[block.atom] += 2 * local.sum(0)
        for a, (_, _, p0, p1) in enumerate(self.molecule.aoslice_by_atom()):
            grad[a] += per_orbital[p0:p1].sum(0)
        return grad + self.grid.weight_gradient(self.nuclei, self.blocks, energies)


def _orbitals(dm):
    c = getattr(dm, "mo_coeff", None)
    if c is not None:
        occ = dm.mo_occ
        kept = occ > 0
        return np.ascontiguousarray(c[:, kept]), occ[kept]
    n, c = np.linalg.eigh(dm)
    kept = abs(n) > 1e-12
    return np.ascontiguousarray(c[:, kept]), n[kept]


def _rho(psi, occ, kind):
    first = psi[0] * occ[:, None]
    if kind == "LDA":
        return np.einsum("og,og->g", first, psi[0])
    rho = np.empty((4 if kind == "GGA" else 5, psi.shape[2]))
    rho[0] = np.einsum("og,og->g", first, psi[0])
    for x in (1, 2, 3):
        rho[x] = 2 * np.einsum("og,og->g", first, psi[x])
    if kind == "MGGA":
        rho[4] = 0.5 * np.einsum("xog,xog,o->g", psi[1:], psi[1:], occ)
    return rho
