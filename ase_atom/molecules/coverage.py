"""Whether an operator was trained for what it is asked to move."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_atom.errors import CoverageError
from ase_atom.errors.warning import warn
from ase_atom.molecules.topology import atom_label, drawn, is_zwitterion, perceive_smiles
from ase_atom.units import format_charge

if TYPE_CHECKING:
    from ase_atom.molecules.structure import Structure
    from ase_atom.operator import OperatorCard
    from ase_atom.state import PhaseState


class CoverageWarning(UserWarning):
    """A molecule for which an operator was not trained is moved all the same."""


MASS_TOLERANCE = 0.02
"""Largest difference in amu from the trained mass.

Above the differences between tables of standard atomic masses, far below a neutron.
"""


SMALLEST = 3
"""Atoms in the smallest molecule that an operator of molecules in general takes.

What it learned of bonds, it learned of bonds in molecules; two atoms alone it moves wrongly.
"""


def check_composition(
    numbers: NDArray[np.integer], masses: NDArray[np.floating], card: OperatorCard
) -> None:
    """Check elements and masses, both ``[N]``, against those an operator was trained with.

    Raises
    ------
    CoverageError
        Naming the first element or atom that is not covered.
    """
    known = _symbols(card.elements)
    for number in sorted(set(numbers.tolist())):
        if number not in card.elements:
            raise CoverageError(
                f"{card.name} was not trained for element {chemical_symbols[number]}; "
                f"it knows {known}"
            )
    for index, (number, mass) in enumerate(zip(numbers.tolist(), masses.tolist(), strict=True)):
        trained = card.masses[number]
        if abs(mass - trained) > MASS_TOLERANCE:
            raise CoverageError(
                f"atom {atom_label(numbers, index)} has a mass of {mass:.3f} amu, but {card.name} "
                f"was trained with {trained:.3f} amu; other isotopes and repartitioned masses "
                "move differently"
            )


def check_molecule(structure: Structure, card: OperatorCard, force: bool = False) -> None:
    """Check that an operator was trained for a molecule.

    Parameters
    ----------
    structure
        Of one molecule, see `ase_atom.molecules.structure.check_one`.
    card
        The operator's.
    force
        Warn (`CoverageWarning`) of a charge, an open shell, a size or a molecule that it was not
        trained for.

    Raises
    ------
    CoverageError
        For an element, a mass, a total charge or a molecule that the card does not cover: by its
        canonical SMILES, or, for an operator of molecules in general, by its size, and if it is no
        closed shell or a zwitterion that is not on the card.
    """
    check_composition(structure.numbers, structure.masses, card)
    reason = _beyond(structure, card)
    if reason is None:
        return
    if not force:
        raise CoverageError(reason)
    warn(f"{reason}; the simulation continues", CoverageWarning)


def _beyond(structure: Structure, card: OperatorCard) -> str | None:
    """What about a molecule of the right elements a card does not cover, if anything."""
    if structure.charge not in card.charges:
        return (
            f"the structure has a total charge of {format_charge(structure.charge)}, but "
            f"{card.name} was trained for {format_charge(card.charges)}"
        )
    reason = wrong_size("structure", len(structure.numbers), card)
    if reason is not None:
        return reason
    if structure.open_shell is not None:
        return (
            f"the structure has {structure.open_shell}, but {card.name} was trained for closed "
            "shells: radicals and triplets are not covered"
        )
    try:
        names = _smiles(structure)
    except CoverageError as error:
        return str(error)
    if covers(card, names):
        return None
    if card.largest_molecule is None:
        return (
            f"{card.name} was not trained for {names[0]} ({structure.formula}), "
            f"only for {', '.join(card.smiles)}"
        )
    if is_zwitterion(names[1]):
        return (
            f"{names[1]} ({structure.formula}) is a zwitterion: it has separated formal "
            f"charges, and {card.name} was trained for molecules without; operators describe the "
            "gas phase, where such charges seldom last"
        )
    return None


def _smiles(structure: Structure) -> tuple[str, str]:
    return perceive_smiles(structure.numbers, structure.positions, structure.charge)


def wrong_size(what: str, count: int, card: OperatorCard) -> str | None:
    """What there is against so many atoms, if anything; ``what`` has them."""
    if card.largest_molecule is None or SMALLEST <= count <= card.largest_molecule:
        return None
    limit = f"least {SMALLEST}" if count < SMALLEST else f"most {card.largest_molecule}"
    atoms = "1 atom" if count == 1 else f"{count} atoms"
    return f"the {what} has {atoms}, but {card.name} is for molecules of at {limit}"


def check_state(state: PhaseState, card: OperatorCard) -> None:
    """Check elements, masses and charges of a batch; bonds are the caller's to know.

    Raises
    ------
    CoverageError
        Naming the first element, atom or charge that is not covered.
    """
    for charge in sorted(set(state.charge.tolist()) - set(card.charges)):
        raise CoverageError(
            f"a molecule has a total charge of {format_charge(charge)}, but {card.name} was "
            f"trained for {format_charge(card.charges)}"
        )
    for numbers, masses in zip(state.numbers.cpu(), state.masses.cpu(), strict=True):
        real = numbers > 0
        check_composition(numbers[real].numpy(), masses[real].double().numpy(), card)


def as_covered(state: PhaseState, card: OperatorCard) -> PhaseState:
    """Return a batch with charges that a card does not know replaced by the nearest that it does.

    So an operator moves a molecule that it is forced to move.
    """
    known = state.charge.new_tensor(card.charges)
    nearest = (state.charge[:, None] - known).abs().argmin(dim=1)
    return state.replace(charge=known[nearest])


def covers(card: OperatorCard, names: Iterable[str]) -> bool:
    """Say whether one of a molecule's canonical SMILES is on the card."""
    return not {drawn(smiles) for smiles in card.smiles}.isdisjoint(names)


