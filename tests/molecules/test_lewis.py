"""Formal charges: which Lewis structure names a molecule, and which charges stand apart."""

import pytest
from ase import Atoms
from ase.build import molecule
from conftest import make_card

from ase_atom.errors import CoverageError
from ase_atom.molecules.atoms import structure_of
from ase_atom.molecules.catalogue import check_atoms
from ase_atom.molecules.coverage import (
    CoverageWarning,
    covers,
    untrained_molecule_warning,
)
from ase_atom.molecules.topology import canonical, drawn, is_zwitterion, perceive_smiles
from ase_atom.operator import list_operators
from training.data.molecules import embed

ZWITTERIONS = {
    "glycine": "[NH3+]CC(=O)[O-]",
    "proline": "O=C([O-])C1CCC[NH2+]1",
    "lysine by its side chain": "[NH3+]CCCCC(N)C(=O)[O-]",
    "arginine by its side chain": "NC(=[NH2+])NCCCC(N)C(=O)[O-]",
    "histidine by its side chain": "NC(Cc1c[nH]c[nH+]1)C(=O)[O-]",
    "taurine": "[NH3+]CCS(=O)(=O)[O-]",
    "betaine": "C[N+](C)(C)CC(=O)[O-]",
    "trigonelline": "C[n+]1cccc(C(=O)[O-])c1",
    "picolinic acid": "O=C([O-])c1cccc[nH+]1",
    "ammoniophenolate": "[NH3+]c1ccc([O-])cc1",
    "beside a nitro group": "[NH3+]CC(C(=O)[O-])c1cccc([N+](=O)[O-])c1",
}

NORMAL = {
    "nitro": "C[N+](=O)[O-]",
    "nitrate ester": "CO[N+](=O)[O-]",
    "azide": "CN=[N+]=[N-]",
    "aryl azide": "[N-]=[N+]=Nc1ccccc1",
    "acyl azide": "CC(=O)N=[N+]=[N-]",
    "isonitrile": "[C-]#[N+]C",
    "diazo": "C=[N+]=[N-]",
    "diazoketone": "CC(=O)C=[N+]=[N-]",
    "nitroaniline": "Nc1ccc([N+](=O)[O-])cc1",
    "N-oxide": "C[N+](C)(C)[O-]",
    "pyridine N-oxide": "[O-][n+]1ccccc1",
    "nitrone": "C=[N+](C)[O-]",
    "nitrile oxide": "CC#[N+][O-]",
    "azoxy": "CN=[N+](C)[O-]",
    "furoxan": "Cc1no[n+]([O-])c1C",
    "sydnone": "C[n+]1cc([O-])on1",
    "sulfur ylide": "C[S+](C)[CH2-]",
    "stabilised ylide": "CC(=O)[CH-][S+](C)C",
    "hydrogen isocyanide": "[C-]#[NH+]",
    "nitrous oxide": "N#[N+][O-]",
    "ozone": "O=[O+][O-]",
    "dinitrogen tetroxide": "O=[N+]([O-])[N+](=O)[O-]",
}

# As a chemist draws them; Sulphur takes charges easily, and should not.
NEUTRAL = """
    S=C=S O=C=S O=C=O S=C=C=C=S O=C=C=C=O C=C=C C=C=C=C C=C=O C=C=S CN=C=S C#N CSC#N N#CCS#N
    O=S=O O=S=S O=S(=O)=O CS(C)=O CS(C)=S CS(=O)c1ccccc1 C=S=O CS(=O)O COS(=O)OC O=S(Cl)Cl
    CSS(C)=O O=S1C=CC=C1 CS(C)(=O)=O CNS(C)(=O)=O CS(=O)(=O)Cl O=S(=O)(O)O CN=S(C)(C)=O CS(C)=N
    CSC(C)=O CCSC(N)=O c1ccsc1 c1ccc2nsnc2c1 CP(C)(C)=O CP(C)(C)=S C=P(C)(C)C CP(=O)(O)O
    O=C1C=CC(=O)C=C1 c1ccc2cccc2cc1 Cn1c(=O)c2c(ncn2C)n(C)c1=O
"""


