"""A structure as arrays, and the checks that it is one molecule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ase_atom.errors import CoverageError
from ase_atom.molecules.lengths import neighbour_ratio, other_unit
from ase_atom.molecules.topology import atom_label, formula, fragments


@dataclass(frozen=True, eq=False)
class Structure:
    """What decides whether an operator was trained for a molecule: its atoms and electrons.

    Parameters
    ----------
    numbers
        Atomic numbers, ``[N]``.
    positions
        Å, ``[N, 3]``.
    masses
        amu, ``[N]``.
    charge
        Total charge in e.
    open_shell
        What says that electrons are unpaired, such as ``magnetic moments``; None for a closed
        shell.
    """

    numbers: NDArray[np.integer]
    positions: NDArray[np.floating]
    masses: NDArray[np.floating]
    charge: int = 0
    open_shell: str | None = None

    @property
    def formula(self) -> str:
        """Chemical formula in Hill's order."""
        return formula(self.numbers)


def check_elements(numbers: NDArray[np.integer]) -> None:
    """Check that there are atoms, and that each is of an element.

    Raises
    ------
    CoverageError
        If not.
    """
    if len(numbers) == 0:
        raise CoverageError("the structure holds no atoms")
    if (numbers < 1).any():
        index = int(np.flatnonzero(numbers < 1)[0])
        raise CoverageError(f"atom {index} is of no known element")


def check_finite(name: str, numbers: NDArray[np.integer], values: NDArray[np.floating]) -> None:
    """Check that a vector of each atom, ``[N, 3]``, is finite.

    Raises
    ------
    CoverageError
        With the name of the vector and of the first atom for which it is not.
    """
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise CoverageError(f"the {name} of atom {atom_label(numbers, index)} is not finite")


def check_one(numbers: NDArray[np.integer], positions: NDArray[np.floating]) -> None:
    """Check that atoms, at positions in Å, are one molecule.

    Raises
    ------
    CoverageError
        If they are several, or their distances are those of another unit.
    """
    parts = fragments(numbers, positions)
    ratio = neighbour_ratio(numbers, positions)
    what = other_unit(ratio)
    if what is not None and (len(parts) > 1 or ratio < 1):
        raise CoverageError(
            f"nearest neighbours are {ratio:.2g} times as far apart as bonded atoms are: the "
            f"positions seem to be in {what}"
        )
    if len(parts) > 1:
        formulas = ", ".join(formula(numbers[part]) for part in parts[:4])
        more = ", …" if len(parts) > 4 else ""
        raise CoverageError(
            f"the structure holds {len(parts)} molecules ({formulas}{more}); "
            "operators move one molecule at a time"
        )
