"""The molecule that an operator serves in OpenMM, in the terms of either."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from ase_atom.errors import CoverageError, StateError
from ase_atom.errors.warning import warn
from ase_atom.molecules.coverage import CoverageWarning, check_molecule
from ase_atom.molecules.structure import Structure, check_one
from ase_atom.molecules.topology import atom_label
from ase_atom.operator import OperatorLike
from ase_atom.propagation import Ensemble, reservations
from ase_atom.state import PhaseState
from ase_atom.units import NM

BONDS_NAME = "ATOMMolecule"
"""Name of the force that holds a molecule's bonds of zero strength."""


class Molecule:
    """Elements, masses and charge, and what there is to say of them once there are positions.

    Parameters
    ----------
    numbers, masses
        Of the atoms, ``[N]``; masses in amu.
    charge
        Total charge in e.
    """

    def __init__(self, numbers: NDArray[Any], masses: NDArray[Any], charge: int = 0) -> None:
        self.numbers, self.masses, self.charge = numbers, masses, charge
        self._template: PhaseState | None = None
        self._said: set[str] = set()
        self._started = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Molecule, (self.numbers, self.masses, self.charge)

    def state(self, positions: NDArray[Any], velocities: NDArray[Any] | None = None) -> PhaseState:
        """Return a batch of one; positions in Å and velocities in Å/fs, by default zero."""
        velocities = np.zeros_like(positions) if velocities is None else velocities
        x, v = torch.from_numpy(positions)[None], torch.from_numpy(velocities)[None]
        if self._template is None:
            numbers, masses = torch.tensor(self.numbers)[None], torch.tensor(self.masses)[None]
            self._template = PhaseState(numbers, masses, x, v, torch.tensor([self.charge]))
        return self._template.replace(positions=x, velocities=v)

    def check(
        self,
        operator: OperatorLike,
        positions: NDArray[Any],
        velocities: NDArray[Any] | None = None,
    ) -> None:
        """Check what could not be known before there were positions, and warn of it, once.

        Parameters
        ----------
        operator
            The one that shall serve the molecule.
        positions, velocities
            Å and Å/fs, ``[N, 3]``.

        Raises
        ------
        StateError
            For a number that is not finite.
        CoverageError
            For a molecule, by its bonds, that the operator was not trained for.
        """
        for name, values in (("position", positions), ("velocity", velocities)):
            if values is not None and not np.isfinite(values).all():
                bad = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
                label = atom_label(self.numbers, bad)
                raise StateError(f"the {name} of atom {label} is not finite")
        card = operator.card
        if card is None:
            return
        try:
            check_one(self.numbers, positions)
        except CoverageError as error:
            raise CoverageError(
                f"{error}; if it was wrapped into a periodic box atom by atom, make it whole first"
            ) from None
        structure = Structure(self.numbers, positions, self.masses, self.charge)
        check_molecule(structure, card)
        self._say(reservations(card, [structure]))

    def check_start(self, operator: OperatorLike, ensemble: Ensemble, start: PhaseState) -> None:
        """Warn, once, of velocities that the operator was not trained for."""
        card = operator.card
        if card is None or self._started:
            return
        known = reservations(card, [], ensemble)
        found = [line for line in reservations(card, [], ensemble, start) if line not in known]
        self._started = bool(found)
        self._say(found)

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                warn(line, CoverageWarning)


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


def positions_of(state: openmm.State) -> NDArray[np.float64]:
    """Return the positions of a State in Å, ``[N, 3]``."""
    positions: NDArray[np.float64] = state.getPositions(asNumpy=True)._value * NM
    return positions
