"""What an `ase.Atoms` says of the molecule that it holds; all else here takes arrays."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCom

from ase_atom.errors import CoverageError
from ase_atom.molecules.structure import Structure, check_elements, check_finite, check_one
from ase_atom.molecules.topology import numbered_names
from ase_atom.molecules.whole import is_cut

STATED = ("charge", "spin", "multiplicity")
"""What ``atoms.info`` may state of the electrons, beside the charges and moments of the atoms."""

_ROUNDING = 0.05  # e, by which partial charges in a file may miss a whole charge


def total_charge(atoms: Atoms) -> int:
    """Return the charge in e that the atoms state: ``info["charge"]``, else their charges' sum.

    Raises
    ------
    CoverageError
        If it is stated, but is no whole number.
    """
    stated = atoms.info.get("charge", float(atoms.get_initial_charges().sum()))
    try:
        charge = float(stated)
    except (TypeError, ValueError) as error:
        raise CoverageError(f"the structure's total charge is {stated!r}, not a number") from error
    if not math.isfinite(charge) or abs(charge - round(charge)) > _ROUNDING:
        where = 'atoms.info["charge"]' if "charge" in atoms.info else "sum of its atoms' charges"
        raise CoverageError(
            f"the structure's total charge ({where}) is {charge:g}, not a whole number"
        )
    return round(charge)


def stated_charge(atoms: Atoms) -> int | None:
    """Return the total charge in e if the atoms state one, and it is a whole number; else None."""
    if "charge" not in atoms.info and not atoms.has("initial_charges"):
        return None
    try:
        return total_charge(atoms)
    except CoverageError:  # partial charges of a force field, say
        return None


def set_charge(atoms: Atoms, charge: int) -> None:
    """State a total charge in e, in ``info`` and, for calculators that add them up, by atom."""
    atoms.info["charge"] = charge
    atoms.set_initial_charges(np.full(len(atoms), charge / len(atoms)))


def open_shell(atoms: Atoms) -> str | None:
    """Return what the atoms state that no closed shell has, if anything.

    A spin of 0 is one of unpaired electrons, and a spin or multiplicity of 1 a singlet's.
    """
    if np.any(atoms.get_initial_magnetic_moments()):
        return "magnetic moments"
    for key, closed in (("spin", (0, 1)), ("multiplicity", (1,))):
        if key in atoms.info and atoms.info[key] not in closed:
            return f'atoms.info["{key}"] = {atoms.info[key]}'
    return None


def structure_of(atoms: Atoms) -> Structure:
    """Return the molecule that the atoms are.

    Raises
    ------
    CoverageError
        If its total charge is no whole number.
    """
    return Structure(
        atoms.numbers, atoms.positions, atoms.get_masses(), total_charge(atoms), open_shell(atoms)
    )


def atom_names(atoms: Atoms) -> list[str]:
    """Return the atoms' names, as they stand in a PDB file of the molecule.

    Those of the PDB file that it was read from, if they are distinct; else the element and a count:
    C1, C2, O1, H1, …
    """
    own = [str(name).strip() for name in atoms.arrays.get("atomtypes", ())]
    if own and all(own) and len(set(own)) == len(own):
        return own
    return numbered_names(atoms.numbers)


def check_isolated(atoms: Atoms) -> None:
    """Check that the atoms are one finite molecule.

    Raises
    ------
    CoverageError
        For no atoms, unknown elements, non-finite coordinates, a periodic cell or a molecule that
        a cell has cut, constraints other than ``FixCom``, or several molecules.
    """
    check_elements(atoms.numbers)
    check_finite("position", atoms.numbers, atoms.positions)
    check_finite("velocity", atoms.numbers, atoms.get_velocities())
    if atoms.pbc.any():
        raise CoverageError(
            "the structure has a periodic cell; operators are for isolated molecules: remove it "
            "with atoms.pbc = False, in the shell with ase convert -e 'atoms.pbc = False' FILE "
            "NEW.xyz"
        )
    if is_cut(atoms.numbers, atoms.positions, atoms.cell.array):
        raise CoverageError(
            "the molecule is cut by the walls of its cell: join it with atoms.wrap(pbc=True, "
            "center=atoms.get_scaled_positions()[0]) if it is smaller than half the cell, in the "
            "shell with ase convert -e '...' FILE NEW.xyz"
        )
    fixes_centre_of_mass(atoms)
    check_one(atoms.numbers, atoms.positions)


def fixes_centre_of_mass(atoms: Atoms) -> bool:
    """Say whether the atoms' constraints fix the centre of mass, and nothing else.

    Raises
    ------
    CoverageError
        For any other constraint: a molecule with fixed atoms, lengths or planes moves in ways that
        no operator has learned, and moving it back afterwards would be another dynamics.
    """
    fixed = False
    for constraint in atoms.constraints:
        if isinstance(constraint, FixCom):
            fixed = True
        elif not (isinstance(constraint, FixAtoms) and len(constraint.index) == 0):
            raise CoverageError(
                f"the constraint {type(constraint).__name__} cannot be kept: operators are trained "
                "on molecules that move freely; only FixCom is supported, atoms.set_constraint() "
                "removes the others"
            )
    return fixed
