"""ASE calculators by name: ``gfn2``, ``pyscf:pbe/def2-svp``, or any class of any module."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from ase_atom.errors import ConfigError
from ase_atom.molecules.atoms import total_charge

XTB = {"gfn2": "GFN2-xTB", "gfn1": "GFN1-xTB"}
ACCURACY = 0.1
"""tblite's accuracy: ten times tighter than its default, for forces smooth enough for dynamics."""


def make_calculator(name: str, what: str = "energy") -> Calculator:
    """Return an ASE calculator.

    Parameters
    ----------
    name
        ``gfn2`` or ``gfn1`` (through tblite), ``pyscf:<functional>/<basis>``, or any other ASE
        calculator as ``<module>:<class>``, made without arguments.
    what
        What it is for, in messages.

    Raises
    ------
    ConfigError
        If there is no such calculator or its program is not installed.
    """
    if name in XTB:
        tblite = load_class("tblite.ase", "TBLite", f"{what} {name}", "pip install tblite")
        made: Calculator = tblite(method=XTB[name], verbosity=0, accuracy=ACCURACY)
        return made
    if name.startswith("pyscf:"):
        functional, basis = functional_and_basis(name, what)
        load_class("pyscf", "gto", f"{what} {name}", "pip install pyscf")
        return KohnSham(functional, basis)
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise ConfigError(
            f"unknown {what} {name!r}: there are {', '.join(XTB)}, pyscf:<functional>/<basis>, "
            "and any ASE calculator as <module>:<class>"
        )
    kind = load_class(module, attribute, f"{what} {name}", "check its name")
    try:
        other: Calculator = kind()
        return other
    except Exception as error:  # calculators raise whatever they miss, a program's path for one
        raise ConfigError(f"{what} {name} cannot be made without arguments ({error})") from error


def makes_anew(name: str) -> bool:
    """Whether a calculator costs nothing to make, and begins with the geometry before if kept."""
    return name in XTB or name.startswith("pyscf:")


def functional_and_basis(name: str, what: str) -> tuple[str, str]:
    """Functional and basis of a name such as ``pyscf:pbe/def2-svp``; what it names is told."""
    functional, _, basis = name.removeprefix("pyscf:").partition("/")
    if not (functional and basis):
        raise ConfigError(
            f"{what} {name!r} should be pyscf:<functional>/<basis>, such as pyscf:pbe/def2-svp"
        )
    return functional, basis


def load_class(module: str, attribute: str, what: str, remedy: str) -> Any:
    """Whatever a module has under a name.

    Parameters
    ----------
    module, attribute
        Of Python.
    what, remedy
        What is missing if it cannot be had, and what helps.

    Raises
    ------
    ConfigError
        If the module cannot be imported, or has nothing of that name.
    """
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(f"{what} cannot be imported ({error}): {remedy}") from error
    except AttributeError as error:
        raise ConfigError(f"{what}: {module} has no {attribute}") from error


class KohnSham(Calculator):
    """Restricted Kohn-Sham energies and forces of a closed shell through PySCF.

    Coulomb integrals by density fitting; each calculation starts from the density of the one
    before.

    Parameters
    ----------
    functional, basis
        Names that PySCF knows.
    """

    implemented_properties: list[str] = ["energy", "forces", "dipole"]  # noqa: RUF012 - as ASE has it

    def __init__(self, functional: str, basis: str) -> None:
        super().__init__(functional=functional, basis=basis)
        self._functional, self._basis = functional, basis
        self._density: Any = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute ``energy`` (eV) and, if asked for, ``forces`` (eV/Å) and ``dipole`` (e Å).

        Raises
        ------
        CalculationFailed
            If the self-consistent field does not converge.
        """
        from pyscf import dft, gto

        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # ASE has just set them
        if "numbers" in system_changes:
            self._density = None
        molecule = gto.M(
            atom=list(zip(self.atoms.symbols, self.atoms.positions, strict=True)),
            basis=self._basis,
            charge=total_charge(self.atoms),
            unit="Angstrom",
            verbose=0,
        )
        field = dft.RKS(molecule).density_fit()
        field.xc = self._functional
        field.kernel(dm0=self._density)
        if not field.converged:
            self._density = None
            raise CalculationFailed("the self-consistent field did not converge")
        self._density = field.make_rdm1()
        self.results = {"energy": float(field.e_tot) * units.Hartree}
        if "forces" in properties:
            gradient = field.nuc_grad_method()
            gradient.grid_response = True
            self.results["forces"] = -gradient.kernel() * units.Hartree / units.Bohr
        if "dipole" in properties:
            self.results["dipole"] = field.dip_moment(unit="AU", verbose=0) * units.Bohr
