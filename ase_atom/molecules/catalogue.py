"""Finding the operator for a molecule, by name, by file, or among those shipped."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from ase_atom.errors.keywords import known_keywords
from ase_atom.molecules.atoms import check_isolated, structure_of
from ase_atom.molecules.coverage import check_molecule, find_card
from ase_atom.operator import (
    Engine,
    OperatorCard,
    OperatorLike,
    check_operator,
    list_operators,
    load_operator,
)


@known_keywords()
def operator_for(
    atoms: Atoms,
    operator: str | Path | OperatorLike | None = None,
    *,
    force: bool = False,
    engine: Engine = "torch",
    device: str = "cpu",
) -> OperatorLike:
    """Return an operator for a molecule, after a check that it was trained for the molecule.

    Parameters
    ----------
    atoms
        The molecule.
    operator
        A shipped operator's name, an operator file, or an operator. By default the shipped
        operator that lists the molecule, else a general one.
    force
        Warn, instead of raising an error, if a named operator was not trained for the charge, the
        size or the molecule.
    engine, device
        Engine and device of an operator that is loaded, see `load_operator`.

    Raises
    ------
    CheckpointError
        If there is no such operator, or its file is damaged.
    CoverageError
        If the operator, or any shipped operator, was not trained for the molecule.
    ConfigError
        For an object that is not an operator, an unknown engine, or a missing device.
    """
    if operator is None:
        check_isolated(atoms)
        card = find_card(structure_of(atoms), list_operators())
        return load_operator(card.name, engine, device)
    if isinstance(operator, str | Path):
        operator = load_operator(operator, engine, device)
    check_operator(operator)
    if operator.card is not None:  # one without a card is its maker's to answer for
        check_atoms(atoms, operator.card, force)
    return operator


def check_atoms(atoms: Atoms, card: OperatorCard, force: bool = False) -> None:
    """Check that an operator was trained for a molecule, and that the atoms are one.

    Parameters
    ----------
    atoms
        The molecule.
    card, force
        As `ase_atom.molecules.coverage.check_molecule`.

    Raises
    ------
    CoverageError
        As `check_molecule`, and for a periodic cell, constraints or several molecules.
    """
    check_isolated(atoms)
    check_molecule(structure_of(atoms), card, force)
