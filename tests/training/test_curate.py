"""Choice of compounds: criteria, streams, kills, edits, division by scaffold, the lists."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from ase_atom.errors import ConfigError, DataError
from ase_atom.io.library import read_records
from training.curate import main
from training.curation.candidates import chunks, parse
from training.curation.criteria import (
    CHARGED,
    ELEMENTS,
    FRAGMENTS,
    HELD_OUT,
    IS_A_SEED,
    ISOTOPE,
    LIKE_NO_SEED,
    NITROGENS,
    OPEN_SHELL,
    OXYGENS,
    SIZE,
    TOO_LIKE_A_SEED,
    TOO_LIKE_ACCEPTED,
    TWICE,
    UNREADABLE,
    Accepted,
    Criteria,
    Judge,
    Passed,
)
from training.curation.enumeration import edits, enumerate_edits, is_likely
from training.curation.selection import select, write_selection

DATA = ROOT / "training" / "data"
SEEDS = [
    ("aspirin", "CC(=O)Oc1ccccc1C(=O)O"),
    ("heptanol", "CCCCCCCO"),
    ("guanine", "Nc1nc2nc[nH]c2c(=O)[nH]1"),
]


def similarity(one: str, other: str) -> float:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in (one, other)]
    return DataStructs.TanimotoSimilarity(*prints)


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C((", UNREADABLE),
        ("", UNREADABLE),
        ("[Na+].[Cl-]", FRAGMENTS),
        ("CC(=O)[O-]", CHARGED),
        ("C[CH2]", OPEN_SHELL),
        ("[2H]C", ISOTOPE),
        ("*C", ISOTOPE),
        ("CCS", ELEMENTS),
        ("O=C(O)C(O)C(O)C(=O)O", OXYGENS),
        ("NCN(N)CN", NITROGENS),
        ("CCCCCCCCCCCCCCCCO", SIZE),
        ("CC(=O)Oc1ccccc1C(=O)O", IS_A_SEED),
        ("OC(=O)c1ccccc1OC(C)=O", IS_A_SEED),
        ("C1CC1", LIKE_NO_SEED),
        ("CCCCCCO", TOO_LIKE_A_SEED),
    ],
)
def test_each_criterion_removes_what_it_is_for(smiles: str, reason: str) -> None:
    judge = Judge(Criteria(), SEEDS)
    assert judge.judge("", Chem.MolFromSmiles(smiles)) == reason


def test_similarity_lies_strictly_between_the_limits() -> None:
    smiles = "CC(=O)Oc1ccccc1C(N)=O"
    value = similarity(smiles, SEEDS[0][1])
    molecule = Chem.MolFromSmiles(smiles)
    inside = Judge(Criteria(min_similarity=value - 0.01, max_similarity=value + 0.01), SEEDS)
    verdict = inside.judge("amide", molecule)
    assert verdict == Passed("amide", smiles, "aspirin", pytest.approx(value))
    above = Judge(Criteria(min_similarity=value), SEEDS)
    assert above.judge("", molecule) == LIKE_NO_SEED
    below = Judge(Criteria(min_similarity=0.1, max_similarity=value), SEEDS)
    assert below.judge("", molecule) == TOO_LIKE_A_SEED


def test_the_seed_that_admits_a_candidate_is_at_least_as_large() -> None:
    judge = Judge(Criteria(min_similarity=0.5, max_similarity=1.01), [("butanol", "CCCCO")])
    assert similarity("CCCCCO", "CCCCO") > 0.5
    assert judge.judge("", Chem.MolFromSmiles("CCCCCO")) == SIZE
    assert isinstance(judge.judge("", Chem.MolFromSmiles("CCCO")), Passed)


def test_compounds_held_out_stay_out_with_their_scaffolds() -> None:
    wide = Criteria(min_similarity=0, max_similarity=1.01)
    judge = Judge(wide, SEEDS, held_out=["c1ccoc1", "CCCO"])
    for smiles, kept in (("Cc1ccco1", False), ("CCCO", False), ("CCCCO", True), ("C1CC1", True)):
        verdict = judge.judge("", Chem.MolFromSmiles(smiles))
        assert isinstance(verdict, Passed) if kept else verdict == HELD_OUT


def test_another_way_to_write_a_compound_held_out_stays_out_too() -> None:
    wide = Criteria(min_similarity=0, max_similarity=1.01)
    judge = Judge(wide, SEEDS, held_out=["CN1C2CCCC1CC2", "NC(=O)CC(=O)O"])
    for smiles in ("CN1[C@@H]2CCC[C@H]1CC2", "N=C(O)CC(=O)O"):
        assert judge.judge("", Chem.MolFromSmiles(smiles)) == HELD_OUT


def test_accepted_compounds_are_unlike_one_another_and_tautomers_are_one() -> None:
    judge = Judge(Criteria(max_accepted_similarity=0.5), SEEDS)
    accepted = Accepted(judge)
    assert accepted.consider("CCCCCCO") is None
    assert accepted.consider("OCCCCCC") == TWICE
    assert accepted.consider("CCCCCO") == TOO_LIKE_ACCEPTED
    assert accepted.consider("O=c1cc[nH]cn1") is None
    assert accepted.consider("Oc1ccncn1") == TWICE


def test_the_papers_limits_contradict_each_other_if_seeds_count() -> None:
    """Above 0.875 to a seed, and at most 0.80 to all accepted: only if seeds are not among them."""
    with pytest.raises(ConfigError, match=r"nothing can be above 0\.875 to a seed"):
        Judge(Criteria(seeds_count=True), SEEDS)
    with pytest.raises(ConfigError, match="nothing can be"):
        Judge(Criteria(seeds_count=True, max_accepted_similarity=0.2), SEEDS)
    Judge(Criteria(seeds_count=True, min_similarity=0.5), SEEDS)


COMPOUNDS = {
    "butanol": "CCCCO",
    "amide": "CC(=O)Oc1ccccc1C(N)=O",
    "broken": "C1CC",
    "furan": "c1ccoc1",
}


def write_candidates(folder: Path) -> list[Path]:
    smi, csv_file, sdf = (folder / f"c.{ending}" for ending in ("smi", "csv", "sdf"))
    smi.write_text("# by hand\n\n" + "".join(f"{s}\t{n}\n" for n, s in COMPOUNDS.items()))
    csv_file.write_text("ID,SMILES\n" + "".join(f'"{n}","{s}"\n' for n, s in COMPOUNDS.items()))
    blocks = []
    for name, smiles in COMPOUNDS.items():
        molecule = Chem.MolFromSmiles(smiles)
        text = Chem.MolToMolBlock(Chem.AddHs(molecule)) if molecule else "\n\n\n  wrong\nM  END\n"
        blocks.append(name + "\n" + text.split("\n", 1)[1] + "$$$$\n")
    sdf.write_text("".join(blocks))
    zipped = folder / "c.sdf.gz"
    zipped.write_bytes(gzip.compress(sdf.read_bytes()))
    return [smi, csv_file, sdf, zipped]


def test_all_kinds_of_file_hold_the_same(tmp_path: Path) -> None:
    for path in write_candidates(tmp_path):
        found = {}
        for record in read_records(path):
            molecule = parse(record)
            found[record[1]] = None if molecule is None else Chem.MolToSmiles(molecule)
        expected = {n: s if Chem.MolFromSmiles(s) else None for n, s in COMPOUNDS.items()}
        assert found == expected, path.name
    dump = tmp_path / "CID-SMILES.gz"
    dump.write_bytes(gzip.compress(b"1\tCCO\n22\tc1ccccc1\n"))
    assert [each[:3] for each in read_records(dump)] == [
        ("smiles", "1", "CCO"),
        ("smiles", "22", "c1ccccc1"),
    ]


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"CCO\n" * 100_000)
    (tmp_path / "cut.smi.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"cut\.smi\.gz: is damaged"):
        list(read_records(tmp_path / "cut.smi.gz"))
    (tmp_path / "x.xlsx").write_text("")
    with pytest.raises(DataError, match=r"\.xlsx is none of"):
        list(read_records(tmp_path / "x.xlsx"))
    (tmp_path / "x.csv").write_text("name,formula\n")
    with pytest.raises(DataError, match="no column smiles"):
        list(read_records(tmp_path / "x.csv"))


def test_reading_a_long_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.smi.gz"
    path.write_bytes(gzip.compress(b"CC(=O)Oc1ccccc1C(=O)O aspirin\n" * 200_000))
    tracemalloc.start()
    count = sum(len(chunk) for chunk in chunks(read_records(path), 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 2_000_000


WIDE = Criteria(min_similarity=0.2, max_similarity=0.9, max_accepted_similarity=0.6)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("candidates") / "edits.smi"
    found = enumerate_edits(smiles for _, smiles in SEEDS[:2])
    path.write_text("".join(f"{smiles}\n" for smiles in [*found, *found[:5], "C((", "CCBr"]))
    return path


def test_selection_accounts_for_every_candidate(candidates: Path, tmp_path: Path) -> None:
    result = select(candidates, SEEDS, WIDE, tmp_path / "out.csv", workers=1, chunk=100)
    lines = candidates.read_text().splitlines()
    assert result.read == len(lines)
    assert result.read == len(result.accepted) + sum(result.removed.values())
    assert result.removed[UNREADABLE] == 1
    chosen = [passed.smiles for passed in result.accepted]
    assert len(chosen) > 10
    assert chosen == [line for line in lines if line in set(chosen)][: len(chosen)]
    for index, smiles in enumerate(chosen):
        assert max([similarity(smiles, other) for other in chosen[:index]], default=0) <= 0.6
        assert any(0.2 < similarity(smiles, seed) < 0.9 for _, seed in SEEDS)
    # What was judged is kept until the selection is on the disk.
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv.work"]
    write_selection(tmp_path / "out.csv", result)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_killed_selection_goes_on_to_the_same_result(candidates: Path, tmp_path: Path) -> None:
    """Kill a run between chunks; other limits are refused then, the same ones finish it."""
    output = tmp_path / "out.csv"
    script = (
        "import sys, pathlib; sys.path[:0] = sys.argv[4].split(':')\n"
        "from training.curation.selection import select\n"
        "from test_curate import WIDE, SEEDS\n"
        "if __name__ == '__main__':\n"
        "    select(pathlib.Path(sys.argv[1]), SEEDS, WIDE, pathlib.Path(sys.argv[2]),\n"
        "           workers=1, chunk=int(sys.argv[3]))\n"
    )
    path = tmp_path / "run.py"
    path.write_text(script)
    paths = f"{ROOT}:{ROOT / 'tests'}:{Path(__file__).parent}"
    command = [sys.executable, str(path), str(candidates), str(output), "5", paths]
    process = subprocess.Popen(command, cwd=ROOT)
    work = tmp_path / "out.csv.work"
    deadline = time.monotonic() + 200
    while len(list(work.glob("0*.json"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    parts = {part.name: part.stat().st_mtime_ns for part in work.glob("0*.json")}
    assert len(parts) < len(candidates.read_text().splitlines()) / 5, "it was killed too late"
    with pytest.raises(ConfigError, match="unfinished run with another file"):
        select(candidates, SEEDS, Criteria(), output, chunk=5)
    seen: list[int] = []
    result = select(
        *(candidates, SEEDS, WIDE, output), chunk=5, report=lambda read, _: seen.append(read)
    )
    whole = select(candidates, SEEDS, WIDE, tmp_path / "whole.csv", chunk=100)
    assert result == whole
    assert seen[0] > 5 * len(parts) - 5, "it judged again what was there"


def test_an_edit_changes_a_compound_by_one_step() -> None:
    found = set(edits("CCO"))
    assert {"CCCO", "CC(C)O", "CC", "CO", "CCS", "CCN", "CC=O", "OCCCl", "CC(O)C#N"} <= found
    assert all(Chem.CanonSmiles(smiles) == smiles for smiles in found)
    assert max(Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() for smiles in found) <= 3 + 4
    assert "CCO" not in enumerate_edits(["CCO"])


@pytest.mark.parametrize(
    "smiles", ["C=CO", "C=C(O)C", "OCO", "COO", "NNC", "CCl.C", "C=C=C", "NC#N", "OC(=O)O", "C=CN"]
)
def test_compounds_that_nobody_bottles_are_unlikely(smiles: str) -> None:
    assert not is_likely(smiles) or "." in smiles


@pytest.mark.parametrize(
    "smiles",
    ["CC(=O)O", "c1ccc(O)cc1", "C[N+](=O)[O-]", "CSC", "CC(N)=O", "O=c1cc[nH]c(=O)[nH]1", "ClCCl"],
)
def test_ordinary_compounds_are_likely(smiles: str) -> None:
    assert is_likely(smiles)


def test_the_command_prints_what_each_criterion_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path)
    output = tmp_path / "out.csv"
    seeds = tmp_path / "seeds.csv"
    seeds.write_text("name,smiles\n" + "".join(f"{n},{s}\n" for n, s in SEEDS))
    arguments = ["select", str(tmp_path / "c.csv"), "-o", str(output), "--seeds", str(seeds)]
    arguments += ["--min-similarity", "0.5", "--with-seeds", "--workers", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    counts = Counter({line[11:]: int(line[:10]) for line in printed.splitlines()})
    assert counts["candidates"] == 4
    assert counts[UNREADABLE] == -1
    assert counts["candidates"] == counts["accepted"] - sum(n for n in counts.values() if n < 0)
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [*dict(SEEDS), "butanol", "amide"]
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["select", "missing.smi", "-o", "x.csv"], "no such file"),
        (["select", "s.smi", "-o", "x.csv", "--elements", "C,Xx"], "--elements"),
        (["select", "s.smi", "-o", "x.csv", "--min-similarity", "2"], "--min-similarity"),
        (["select", "s.smi", "-o", "x.csv", "--seeds-count"], "nothing can be above"),
        (["select", "s.smi", "-o", "x.csv", "--max-similarity", "0.5"], "no similarity is above"),
        (["select", "s.smi", "-o", "no/x.csv"], "no folder"),
        (["select", "s.smi", "-o", "x.csv", "--held-out", "missing.csv"], "no such file"),
        (["edits", "-o", "x.smi", "--seeds", "bad.smi"], "cannot read"),
        (["divide", "-o", "x.csv", "--compounds", "s.smi"], "too few compounds"),
        (["choose"], "choose"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.smi").write_text("CCO\n")
    (tmp_path / "bad.smi").write_text("C((\n")
    before = set(tmp_path.iterdir())
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", [["select", "s.smi", "--with-seeds"], ["edits"]])
@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("[Na+].[Cl-] salt", "seed salt: '[Cl-].[Na+]' holds 2 molecules or ions"),
        ("C[NH3+] ion", "seed ion: 'C[NH3+]' has a total charge of +1"),
        ("[CH3] radical", "seed radical: '[CH3]' has unpaired electrons"),
        ("[2H]OC heavy", "names the isotope 2H"),
        ("CCO alcohol\nCO alcohol", "seed alcohol stands there twice"),
        ("CCO ethanol\nOCC alcohol", "seed CCO stands there twice"),
    ],
)
def test_seeds_are_molecules_that_can_be_simulated_each_once(
    command: list[str],
    seeds: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.smi").write_text("CCO\n")
    (tmp_path / "seeds.smi").write_text(f"CCCC butane\n{seeds}\n")
    assert main([*command, "-o", "x.csv", "--seeds", "seeds.smi"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("curate: seeds.smi: ")
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.smi", "seeds.smi"]


def test_seeds_of_two_files_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.smi").write_text("CCO ethanol\n")
    given = [word for name in ("a", "b") for word in ("--seeds", str(tmp_path / f"{name}.smi"))]
    assert main(["edits", "-o", str(tmp_path / "x.smi"), *given]) == 2
    assert "b.smi: seed ethanol stands there twice" in capsys.readouterr().err


def test_a_file_without_records_selects_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.smi").write_text("# nothing\n")
    result = select(tmp_path / "empty.smi", SEEDS, WIDE, tmp_path / "out.csv")
    assert (result.read, result.accepted) == (0, [])
    write_selection(tmp_path / "out.csv", result)
    assert (tmp_path / "out.csv").read_text() == "name,smiles,source\n"
    assert json.dumps(dict(result.removed)) == "{}"