def find_card(structure: Structure, cards: Iterable[OperatorCard]) -> OperatorCard:
    """Return the first card that lists the molecule, with everything about it checked.

    If none lists it, the first of an operator of molecules in general that covers it. The molecule
    is whole and alone, as `ase_atom.molecules.structure.check_one` tells.

    Raises
    ------
    CoverageError
        If none does, with what there is.
    """
    cards = list(cards)
    own = [card for card in cards if card.largest_molecule is None]
    general = [card for card in cards if card.largest_molecule is not None]
    if structure.open_shell is not None:
        raise CoverageError(
            f"the structure has {structure.open_shell}, and all shipped operators are for closed "
            "shells: radicals and triplets are not covered"
        )
    names = _smiles(structure)
    for card in own:
        if covers(card, names):
            check_molecule(structure, card)
            return card
    reasons = []
    for card in general:
        try:
            check_molecule(structure, card)
        except CoverageError as error:
            reasons.append(str(error))
        else:
            return card
    # What the first and widest lacks is enough: the others mostly lack the same.
    said = "".join(f"{reason}; " for reason in reasons[:1])
    special: dict[str, list[str]] = {}
    for card in own:
        special.setdefault(", ".join(card.smiles), []).append(card.name)
    shipped = "; ".join(f"{', '.join(each)} for {smiles}" for smiles, each in special.items())
    raise CoverageError(
        f"no shipped operator was trained for {names[0]} ({structure.formula}); "
        f"{said}operators of single molecules are {shipped or 'none'}; "
        "--operator takes a name or a file"
    )


def untrained_molecule_warning(structure: Structure, card: OperatorCard) -> str | None:
    """Return a line of warning for a molecule that an operator of molecules in general never saw.

    None if it did, if it is an operator of the molecules on its card alone, or if no name fits the
    positions, of which `check_molecule` speaks.
    """
    if card.largest_molecule is None:
        return None
    try:
        names = _smiles(structure)
    except CoverageError:
        return None
    if covers(card, names):
        return None
    return (
        f"{names[0]} ({structure.formula}) is not among the {len(card.smiles)} "
        f"molecules that {card.name} was trained on"
    )


def temperature_warning(temperature: float, card: OperatorCard) -> str | None:
    """Return a line of warning for a temperature in K outside the trained range, or None."""
    low, high = card.temperature_range_K
    if low <= temperature <= high:
        return None
    return (
        f"{temperature:g} K is outside the range {low:g} to {high:g} K that {card.name} was "
        "trained for"
    )


def _symbols(numbers: Iterable[int]) -> str:
    return ", ".join(chemical_symbols[number] for number in numbers)
