"""Density functional theory through PySCF, as an ASE calculator."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from pyscf import dft, gto


class DensityFunctional(Calculator):
    """Restricted Kohn-Sham energies and forces of a neutral closed-shell molecule.

    Coulomb (and exchange) integrals by density fitting; forces with the response of the grid, so
    that they are the gradient of the energy and dynamics conserve it. Each calculation starts from
    the density matrix of the previous one.

    Parameters
    ----------
    functional
        Any name that PySCF knows: ``pbe``, ``b3lyp``, ``wb97x-d3bj``, ...; ``hf`` for Hartree-Fock.
    basis
        Any basis set that PySCF knows.
    grid_level
        PySCF's level of the integration grid, 0 to 9.
    tolerance
        Energy change in hartree at which the self-consistent field has converged.

    Raises
    ------
    KeyError
        If PySCF does not know the functional.
    """

    implemented_properties = ("energy", "forces")

    def __init__(
        self, functional: str, basis: str, grid_level: int = 3, tolerance: float = 1e-9
    ) -> None:
        super().__init__(
            functional=functional, basis=basis, grid_level=grid_level, tolerance=tolerance
        )
        dft.libxc.parse_xc(functional)
        gto.basis.load(basis, "H")
        self._density: np.ndarray | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute energy (eV) and forces (eV/Å).

        Raises
        ------
        CalculationFailed
            If the self-consistent field does not converge.
        """
        super().calculate(atoms, properties, system_changes)
        if "numbers" in system_changes:
            self._density = None
        field = self._converge(self._density)
        if not field.converged and self._density is not None:
            field = self._converge(None)
        if not field.converged:
            self._density = None
            raise CalculationFailed("the self-consistent field did not converge")
        self._density = field.make_rdm1()
        gradient = field.nuc_grad_method()
        gradient.grid_response = True
        self.results["energy"] = float(field.e_tot) * units.Hartree
        self.results["forces"] = -np.asarray(gradient.kernel()) * units.Hartree / units.Bohr

    def _converge(self, density: np.ndarray | None) -> Any:
        molecule = gto.M(
            atom=list(zip(self.atoms.symbols, self.atoms.positions, strict=True)),
            basis=self.parameters.basis,
            unit="Angstrom",
            verbose=0,
        )
        field = dft.RKS(molecule).density_fit()
        field.xc = self.parameters.functional
        field.grids.level = self.parameters.grid_level
        field.conv_tol = self.parameters.tolerance
        field.kernel(dm0=density)
        return field
