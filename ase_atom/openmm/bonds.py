"""Bonds by which OpenMM knows which atoms are one molecule."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import openmm

BONDS_NAME = "ATOMMolecule"
"""Name of the force that holds the bonds."""


def molecule_bonds(atoms: Iterable[int]) -> openmm.HarmonicBondForce:
    """Return bonds of zero strength that make one molecule of some atoms.

    OpenMM finds molecules by the bonds of a System's forces, and moves whole molecules when it
    wraps positions into the periodic box or scales the box. A `openmm.PythonForce` has no bonds.
    The bonds join the atoms in their order: which of them are chemical bonds is no matter here.

    Parameters
    ----------
    atoms
        Indices of the molecule's atoms.
    """
    bonds = openmm.HarmonicBondForce()
    bonds.setName(BONDS_NAME)
    for first, second in pairwise(atoms):
        bonds.addBond(first, second, 0.0, 0.0)
    return bonds
