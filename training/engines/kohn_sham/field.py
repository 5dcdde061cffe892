"""The self-consistent field of a molecule along its path, and the forces."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyscf import dft, gto, lib
from pyscf.df.grad import rks as fitted_gradient
from pyscf.grad import rks as plain_gradient

from training.engines.kohn_sham.coulomb import Fitting
from training.engines.kohn_sham.grid import COMPONENTS, MovingGrid
from training.engines.kohn_sham.history import History
from training.engines.kohn_sham.integrator import Integrator

CYCLES = 20
"""Fock matrices on the full grid before giving up; along a path two are the rule."""

REMEMBERED = 1e-6
"""Residual (hartree) above which orbitals are improved for the history: it magnifies errors."""

INNER_CYCLES = 20
INNER_REDUCTION = 0.03
"""How far the coarse grid's own iterations reduce the residual before the full grid is asked."""

RADIAL = 0.6
"""Part of PySCF's radial points on the full grid, the angular ones being worth no more."""

COARSE = {"level": 0, "radial": 0.6}

MEMORY = 2e9
"""Bytes for orbital values on the grid, above which second derivatives are not kept."""


class NotConverged(Exception):
    """The self-consistent field did not converge."""


class Field:
    """Restricted Kohn-Sham energies and gradients of one molecule, place after place.

    The first guess comes from the places before (`History`). Each Fock matrix on the full grid then
    serves to improve the orbitals in many cheap iterations: a coarse grid stands for how the
    potential changes with the density, while its value comes from the full grid. As the coarse
    grid is wrong by about a per cent at most, two full Fock matrices usually do: one to correct
    the guess, one to see that it is correct, which serves the forces, too.

    Parameters
    ----------
    molecule
        Elements and basis; the positions are those of the calls.
    functional
        PySCF's name.
    auxbasis
        For the density fitting.
    level
        PySCF's level of the grid.
    tolerance
        Norm in hartree of the Fock matrix between occupied and virtual orbitals at which the field
        has converged.

    Attributes
    ----------
    residuals
        Those of the last calculation's full Fock matrices.
    """

    def __init__(
        self, molecule: gto.Mole, functional: str, auxbasis: Any, level: int, tolerance: float
    ) -> None:
        self.molecule = molecule
        self.functional = functional
        self.tolerance = tolerance
        self.residuals: list[float] = []
        self._integrator = Integrator()
        self._fitting = Fitting(molecule, auxbasis)
        order = 0 if self._integrator._xc_type(functional) == "LDA" else 1
        self._coarse = MovingGrid(molecule, order=order, **COARSE)
        self._full = MovingGrid(molecule, level, order, RADIAL)
        if 8 * COMPONENTS[order + 1] * molecule.nao * self._full.points() < MEMORY:
            self._full.order += 1
        self._history = History()

    def solve(self, coords: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the energy in hartree and its gradient ``[N, 3]`` in hartree/bohr.

        Parameters
        ----------
        coords
            Positions ``[N, 3]`` in bohr.

        Raises
        ------
        NotConverged
            If the field does not converge, neither from the history nor from scratch.
        """
        self.molecule.set_geom_(coords, unit="Bohr")
        self._fitting.build()
        self._full.build()
        self._coarse.build()
        field = _Problem(self._mean_field(self._full), self._mean_field(self._coarse))
        guess = self._history.guess(field.overlap)
        if guess is None or not self._converge(field, guess):
            self._history = History()
            if not self._converge(field, field.from_scratch()):
                raise NotConverged(f"residuals of {self.residuals} hartree")
        remembered = field.orbitals
        if self.residuals[-1] > REMEMBERED:
            remembered = field.improved()
        self._history.add(remembered, field.overlap)
        return field.energy(), field.gradient()

    def _converge(self, field: _Problem, orbitals: np.ndarray | None) -> bool:
        self.residuals = []
        while orbitals is not None and len(self.residuals) < CYCLES:
            self.residuals.append(field.take(orbitals))
            if self.residuals[-1] < self.tolerance:
                return True
            orbitals = field.improved()
        return False

    def _mean_field(self, grid: MovingGrid) -> dft.rks.RKS:
        field = dft.RKS(self.molecule, xc=self.functional).density_fit(with_df=self._fitting)
        field.grids = grid
        field.nlcgrids.level = grid.level
        field._numint = self._integrator
        field.chkfile = None
        return field


class _Problem:
    """The Kohn-Sham equations at one place: a full mean field and a coarse one to guide it."""

    def __init__(self, full: dft.rks.RKS, coarse: dft.rks.RKS) -> None:
        self._full, self._coarse = full, coarse
        coarse.nlc = 0  # a small part of the potential, and an expensive one
        self._core = full.get_hcore()
        self.overlap = full.get_ovlp()
        values, vectors = np.linalg.eigh(self.overlap)
        self._orthonormal = vectors / np.sqrt(values)

    def from_scratch(self) -> np.ndarray | None:
        """Return the coarse field's orbitals, None if PySCF's own iterations do not converge."""
        self._coarse.kernel()
        if not self._coarse.converged:
            return None
        return self._coarse.mo_coeff[:, self._coarse.mo_occ > 0]

    def take(self, orbitals: np.ndarray) -> float:
        """Evaluate the full Fock matrix of some occupied orbitals and return its residual."""
        self.orbitals = orbitals
        self._density = _density(orbitals)
        self._potential = self._full.get_veff(dm=self._density)
        self._fock = self._core + self._potential
        return float(np.linalg.norm(self._residual(self._fock, self._density)))

    def improved(self) -> np.ndarray:
        """Return orbitals that suit the full Fock matrix and the coarse grid's changes of it."""
        fixed = self._fock - self._coarse.get_veff(dm=self._density)
        orbitals, density, fock = self.orbitals, self._density, self._fock
        residual = self._residual(fock, density)
        goal = INNER_REDUCTION * np.linalg.norm(residual)
        accelerator = lib.diis.DIIS()
        for _ in range(INNER_CYCLES):
            fock = accelerator.update(fock, xerr=residual)
            vectors = np.linalg.eigh(self._orthonormal.T @ fock @ self._orthonormal)[1]
            orbitals = self._orthonormal @ vectors[:, : orbitals.shape[1]]
            density = _density(orbitals)
            fock = fixed + self._coarse.get_veff(dm=density)
            residual = self._residual(fock, density)
            if np.linalg.norm(residual) < goal:
                break
        return orbitals

    def energy(self) -> float:
        """Return the energy (hartree) of the orbitals last taken."""
        return float(self._full.energy_tot(self._density, self._core, self._potential))

    def gradient(self) -> np.ndarray:
        """Return its gradient ``[N, 3]`` (hartree/bohr)."""
        energies, rotation = np.linalg.eigh(self.orbitals.T @ self._fock @ self.orbitals)
        gradient = _Gradients(self._full)
        gradient.grid_response = True
        occupations = np.full(len(energies), 2.0)
        return np.asarray(gradient.kernel(energies, self.orbitals @ rotation, occupations))

    def _residual(self, fock: np.ndarray, density: np.ndarray) -> np.ndarray:
        """Return the commutator, whose norm is that of the occupied-virtual block of ``fock``."""
        product = self._orthonormal.T @ fock @ density @ self.overlap @ self._orthonormal
        return (product - product.T) / np.sqrt(8)


class _Gradients(fitted_gradient.Gradients):
    """PySCF's gradients, with Coulomb, exchange and correlation terms from here."""

    def get_veff(self, mol: Any = None, dm: Any = None) -> np.ndarray:
        field, integrator, mol = self.base, self.base._numint, self.mol
        by_pair = np.zeros((3, mol.nao, mol.nao))
        by_grid = integrator.gradient(field.grids, field.xc)
        by_fitting = field.with_df.gradient(np.asarray(dm))
        if field.do_nlc():
            nonlocal_ = field.xc if integrator.libxc.is_nlc(field.xc) else field.nlc
            by_points, by_function = plain_gradient.get_nlc_vxc_full_response(
                integrator, mol, field.nlcgrids, nonlocal_, dm
            )
            by_grid += by_points
            by_pair += by_function
        if integrator.libxc.is_hybrid_xc(field.xc):
            omega, long_range, overall = integrator.rsh_and_hybrid_coeff(field.xc, spin=0)
            for part, range_ in ((overall, None), (long_range - overall, omega)):
                if part:
                    exchange = self.get_k(mol, dm, omega=range_)
                    by_pair -= 0.5 * part * exchange
                    by_fitting -= 0.5 * part * exchange.aux.sum((0, 1))
        return lib.tag_array(by_pair, exc1_grid=by_grid, aux=by_fitting)


def _density(orbitals: np.ndarray) -> np.ndarray:
    """Return the density matrix of doubly occupied orbitals, which PySCF finds with it."""
    occupations = np.full(orbitals.shape[1], 2.0)
    return lib.tag_array(2 * orbitals @ orbitals.T, mo_coeff=orbitals, mo_occ=occupations)
