"""The lists of compounds, their recipe and division, and the collections made of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from rdkit import Chem

from ase_atom.errors import ConfigError, DataError
from training.curate import main
from training.curation.scaffolds import QUOTAS, classify, divide, scaffold
from training.generation.presets import COMPOUNDS, get_preset, presets, read_compounds

TG80 = COMPOUNDS / "tg80.csv"
FURTHER = (COMPOUNDS / "tg80_plus.csv", COMPOUNDS / "tg80_edits.csv")


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def skeleton(smiles: str) -> str:
    return Chem.MolToInchiKey(Chem.MolFromSmiles(smiles)).partition("-")[0]


def test_tg80_has_eighty_distinct_compounds_in_range() -> None:
    molecules = read_compounds([TG80])
    assert len(molecules) == 80
    assert len({skeleton(molecule.smiles) for molecule in molecules}) == 80
    released = {row["name"]: row["smiles"] for row in rows(COMPOUNDS / "tg80_released.csv")}
    assert len(released) == 71
    assert released.items() <= {molecule.name: molecule.smiles for molecule in molecules}.items()


def test_all_compounds_are_what_an_operator_is_for() -> None:
    """Neutral, closed shell (`read_compounds` sees to it), H, C, N, O, S, Cl, up to 40 atoms."""
    molecules = [*read_compounds([TG80]), *read_compounds(FURTHER)]
    assert len(molecules) > 700
    elements: list[set[str]] = []
    for molecule in molecules:
        whole = Chem.AddHs(Chem.MolFromSmiles(molecule.smiles))
        elements.append({atom.GetSymbol() for atom in whole.GetAtoms()})
        assert whole.GetNumAtoms() <= 40
    assert set().union(*elements) == {"H", "C", "N", "O", "S", "Cl"}
    for element in ("S", "Cl", "N", "O"):
        assert sum(element in found for found in elements) > 100


def test_the_recipe_gives_the_list(tmp_path: Path) -> None:
    edits, output = tmp_path / "edits.smi", tmp_path / "tg80.csv"
    assert main(["edits", "-o", str(edits)]) == 0
    options = ["--elements", "C,H,N,O,S,Cl", "--min-similarity", "0.4", "--max-similarity", "0.8"]
    options += ["--max-accepted-similarity", "0.6", "--seeds-count", "--max-heavy-atoms", "12"]
    options += ["--limit", "9", "--with-seeds", "--workers", "1"]
    assert main(["select", str(edits), "-o", str(output), *options]) == 0
    assert output.read_text() == TG80.read_text()


def test_the_division_is_reproducible_and_by_scaffold(tmp_path: Path) -> None:
    output = tmp_path / "split.csv"
    assert main(["divide", "-o", str(output)]) == 0
    assert output.read_text() == (COMPOUNDS / "tg80_split.csv").read_text()
    parts = {
        part: [r for r in rows(output) if r["part"] == part] for part in ("test", "validation")
    }
    assert len(parts["test"]) == 10
    assert len(parts["validation"]) == 5
    for place, part in enumerate(("test", "validation")):
        kinds = [classify(row["smiles"]) for row in parts[part]]
        assert {kind: kinds.count(kind) for kind in QUOTAS} == {
            kind: counts[place] for kind, counts in QUOTAS.items()
        }
    held = {row["scaffold"] for part in parts.values() for row in part} - {""}
    others = [row["smiles"] for row in rows(output) if row["part"] == "train"]
    others += [molecule.smiles for molecule in read_compounds(FURTHER)]
    assert not held & {scaffold(smiles) for smiles in others}
    compounds = {skeleton(row["smiles"]) for part in parts.values() for row in part}
    assert not compounds & {skeleton(smiles) for smiles in others}
    validated = {row["scaffold"] for row in parts["validation"]} - {""}
    assert not validated & {row["scaffold"] for row in parts["test"]}


def test_too_few_compounds_cannot_be_divided() -> None:
    with pytest.raises(ConfigError, match="too few compounds among rings of carbon"):
        divide([("ethanol", "CCO"), ("benzene", "c1ccccc1")])


def test_tg80_is_long_enough_and_hot_enough() -> None:
    parts = get_preset("tg80")
    assert sum(80 * part.bursts * part.settings.duration for part in parts) >= 2.5e6
    assert {part.settings.ensemble for part in parts} == {"nve", "langevin"}
    for part in parts:
        assert part.settings.timestep == 0.5
        assert 500.0 in part.settings.temperatures
    assert min(parts[0].settings.temperatures) == 300.0
    assert [part.folder for part in get_preset("tg80", 8)] == ["tg80"]
    assert get_preset("tg80", 8)[0].bursts == 8


def test_collections_have_folders_of_their_own() -> None:
    """Files of one folder are taken together, and hold bursts of one kind."""
    kinds: dict[str, set[tuple[str, str, int]]] = {}
    for name, parts in presets().items():
        for part in parts:
            kind = (name, part.settings.model_dump_json())
            kinds.setdefault(part.folder, set()).add(kind)
    assert {folder: len(found) for folder, found in kinds.items() if len(found) > 1} == {}
    rows = [(part.folder, tuple(part.where.items())) for part in get_preset("wb97m")]
    assert len(set(rows)) == len(rows)


def test_a_compound_in_two_lists_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("name,smiles\nagain,OCC\n")
    with pytest.raises(DataError, match="CCO stands there twice"):
        read_compounds([TG80, path])
    path.write_text("name,formula\n")
    with pytest.raises(DataError, match="no columns name and smiles"):
        read_compounds([path])