def names(atoms: Atoms) -> tuple[str, str]:
    return perceive_smiles(atoms.numbers, atoms.positions)


@pytest.mark.parametrize("name", ZWITTERIONS)
def test_separated_charges_are_refused(name):
    atoms = embed(ZWITTERIONS[name], seed=1)
    smiles = names(atoms)[1]
    assert smiles == drawn(ZWITTERIONS[name])
    general = make_card(
        elements=[1, 6, 7, 8, 16],
        masses={1: 1.008, 6: 12.011, 7: 14.007, 8: 15.999, 16: 32.06},
        largest_molecule=40,
    )
    with pytest.raises(CoverageError, match="is a zwitterion: it has separated formal charges"):
        check_atoms(atoms, general)
    with pytest.warns(CoverageWarning, match="zwitterion"):
        check_atoms(atoms, general, force=True)
    # An operator that learned from it knows what becomes of it.
    check_atoms(atoms, general.model_copy(update={"smiles": [ZWITTERIONS[name]]}))


@pytest.mark.parametrize("name", NORMAL)
def test_charges_on_neighbours_are_how_a_molecule_is_written(name):
    smiles = NORMAL[name]
    assert not is_zwitterion(smiles)
    perceived = names(embed(smiles, seed=1))[1]
    assert perceived == drawn(smiles)
    assert not is_zwitterion(perceived)


@pytest.mark.parametrize("smiles", NEUTRAL.split())
def test_molecules_without_charges_are_named_without(smiles):
    assert names(embed(smiles, seed=1))[1] == drawn(smiles)
    assert "+" not in drawn(smiles)


def test_spellings_of_one_molecule_are_one_molecule():
    for one, other in (
        ("CS(C)=O", "C[S+](C)[O-]"),
        ("CC([O-])=C[N+]#N", "CC(=O)C=[N+]=[N-]"),
        ("[N-]=[N+]=O", "N#[N+][O-]"),
        ("[S+]#C[S-]", "S=C=S"),
    ):
        assert drawn(one) == drawn(other)


@pytest.mark.parametrize("smiles", ["[CH3+]", "C=C[CH2+]", "C[C+](C)C", "c1ccc[cH+]cc1"])
def test_what_has_no_octets_is_named_as_it_is_written(smiles):
    assert drawn(smiles) == canonical(smiles)
    with pytest.raises(CoverageError):
        names(embed(smiles, seed=1))


def test_trained_molecules_with_sulphur_or_charges_are_known_again():
    (card,) = (card for card in list_operators() if card.name == "tg80-gfn2")
    asked = [smiles for smiles in card.smiles if "S" in smiles or "+" in smiles][1::3]
    assert len(asked) > 30
    for smiles in asked:
        assert not is_zwitterion(smiles)
        assert covers(card, names(embed(smiles, seed=1))), smiles
    assert untrained_molecule_warning(structure_of(embed("S=C=S", seed=1)), card) is None


@pytest.mark.parametrize(
    "smiles",
    [
        "CC(=O)[O-]",
        "[O-]c1ccccc1",
        "C[NH3+]",
        "[O-][N+](=O)[O-]",
        "[O-]C(=O)C(=O)[O-]",
        "[NH3+]CC[NH3+]",
    ],
)
def test_an_ion_that_does_not_say_so_is_called_one(smiles):
    with pytest.raises(CoverageError, match="an ion, or a radical, or an atom is missing"):
        names(embed(smiles, seed=1))


@pytest.mark.parametrize("name", ["CH3", "NO", "CH3CH2O", "NO2", "CH3CO", "CCH"])
def test_open_shells_are_called_radicals_among_others(name):
    with pytest.raises(CoverageError, match="an ion, or a radical, or an atom is missing"):
        names(molecule(name))


def test_a_lost_hydrogen_is_called_missing():
    atoms: Atoms = embed("CC(=O)O", seed=1)
    del atoms[-1]
    with pytest.raises(CoverageError, match="or an atom is missing"):
        names(atoms)
