"""Total charges of molecules."""

from __future__ import annotations

import math

from ase import Atoms

from ase_atom.errors import CoverageError

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
