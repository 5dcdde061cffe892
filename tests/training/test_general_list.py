"""The list of compounds of the general operator: what is held out, how it is ordered, its ions."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict

import pytest
from rdkit import Chem

from training.curation.general import BLOCK, ELEMENTS, LARGEST, SMALL
from training.curation.protonation import ions_of
from training.curation.scaffolds import identity, scaffold
from training.generation.presets import COMPOUNDS, get_preset

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    with open(COMPOUNDS / "general.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_is_as_broad_as_it_should_be(rows: Rows) -> None:
    training = [int(row["atoms"]) for row in rows if row["part"] == "train"]
    assert sum(atoms <= 32 for atoms in training) >= 2500
    assert sum(30 <= atoms <= 60 for atoms in training) >= 300
    counts = Counter((row["part"], row["set"]) for row in rows if row["part"] != "train")
    assert counts["test", "tg80"] == 10
    assert counts["test", "drug"] == 30
    assert counts["test", "odd"] == 20
    for kind in ("tg80", "drug", "odd", "ion"):
        assert counts["validation", kind] >= 5
    found = {
        atom.GetAtomicNum()
        for row in rows
        for atom in Chem.AddHs(Chem.MolFromSmiles(row["smiles"])).GetAtoms()
    }
    assert found == ELEMENTS


def test_what_is_held_out_is_not_trained_on(rows: Rows) -> None:
    identities, cores = defaultdict(set), defaultdict(set)
    for row in rows:
        held = row["part"] != "train"
        identities[held].add(identity(row["smiles"]))
        if not held or row["set"] in ("tg80", "drug"):
            cores[held].add(scaffold(row["smiles"]))
    assert not identities[True] & identities[False]
    assert cores[True] & cores[False] <= {""}
    with open(COMPOUNDS / "tg80_split.csv", newline="") as file:
        tested = {row["smiles"] for row in csv.DictReader(file) if row["part"] == "test"}
    assert tested == {r["smiles"] for r in rows if (r["part"], r["set"]) == ("test", "tg80")}


def test_rows_say_what_their_molecules_are(rows: Rows) -> None:
    for row in rows:
        molecule = Chem.MolFromSmiles(row["smiles"])
        assert Chem.MolToSmiles(molecule) == row["smiles"]
        assert Chem.GetFormalCharge(molecule) == int(row["charge"])
        assert abs(int(row["charge"])) <= 1
        assert (int(row["charge"]) != 0) == (row["set"] == "ion")
        atoms = Chem.AddHs(molecule).GetNumAtoms()
        assert 3 <= atoms == int(row["atoms"]) <= LARGEST
        assert row["licence"]
        if row["set"] == "drug":
            assert 25 <= atoms <= 60
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)


def test_any_beginning_of_the_training_compounds_has_all_kinds(rows: Rows) -> None:
    training = [row for row in rows if row["part"] == "train"]
    kinds = [(row["set"], int(row["atoms"]) > SMALL) for row in training]
    for length in (100, 300, 1000):
        for kind in (("organic", False), ("organic", True), ("odd", False), ("ion", False)):
            share = kinds.count(kind) / len(kinds)
            assert kinds[:length].count(kind) / length == pytest.approx(share, abs=0.02)
    blocks = [int(row["block"]) for row in training]
    assert blocks == [place // BLOCK + 1 for place in range(len(training))]
    elements = {atom.GetAtomicNum() for r in training[:100] for atom in _atoms(r["smiles"])}
    assert elements >= ELEMENTS - {1}


def test_the_collection_makes_every_compound_once_and_the_smallest_more_often(rows: Rows) -> None:
    parts = get_preset("wb97m")
    wanted = [part.where for part in parts]
    met = [sum(all(row[c] == v for c, v in w.items()) for w in wanted) for row in rows]
    smallest = [
        row["part"] == "train" and row["set"] in ("odd", "ion") and int(row["atoms"]) <= 4
        for row in rows
    ]
    assert met == [2 if small else 1 for small in smallest]
    assert {part.bursts for part in parts if "atoms" in part.where} == {16}
    assert {part.bursts for part in parts if "atoms" not in part.where} == {4}
    assert all("ions" in part.folder for part in parts if part.where["set"] == "ion")
    assert not any("ions" in part.folder for part in parts if part.where["set"] != "ion")


@pytest.mark.parametrize(
    ("smiles", "ions"),
    [
        ("CC(=O)O", {"CC(=O)[O-]"}),
        ("CN", {"C[NH3+]"}),
        ("NCC(=O)O", {"NCC(=O)[O-]", "[NH3+]CC(=O)O"}),
        ("c1c[nH]cn1", {"c1c[nH+]c[nH]1"}),
        ("Oc1ccccc1", {"[O-]c1ccccc1"}),
        ("CS", {"C[S-]"}),
        ("CC(N)=O", set()),
        ("CCO", set()),
        ("c1ccccc1", set()),
        ("Nc1ccccc1", set()),
    ],
)
def test_protons_come_and_go_where_they_should(smiles: str, ions: set[str]) -> None:
    assert set(ions_of(smiles)) == {Chem.CanonSmiles(ion) for ion in ions}


def _atoms(smiles: str) -> list[Chem.Atom]:
    return list(Chem.MolFromSmiles(smiles).GetAtoms())
