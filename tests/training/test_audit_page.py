"""What an audit says beside its numbers: what is left out, lost, or of another method."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_card, make_operator
from harmonic_bursts import water_bursts

from ase_atom.operator import Operator, load_operator, save_operator
from training import audit as command
from training.auditing import canonical, others, report
from training.auditing.errors import median, pair
from training.auditing.page import as_markdown, write_page
from training.auditing.report import audit
from training.auditing.theory import difference, method
from training.data.store import write_bursts

NAMES = {"water": "O", "amine": "CN", "ring": "C1CC1", "ether": "COC", "peroxide": "OO"}


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    model = make_operator(strength=0.003)
    model.card = make_card(name="tiny", smiles=["CCO"], level_of_theory="springs")
    return save_operator(model, tmp_path / "tiny.safetensors")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Springs by the names of molecules; the audit looks at names alone."""
    bursts = water_bursts(10)
    for n, (name, smiles) in enumerate(NAMES.items()):
        pieces = [
            replace(burst, key=f"{name}/{k:05d}", smiles=smiles)
            for k, burst in enumerate(bursts[2 * n : 2 * n + 2])
        ]
        write_bursts(tmp_path / "small" / f"{name}.h5", pieces)
    return tmp_path / "small"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "parts.csv"
    rows = [f"{name},{smiles},test" for name, smiles in NAMES.items()]
    path.write_text("\n".join(["name,smiles,part", *rows, ""]))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    given = ["audit", *map(str, words), "--lags", "4,8", "--starts", "2"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as caught:
        command.main()
    return caught.value.code


def strict(path: Path) -> dict:
    """JSON without the NaN and Infinity that Python reads beside it."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{path} holds {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_compounds_that_are_left_out_are_named_with_the_reason(
    operator: Path,
    data: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = "butane,CCCC,test\nammonium,[NH4+],test\nsalt,[Na+].[Cl-],test\nagain,NC,test\n"
    table.write_text(table.read_text() + more)
    output = tmp_path / "page"
    assert run(monkeypatch, operator, data, "--table", table, "--output", output) == 0
    printed, page = capsys.readouterr().out, (output / "audit.md").read_text()
    found = strict(output / "audit.json")
    assert len(found["rows"]) == 5
    assert list(found["left_out"]) == ["again", "butane", "ammonium", "salt"]
    for name, reason in (
        ("butane", "the data hold no microcanonical bursts of it"),
        ("ammonium", "the data hold no microcanonical bursts of it"),
        ("salt", "it cannot be simulated: '[Cl-].[Na+]' holds 2 molecules or ions; give one "),
        ("again", "it is the compound amine, or a stereoisomer"),
    ):
        assert found["left_out"][name].startswith(reason)
        assert f"left out: {name}: {reason}" in printed
        assert f"\n- {name}: {reason}" in page
    assert "5 of 9 compounds, 1 in the training set" in page


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("GFN2-xTB, accuracy=1.0 (tblite 0.8.0)", "GFN2-xTB (tblite 0.7.1)"),
        ("pbe/def2-svp, density fitting (PySCF 2.14.0)", "PBE/def2-SVP, density fitting"),
    ],
)
def test_program_and_accuracy_are_no_difference_of_method(first: str, second: str) -> None:
    assert method(first) == method(second)
    assert difference("tiny", first, [first, second]) is None
    assert difference("tiny", f"GFN1-xTB (tblite 0.8.0); {first}", [second]) is None


@pytest.mark.parametrize(
    ("taught", "measured", "message"),
    [
        ("GFN2-xTB (tblite 0.8.0)", "GFN1-xTB (tblite 0.8.0)", "tiny was trained on GFN2-xTB"),
        ("pbe/def2-svp, accuracy=1", "pbe/def2-svp, accuracy=2", "bursts here are of pbe/def2-svp"),
        ("pbe/def2-svp", "unknown", "bursts here do not state their level of theory"),
        ("unknown", "pbe/def2-svp", "tiny does not state its level of theory"),
    ],
)
def test_another_method_is_warned_of(taught: str, measured: str, message: str) -> None:
    assert message in difference("tiny", taught, [measured])


def test_both_levels_of_theory_are_on_the_page(operator: Path, data: Path, table: Path) -> None:
    model, said = load_operator(operator), []

    def measure(**others: list[Path]) -> str:
        found = audit(model, [data], table, lags=[4.0], starts=1, others=others, say=said.append)
        return as_markdown(found)

    page = measure()
    assert "Trained on springs; the bursts are of springs." in page
    assert not any("warning" in line.casefold() for line in [page, *said])
    model.card = make_card(name="tiny", smiles=["CCO"], level_of_theory="GFN2-xTB (tblite 0.8.0)")
    page = measure(same=[operator])
    assert "Trained on GFN2-xTB (tblite 0.8.0); the bursts are of springs." in page
    warning = "tiny was trained on GFN2-xTB (tblite 0.8.0), and bursts here are of springs"
    assert f"**Warning:** {warning}" in page
    (line,) = (line for line in said if line.startswith("warning:"))
    assert warning in line
    model.card = make_card(name="tiny", smiles=["CCO"], level_of_theory="springs")
    other = make_operator()
    save_operator(other, operator)
    assert "**Warning:** same was trained on none: random weights" in measure(same=[operator])


@pytest.mark.parametrize("factor", [np.nan, np.inf, 1e38])
def test_what_is_lost_is_no_number(
    operator: Path,
    data: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
) -> None:
    model, real = load_operator(operator), report.squares

    def squares(operator: Operator, bursts: list, *words: object) -> np.ndarray:
        found = real(operator, bursts, *words)
        if operator.name == "tiny" and bursts[0].molecule == "ring":
            found[:, 1, 0] *= factor
        return found

    monkeypatch.setattr(report, "squares", squares)
    monkeypatch.setattr(others, "squares", squares)
    sound = load_operator(operator)
    sound.card = make_card(name="sound", level_of_theory="springs")
    given = {
        "lost": [operator],
        "seeds": [operator, save_operator(sound, tmp_path / "s.safetensors")],
    }
    said: list[str] = []
    found = audit(model, [data], table, lags=[4.0, 8.0], starts=2, others=given, say=said.append)
    write_page(found, tmp_path / "page")
    page = (tmp_path / "page" / "audit.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| ring | 3 |"))
    assert row.endswith("| lost |")
    assert any(line.startswith("ring: 0.") and line.endswith(", lost") for line in said)
    for word in ("nan", "inf", "e+"):
        assert word not in page.replace("infinit", "")
    assert "the molecule has come apart" in page
    numbers = strict(tmp_path / "page" / "audit.json")
    ring = next(row for row in numbers["rows"] if row["name"] == "ring")
    assert (ring["errors"][1]["value"] is None) == (not np.isfinite(factor))
    # The largest of five is not their median.
    assert numbers["medians"][1] is not None
    assert numbers["correlations"]["mean Tanimoto similarity"][0]["compounds"] == 5
    assert numbers["correlations"]["mean Tanimoto similarity"][1]["compounds"] == 4
    assert [one["compounds"] for one in numbers["comparisons"][0]["pairs"]] == [5, 4]


def test_a_table_with_sets_has_a_median_of_each(operator: Path, data: Path, tmp_path: Path) -> None:
    table = tmp_path / "sets.csv"
    rows = [
        f"{name},{smiles},test,{'odd' if name == 'peroxide' else 'small'}"
        for name, smiles in NAMES.items()
    ]
    table.write_text("\n".join(["name,smiles,part,set", *rows, ""]))
    found = audit(load_operator(operator), [data], table, lags=[4.0, 8.0], starts=2)
    errors = {row.name: [e.value for e in row.errors] for row in found.rows}
    assert found.sets() == ["small", "odd"] or found.sets() == ["odd", "small"]
    assert found.medians("odd") == errors.pop("peroxide")
    assert found.medians("small") == pytest.approx(np.median(list(errors.values()), axis=0))
    page = as_markdown(found)
    assert "| **median of 4, small** |" in page
    assert "| **median of 1, odd** |" in page
    write_page(found, tmp_path / "page")
    assert set(strict(tmp_path / "page" / "audit.json")["medians_of_sets"]) == {"small", "odd"}


def test_a_median_is_lost_with_half_of_its_errors() -> None:
    assert median([[0.1, 0.1], [0.2, np.nan], [1e19, 1e19]], axis=0).tolist() == [0.2, np.inf]
    lost = pair([np.nan, 0.1], [0.1, np.inf])
    assert (lost.better, lost.compounds) == (0, 0)


def test_a_page_on_which_all_is_lost_is_written(
    operator: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    model = load_operator(operator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(float("nan"))
    found = audit(model, [data], table, lags=[4.0], starts=1, others={"same": [operator]})
    write_page(found, tmp_path / "page")
    page = (tmp_path / "page" / "audit.md").read_text()
    assert "| **median** | | **lost** |" in page
    assert "| tiny | same | - |" in page
    assert strict(tmp_path / "page" / "audit.json")["medians"] == [None]


def test_temperatures_of_runs_that_broke_at_once_are_not_known(
    operator: Path, data: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = canonical.CanonicalRun(2, 0, 0.0, None, None, None, None, None, [], ["apart", "apart"])
    monkeypatch.setattr(canonical, "roll", lambda *_: broken)
    output = tmp_path / "page"
    words = ["--table", table, "--output", output, "--langevin", "0.032"]
    assert run(monkeypatch, operator, data, *words) == 0
    assert "| water | 0/2 | - |  |  |  |" in (output / "audit.md").read_text()
    kept = output / "runs" / "water.json"
    assert strict(kept)["run"]["temperature"] is None


def test_the_page_has_bonds_beside_the_reference(
    operator: Path, data: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bond = {"bond": "O1–H1,2", "mean_error_angstrom": 0.0, "width_error_angstrom": None}
    bond |= {"mean_angstrom": 1.2, "width_angstrom": 0.4}
    made = canonical.CanonicalRun(2, 2, 0.06, 300.0, 1.0, "O", 300.0, 1.0, [bond], [])
    monkeypatch.setattr(canonical, "roll", lambda *_: made)
    own = [
        replace(one, attrs=one.attrs | {"ensemble": "langevin"}, smiles="O", temperature_K=300.0)
        for one in water_bursts(8)
    ]
    write_bursts(tmp_path / "reference.h5", own, {})
    words = ["--table", table, "--output", tmp_path / "page", "--langevin", "0.032"]
    words += ["--precision", "2", "--reference", tmp_path / "reference.h5"]
    assert run(monkeypatch, operator, data, *words) == 0
    page = (tmp_path / "page" / "audit.md").read_text()
    assert "0.032 ps or longer, until the standard error is 2 K (median 0.06 ps" in page
    (line,) = [line for line in page.split("\n") if line.startswith("| water | 2/2 ")]
    assert "| O1–H1,2 +0.2" in line
    assert "runs, of 1 of the compounds: mean lengths of 0 of 1 kinds are within 0.005" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--langevin", "2", "--longest", "4"],
            "--longest is for --precision: say to which standard error, in K",
        ),
        (
            ["--langevin", "2", "--precision", "1", "--longest", "1"],
            "--longest must be at least --langevin, 2 ps, not 1",
        ),
        (["--precision", "1"], "--precision is for --langevin: say how many ps to run at least"),
        (["--table", "missing.csv"], "missing.csv: No such file or directory"),
        (["--table", "unreadable.csv"], "unreadable.csv, odd: 'C1CC(' is not a SMILES string"),
        (["--output", "mine.txt"], "mine.txt is a file: --output takes a folder"),
        (["--output", "mine.txt/audit"], "mine.txt is a file: --output takes a folder"),
    ],
)
def test_what_is_not_there_is_named_before_anything_is_measured(
    operator: Path,
    data: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("mine")
    Path("unreadable.csv").write_text("name,smiles,part\nodd,C1CC(,test\n")
    given = words if "--table" in words else [*words, "--table", table]
    assert run(monkeypatch, operator, data, *given) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"error: {message}")
