"""Bonds and names from positions, and what an operator refuses to move."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms, FixCom
from conftest import make_card
from rdkit.Chem import CanonSmiles

from ase_atom.ase.conformer import from_smiles
from ase_atom.errors import CoverageError
from ase_atom.molecules.atoms import structure_of
from ase_atom.molecules.catalogue import check_atoms, operator_for
from ase_atom.molecules.coverage import (
    CoverageWarning,
    check_state,
    find_card,
    temperature_warning,
    untrained_molecule_warning,
)
from ase_atom.molecules.topology import canonical, fragments, perceive_bonds, perceive_smiles
from ase_atom.state import PhaseState
from training.data.molecules import embed


def test_bonds_of_ethanol(ethanol):
    bonds = perceive_bonds(ethanol.numbers, ethanol.positions)
    assert bonds == [(0, 1), (0, 6), (0, 7), (0, 8), (1, 2), (1, 4), (1, 5), (2, 3)]


def test_bonds_survive_heat(ethanol):
    expected = perceive_bonds(ethanol.numbers, ethanol.positions)
    rng = np.random.default_rng(0)
    for _ in range(50):
        hot = ethanol.copy()
        hot.positions += rng.normal(scale=0.05, size=hot.positions.shape)
        assert perceive_bonds(hot.numbers, hot.positions) == expected


def test_fragments():
    two = molecule("H2O") + molecule("CH4")
    two.positions[3:] += 5.0
    assert fragments(two.numbers, two.positions) == [[0, 1, 2], [3, 4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("name", "smiles"),
    [("CH3CH2OH", "CCO"), ("CH3OCH3", "COC"), ("C6H6", "c1ccccc1"), ("CH3COOH", "CC(=O)O")],
)
def test_names_from_positions(name, smiles):
    atoms = molecule(name)
    assert perceive_smiles(atoms.numbers, atoms.positions)[0] == canonical(smiles)


def test_stereochemistry_is_named_and_can_be_left_out():
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles("C/C=C\\C"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    atoms = Atoms(
        [a.GetAtomicNum() for a in mol.GetAtoms()], positions=mol.GetConformer().GetPositions()
    )
    with_stereo, without = perceive_smiles(atoms.numbers, atoms.positions)
    assert with_stereo == canonical("C/C=C\\C")
    assert without == canonical("CC=CC")


def test_radicals_have_no_name(ethanol):
    del ethanol[3]
    with pytest.raises(CoverageError, match="no closed-shell molecule"):
        perceive_smiles(ethanol.numbers, ethanol.positions)


def test_ethanol_is_covered(ethanol):
    check_atoms(ethanol, make_card(smiles=["OCC"]))  # in another spelling
    check_state(PhaseState.from_atoms(ethanol), make_card())


def _periodic(atoms):
    atoms.pbc = True
    atoms.cell = [20, 20, 20]


def _deuterated(atoms):
    masses = atoms.get_masses()
    masses[3] = 2.014
    atoms.set_masses(masses)


def _charged(atoms):
    atoms.info["charge"] = 1


def _partial_charges(atoms):
    atoms.set_initial_charges([0, 0, -1, 0, 0, 0, 0, 0, 0])


def _strangely_charged(atoms):
    atoms.info["charge"] = "none"


def _charge_of(value):
    def change(atoms):
        atoms.info["charge"] = value

    return change


def _charges_of(value):
    return lambda atoms: atoms.set_initial_charges([value] + 8 * [0.0])


def _constrained(atoms):
    atoms.set_constraint(FixAtoms([0]))


def _doubled(atoms):
    other = atoms.copy()
    other.positions += 6.0
    atoms.extend(other)


def _nan(atoms):
    atoms.positions[2, 1] = np.nan


def _fast(atoms):
    atoms.set_velocities(np.full((9, 3), np.inf))


def _radical(atoms):
    del atoms[3]


def _long():
    """Butanol, of 15 atoms."""
    return embed("CCCCO", seed=1)


def _sulphur(atoms):
    atoms.numbers[2] = 16
    atoms.positions[3] += [-0.4, 0.3, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_periodic, "periodic cell"),
        (_deuterated, r"H1 has a mass of 2\.014 amu.*1\.008"),
        (_charged, r"total charge of \+1.*trained for 0"),
        (_partial_charges, "total charge of -1"),
        (_strangely_charged, "total charge is 'none', not a number"),
        (_charge_of(float("nan")), r'charge \(atoms.info\["charge"\]\) is nan, not a whole number'),
        (_charge_of(-np.inf), "is -inf, not a whole number"),
        (_charge_of(0.5), r"is 0\.5, not a whole number"),
        (_charges_of(np.nan), r"\(sum of its atoms' charges\) is nan, not a whole number"),
        (_charges_of(0.3), r"is 0\.3, not a whole number"),
        (_constrained, "the constraint FixAtoms cannot be kept"),
        (_doubled, r"2 molecules \(C2H6O, C2H6O\)"),
        (_nan, "position of atom O1 is not finite"),
        (_fast, "velocity of atom C1 is not finite"),
        (_sulphur, "not trained for element S; it knows H, C, O"),
    ],
)
def test_what_is_refused(ethanol, change, message):
    change(ethanol)
    with pytest.raises(CoverageError, match=message):
        check_atoms(ethanol, make_card())


def test_rounded_partial_charges_are_those_of_a_whole_charge(ethanol):
    ethanol.set_initial_charges([-0.18, 0.15, -0.68, 0.42, 0.06, 0.06, 0.05, 0.05, 0.06])  # −0.01
    check_atoms(ethanol, make_card())


def test_dimethyl_ether_is_not_taken_for_ethanol():
    with pytest.raises(CoverageError, match=r"not trained for COC \(C2H6O\), only for CCO"):
        check_atoms(molecule("CH3OCH3"), make_card())


def test_no_atoms_and_unknown_elements_are_refused():
    with pytest.raises(CoverageError, match="no atoms"):
        check_atoms(Atoms(), make_card())
    with pytest.raises(CoverageError, match="no known element"):
        check_atoms(Atoms("X", positions=[[0, 0, 0]]), make_card())


def test_masses_of_a_batch_are_checked(ethanol):
    _deuterated(ethanol)
    with pytest.raises(CoverageError, match="H1 has a mass"):
        check_state(PhaseState.from_atoms(ethanol), make_card())


def test_the_matching_card_is_found(ethanol):
    cards = [make_card(name="other", smiles=["C"]), make_card(name="mine")]
    assert find_card(structure_of(ethanol), cards).name == "mine"
    with pytest.raises(CoverageError, match=r"no shipped operator.*COC.*other for C; mine for CCO"):
        find_card(structure_of(molecule("CH3OCH3")), cards)
    with pytest.raises(CoverageError, match="operators of single molecules are none"):
        find_card(structure_of(ethanol), [])
    ethanol.info["charge"] = float("nan")
    with pytest.raises(CoverageError, match="is nan, not a whole number"):
        find_card(structure_of(ethanol), cards)


def test_an_operator_of_molecules_in_general_stands_in_where_none_is_for_the_molecule(ethanol):
    general = make_card(name="general", smiles=["O"], largest_molecule=10)
    cards = [general, make_card(name="mine")]
    assert find_card(structure_of(ethanol), cards).name == "mine"
    assert find_card(structure_of(molecule("CH3OCH3")), cards).name == "general"
    with pytest.raises(
        CoverageError,
        match=r"15 atoms, but general is .* 10; operators of single molecules are mine for CCO",
    ):
        find_card(structure_of(_long()), cards)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_charged, r"total charge of \+1"),
        (_radical, "no closed-shell molecule"),
        (lambda atoms: None, "9 atoms, but general is for molecules of at most 8"),
        (
            lambda atoms: atoms.__delitem__(slice(2, None)),
            "2 atoms, but .* of at least 3",
        ),
        (lambda atoms: atoms.__delitem__(slice(1, None)), "has 1 atom, but .* of at least 3"),
    ],
)
def test_beyond_its_range_it_refuses_or_with_force_warns(ethanol, change, message):
    card = make_card(name="general", smiles=["O"], largest_molecule=8)
    change(ethanol)
    with pytest.raises(CoverageError, match=message):
        check_atoms(ethanol, card)
    with pytest.warns(CoverageWarning, match=message):
        check_atoms(ethanol, card, force=True)


def test_an_open_shell_is_known_by_its_magnetic_moments(ethanol):
    """Where a closed shell would fit the positions too."""
    ethanol.set_initial_magnetic_moments([1.0, 1.0] + [0.0] * 7)
    with pytest.raises(CoverageError, match=r"has magnetic moments, but tiny .* closed shells"):
        check_atoms(ethanol, make_card())
    with pytest.warns(CoverageWarning, match="radicals and triplets"):
        check_atoms(ethanol, make_card(), force=True)


def test_a_fixed_centre_of_mass_is_no_hindrance(ethanol):
    ethanol.set_constraint(FixCom())
    check_atoms(ethanol, make_card())
    assert find_card(structure_of(ethanol), [make_card(name="mine")]).name == "mine"


def test_a_molecule_that_a_general_operator_never_saw_is_a_warning(ethanol):
    general = make_card(name="general", smiles=["O", "CCO"], largest_molecule=40)
    assert untrained_molecule_warning(structure_of(ethanol), general) is None
    warning = untrained_molecule_warning(structure_of(molecule("CH3OCH3")), general)
    assert warning.startswith(
        "COC (C2H6O) is not among the 2 molecules that general was trained on"
    )
    assert untrained_molecule_warning(structure_of(molecule("CH3OCH3")), make_card()) is None


@pytest.mark.parametrize("change", [_sulphur, _deuterated, _periodic, _doubled])
def test_what_it_cannot_do_is_refused_with_force_too(ethanol, change):
    change(ethanol)
    with pytest.raises(CoverageError):
        check_atoms(ethanol, make_card(largest_molecule=40), force=True)


@pytest.mark.parametrize(("kelvin", "warned"), [(0.5, True), (1, False), (500, False), (501, True)])
def test_temperatures_outside_the_range_are_warned_of(kelvin, warned):
    message = temperature_warning(kelvin, make_card())
    assert (message is not None) == warned
    if message:
        assert "1 to 500 K" in message


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        (
            "[CH3+]",
            r"charge \+1 fits .* CH3: it is a radical, .* it lacks an octet",
        ),
        ("[BeH2]", "H2Be cannot be named, since bonds of Be are not understood"),
        ("[CH3]", "closed shells: radicals and triplets are not covered"),
        ("[CH2][CH2]", "closed shells"),
    ],
)
def test_what_no_operator_is_for_is_called_by_its_kind(smiles, message):
    with pytest.raises(CoverageError, match=message):
        operator_for(from_smiles(smiles))


@pytest.mark.parametrize("smiles", ["C1#CCCCCCC1", "C1#CCCCCCCC1"])
def test_strained_rings_are_embedded_as_what_they_are(smiles: str) -> None:
    atoms = from_smiles(smiles)
    assert perceive_smiles(atoms.numbers, atoms.positions, 0)[1] == CanonSmiles(smiles)
