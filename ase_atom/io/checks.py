"""What is checked before frames are written: times, and that they are of the same atoms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from ase_atom.errors import TrajectoryError
from ase_atom.molecules.topology import formula

if TYPE_CHECKING:
    from ase_atom.io.reader import TrajectoryReader


def check_same_atoms(reader: TrajectoryReader, atoms: Atoms) -> None:
    """Check that frames of these atoms can follow those of a file.

    Raises
    ------
    TrajectoryError
        For another number of atoms, or, where the file says, other elements.
    """
    if reader.atom_count != len(atoms):
        raise TrajectoryError(
            f"{reader.path} holds {reader.atom_count} atoms; frames of {len(atoms)} atoms cannot "
            "be appended"
        )
    known = reader.own_numbers
    if known is not None and not np.array_equal(known, atoms.numbers):
        raise TrajectoryError(
            f"{reader.path} holds {formula(known)}; frames of {formula(atoms.numbers)} cannot "
            "be appended: other elements, or in another order"
        )


def positive(value: float, what: str) -> None:
    """Raise TrajectoryError unless a time is finite and above zero."""
    if not (math.isfinite(value) and value > 0):
        raise TrajectoryError(f"{what} must be above zero, not {value:g} fs")
