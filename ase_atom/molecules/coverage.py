"""Whether an operator was trained for what it is asked to move."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCom
from ase.data import chemical_symbols

from ase_atom.errors import CoverageError
from ase_atom.errors.warning import warn
from ase_atom.molecules.charge import total_charge
from ase_atom.molecules.topology import atom_label, drawn, fragments, is_zwitterion, perceive_smiles
from ase_atom.units import format_charge

if TYPE_CHECKING:
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

STATED = ("charge", "spin", "multiplicity")
"""What ``atoms.info`` may state of the electrons, beside the charges and moments of the atoms."""


def check_composition(numbers: np.ndarray, masses: np.ndarray, card: OperatorCard) -> None:
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


def check_isolated(atoms: Atoms) -> None:
    """Check that the atoms are one finite molecule.

    Raises
    ------
    CoverageError
        For no atoms, unknown elements, non-finite coordinates, a periodic cell, constraints other
        than ``FixCom``, or several molecules.
    """
    if len(atoms) == 0:
        raise CoverageError("the structure holds no atoms")
    if (atoms.numbers < 1).any():
        index = int(np.flatnonzero(atoms.numbers < 1)[0])
        raise CoverageError(f"atom {index} is of no known element")
    for name, values in (("position", atoms.positions), ("velocity", atoms.get_velocities())):
        if not np.isfinite(values).all():
            index = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise CoverageError(
                f"the {name} of atom {atom_label(atoms.numbers, index)} is not finite"
            )
    if atoms.pbc.any():
        raise CoverageError(
            "the structure has a periodic cell; operators are for isolated molecules: "
            "remove it with atoms.pbc = False"
        )
    fixes_centre_of_mass(atoms)
    parts = fragments(atoms)
    if len(parts) > 1:
        formulas = ", ".join(atoms[part].get_chemical_formula() for part in parts[:4])
        more = ", …" if len(parts) > 4 else ""
        raise CoverageError(
            f"the structure holds {len(parts)} molecules ({formulas}{more}); "
            "operators move one molecule at a time"
        )


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


def check_atoms(atoms: Atoms, card: OperatorCard, force: bool = False) -> None:
    """Check that an operator was trained for a molecule.

    Parameters
    ----------
    atoms
        The molecule.
    card
        The operator's.
    force
        Warn (`CoverageWarning`) of a charge, an open shell, a size or a molecule that it was not
        trained for.

    Raises
    ------
    CoverageError
        For a periodic cell, several molecules, an element, a mass, a total charge or a molecule
        that the card does not cover: by its canonical SMILES, or, for an operator of molecules in
        general, by its size, and if it is no closed shell or a zwitterion that is not on the card.
    """
    check_isolated(atoms)
    check_composition(atoms.numbers, atoms.get_masses(), card)
    reason = _beyond(atoms, card)
    if reason is None:
        return
    if not force:
        raise CoverageError(reason)
    warn(f"{reason}; the simulation continues, with unknown errors", CoverageWarning)


def _beyond(atoms: Atoms, card: OperatorCard) -> str | None:
    """What about a molecule of the right elements a card does not cover, if anything."""
    charge = total_charge(atoms)
    if charge not in card.charges:
        return (
            f"the structure has a total charge of {format_charge(charge)}, but {card.name} was "
            f"trained for {format_charge(card.charges)}"
        )
    reason = wrong_size("structure", len(atoms), card)
    if reason is not None:
        return reason
    try:
        names = perceive_smiles(atoms, charge)
    except CoverageError as error:
        return str(error)
    unpaired = _open_shell(atoms)
    if unpaired is not None:
        return (
            f"the structure has {unpaired}, but {card.name} was trained for closed shells: "
            "radicals and triplets are not covered"
        )
    if covers(card, names):
        return None
    if card.largest_molecule is None:
        return (
            f"{card.name} was not trained for {names[0]} ({atoms.get_chemical_formula()}), "
            f"only for {', '.join(card.smiles)}"
        )
    if is_zwitterion(names[1]):
        return (
            f"{names[1]} ({atoms.get_chemical_formula()}) is a zwitterion: it has separated formal "
            f"charges, and {card.name} was trained for molecules without; operators describe the "
            "gas phase, where such charges seldom last"
        )
    return None


def _open_shell(atoms: Atoms) -> str | None:
    """What the atoms state that no closed shell has, if anything.

    A spin of 0 is one of unpaired electrons, and a spin or multiplicity of 1 a singlet's.
    """
    if np.any(atoms.get_initial_magnetic_moments()):
        return "magnetic moments"
    for key, closed in (("spin", (0, 1)), ("multiplicity", (1,))):
        if key in atoms.info and atoms.info[key] not in closed:
            return f'atoms.info["{key}"] = {atoms.info[key]!r}'
    return None


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


def find_card(atoms: Atoms, cards: Iterable[OperatorCard]) -> OperatorCard:
    """Return the first card that lists the molecule, with everything about it checked.

    If none lists it, the first of an operator of molecules in general that covers it.

    Raises
    ------
    CoverageError
        If none does, with what there is.
    """
    cards = list(cards)
    own = [card for card in cards if card.largest_molecule is None]
    general = [card for card in cards if card.largest_molecule is not None]
    check_isolated(atoms)
    names = perceive_smiles(atoms, total_charge(atoms))
    for card in own:
        if covers(card, names):
            check_atoms(atoms, card)
            return card
    reasons = []
    for card in general:
        try:
            check_atoms(atoms, card)
        except CoverageError as error:
            reasons.append(str(error))
        else:
            return card
    said = "".join(f"{reason}; " for reason in reasons)
    shipped = "; ".join(f"{card.name} for {', '.join(card.smiles)}" for card in own)
    raise CoverageError(
        f"no shipped operator was trained for {names[0]} ({atoms.get_chemical_formula()}); "
        f"{said}the shipped operators are {shipped or 'none'}; "
        "--operator takes a name or a file"
    )


def untrained_molecule_warning(atoms: Atoms, card: OperatorCard) -> str | None:
    """Return a line of warning for a molecule that an operator of molecules in general never saw.

    None if it did, if it is an operator of the molecules on its card alone, or if no name fits the
    positions, of which `check_atoms` speaks.
    """
    if card.largest_molecule is None:
        return None
    try:
        names = perceive_smiles(atoms, total_charge(atoms))
    except CoverageError:
        return None
    if covers(card, names):
        return None
    return (
        f"{names[0]} ({atoms.get_chemical_formula()}) is not among the {len(card.smiles)} "
        f"molecules that {card.name} was trained on; its errors for this molecule are unknown"
    )


def temperature_warning(temperature: float, card: OperatorCard) -> str | None:
    """Return a line of warning for a temperature in K outside the trained range, or None."""
    low, high = card.temperature_range_K
    if low <= temperature <= high:
        return None
    return (
        f"{temperature:g} K is outside the range {low:g} to {high:g} K that {card.name} was "
        "trained for; its errors at this temperature are unknown"
    )


def _symbols(numbers: Iterable[int]) -> str:
    return ", ".join(chemical_symbols[number] for number in numbers)
