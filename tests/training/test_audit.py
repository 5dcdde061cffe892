"""The audit: likeness as RDKit has it, errors as the data have them, and no molecule twice."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from conftest import make_card, make_operator
from harmonic_bursts import water_bursts
from rdkit import Chem, DataStructs
from rdkit.Chem import AllChem

from ase_atom.analysis.molecule.symmetry import bond_classes
from ase_atom.errors import ConfigError, DataError
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import load_operator, save_operator
from ase_atom.state import PhaseState
from training import audit as command
from training.auditing import canonical
from training.auditing.canonical import CanonicalRun, compare_with, roll
from training.auditing.errors import correlate, pair, relative, squares
from training.auditing.page import as_markdown
from training.auditing.report import Audit, Long, audit
from training.auditing.similarity import compare, embed, functional_groups
from training.data.store import Burst, write_bursts
from training.evaluation.observables import Observables
from training.evaluation.rollouts import Plan
from training.evaluation.verdicts import reference_observables
from training.learning.tuning import held_out_errors


def renamed(name: str, smiles: str, first: int) -> list[Burst]:
    """Two bursts of water under another name, by number."""
    return [
        replace(burst, key=f"{name}/{n:05d}", smiles=smiles)
        for n, burst in enumerate(water_bursts(first + 2)[first:])
    ]


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    """Trained, it says, on ethanol and methanol."""
    model = make_operator(strength=0.003)
    model.card = make_card(name="tiny", smiles=["CCO", "CO", "CCC"], largest_molecule=40)
    return save_operator(model, tmp_path / "tiny.safetensors")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Bursts of springs that go by the names of molecules; the audit looks at names alone."""
    compounds = {"water": "O", "amine": "CN", "ring": "C1CC1", "ether": "COC", "ethanol": "OCC"}
    compounds |= {"methanol": "CO", "propane": "CCC"}
    for n, (name, smiles) in enumerate(compounds.items()):
        write_bursts(tmp_path / "small" / f"{name}.h5", renamed(name, smiles, 2 * n))
    return tmp_path / "small"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "parts.csv"
    rows = ["water,O,test", "amine,NC,test", "ring,C1CC1,test", "ether,COC,test"]
    path.write_text("\n".join(["name,smiles,part", *rows, "ethanol,CCO,train\n"]))
    return path


def test_likeness_is_that_of_an_independent_fingerprint() -> None:
    training = ["CCO", "c1ccccc1O", "CC(=O)C"]
    found = compare(["CCCO", "Cc1ccccc1", "C1CC1"], training)

    def bits(smiles: str) -> object:
        return AllChem.GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(smiles), 2, 2048)

    for smiles, like in found.items():
        similar = [DataStructs.TanimotoSimilarity(bits(smiles), bits(one)) for one in training]
        assert like.largest == pytest.approx(max(similar))
        assert like.mean == pytest.approx(np.mean(similar))
        assert like.nearest == training[int(np.argmax(similar))]
    assert (found["Cc1ccccc1"].scaffold, found["Cc1ccccc1"].shared_scaffold) == ("c1ccccc1", 1)
    assert found["C1CC1"].shared_scaffold == 0
    assert (found["CCCO"].scaffold, found["CCCO"].groups) == ("", {"alcohol": 1})
    assert found["C1CC1"].unseen_groups == ["three- or four-membered ring"]


@pytest.mark.parametrize(
    ("smiles", "groups"),
    [
        ("CCO", {"alcohol"}),
        ("COC", {"ether"}),
        ("CC(=O)O", {"carboxylic acid"}),
        ("CC(=O)OC", {"ester"}),
        ("CC(N)=O", {"amide"}),
        ("NC(=O)CC(=O)O", {"amide", "carboxylic acid"}),
        ("CC(C)=O", {"ketone"}),
        ("O=CCC=O", {"aldehyde"}),
        ("C=O", {"aldehyde"}),
        ("OC=O", {"carboxylic acid"}),
        ("NC=O", {"amide"}),
        ("CC(=O)SC", {"thioester"}),
        ("CC(N)=S", {"thiocarbonyl"}),
        ("CSSC", {"disulfide"}),
        ("COOC", {"peroxide"}),
        ("SCCCl", {"thiol", "chloride"}),
        ("c1ccc2sccc2c1", {"benzene ring", "aromatic oxygen or sulfur", "fused or bridged ring"}),
        ("c1c[nH]cn1", {"aromatic nitrogen"}),
        ("CN1C2CCCC1CC2", {"amine", "fused or bridged ring"}),
        ("C1CCC1", {"three- or four-membered ring"}),
        ("O=[N+]([O-])c1ccccc1", {"nitro", "benzene ring"}),
        ("Oc1ccccc1", {"phenol", "benzene ring"}),
        ("CC#N", {"nitrile"}),
        ("CC", set()),
    ],
)
def test_functional_groups(smiles: str, groups: set[str]) -> None:
    assert functional_groups(smiles) == groups


def test_an_embedding_does_not_depend_on_pose_or_order(operator: Path) -> None:
    model = load_operator(operator)
    burst = water_bursts(1)[0]
    x = burst.positions[0]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    poses = [
        (burst.numbers, x),
        (burst.numbers, x @ turn + 5),
        (burst.numbers[[2, 0, 1]], x[[2, 0, 1]]),
    ]
    first, *others = (
        embed(model, PhaseState.from_atoms(Atoms(numbers, place))) for numbers, place in poses
    )
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-4)
    stretched = embed(model, PhaseState.from_atoms(Atoms(burst.numbers, 1.3 * x)))
    assert np.abs(stretched - first).max() > 1e-3


def test_errors_are_those_of_training_and_their_intervals_hold_them(operator: Path) -> None:
    model, bursts = load_operator(operator), water_bursts(3)
    sums = squares(model, bursts, [4.0, 16.0], 10)
    assert sums.shape == (3, 2, 2)
    found = relative(sums, 500, np.random.default_rng(0))
    known = held_out_errors(model, bursts, [4.0, 16.0], 10)
    for error, lag in zip(found, (4, 16), strict=True):
        assert error.value == pytest.approx(known[f"position_{lag}fs"], rel=1e-4)
        assert error.low <= error.value <= error.high


def test_intervals_of_correlations_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(40):
        x = rng.normal(size=30)
        found = correlate(x, x + rng.normal(size=30), draws=300)
        # Spearman's ρ of two normal variables with correlation r is 6/π asin(r/2).
        held += found.low <= 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2) <= found.high
    assert held >= 33
    assert correlate([1, 2, 3], [1, 2, 3]) is None


def test_pairs_of_operators() -> None:
    first = np.linspace(0.1, 0.3, 8)
    found = pair(first, 1.5 * first)
    assert (found.ratio, found.better, found.compounds) == (pytest.approx(1.5), 0, 8)
    assert found.probability == pytest.approx(2 / 2**8)
    assert pair(first, first).probability == 1


def test_the_page_has_every_compound_once_and_its_numbers(
    operator: Path,
    data: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "page"
    words = ["audit", str(operator), str(data), "--table", str(table), "--starts", "4"]
    words += ["--lags", "4,8", "--also", f"same={operator}", "--output", str(output)]
    words += ["--langevin", "0.032", "--replicas", "2"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 0
    page = (output / "audit.md").read_text()
    for name in ("water", "amine", "ring", "ether"):
        assert page.count(f"\n| {name} |") == 3
    assert "ethanol" not in page.replace("python -m", "")
    assert (output / "audit.png").stat().st_size > 10_000
    numbers = json.loads((output / "audit.json").read_text())
    assert [row["name"] for row in numbers["rows"]] == ["amine", "ether", "ring", "water"]
    assert all(row["likeness"]["distance"] is not None for row in numbers["rows"])
    assert [one["ratio"] for one in numbers["comparisons"][0]["pairs"]] == [1, 1]
    assert [row["canonical"]["replicas"] for row in numbers["rows"]] == [2, 2, 2, 2]
    assert numbers["correlations"]["largest Tanimoto similarity"][0]["compounds"] == 4
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    assert "holds an audit" in capsys.readouterr().err


def test_long_runs_that_are_done_are_kept(
    operator: Path,
    data: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, count = load_operator(operator), 0
    plan = Plan(duration=32.0, stride=model.card.stride_fs, temperature=300.0)

    def interrupted(*arguments: object) -> CanonicalRun:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return roll(*arguments)

    def measure(plan: Plan) -> Audit:
        long = Long(plan, 2, tmp_path)
        return audit(model, [data], table, lags=[4.0], starts=2, long=long)

    monkeypatch.setattr(canonical, "roll", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(plan)
    assert len(list((tmp_path / "runs").iterdir())) == 2
    found = measure(plan)
    assert count == 5  # the interrupted one again, and the fourth
    again = measure(plan)
    assert count == 5
    assert [row.canonical for row in again.rows] == [row.canonical for row in found.rows]
    # Another plan is another run.
    measure(replace(plan, seed=1))
    assert count == 9


def test_seeds_of_one_label_and_folders_by_compound(
    operator: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    model = load_operator(operator)
    folder = tmp_path / "tuned"
    folder.mkdir()
    for name in ("water", "ring"):
        shutil.copy(operator, folder / f"{name}.safetensors")
    worse = tmp_path / "worse.safetensors"
    spoiled = load_operator(operator)
    with torch.no_grad():
        for parameter in spoiled.parameters():
            parameter.mul_(1.3)
    save_operator(spoiled, worse)
    others = {"seeds": [operator, worse], "tuned": [folder]}
    found = audit(model, [data], table, lags=[4.0, 8.0], starts=4, others=others)
    seeds, tuned = found.others
    assert np.shape(seeds.medians) == (2, 2)
    assert seeds.medians[0] == pytest.approx(found.medians())
    assert seeds.medians[1] != pytest.approx(found.medians())
    assert list(tuned.errors) == ["ring", "water"]
    by_name = {row.name: [error.value for error in row.errors] for row in found.rows}
    for one, errors in tuned.errors.items():
        assert errors == pytest.approx(by_name[one])
    tests = {(one.first, one.second): one.pairs[0].compounds for one in found.comparisons}
    name = model.name
    assert tests == {(name, "seeds"): 4, (name, "tuned"): 2, ("seeds", "tuned"): 2}
    page = as_markdown(found)
    assert "| tuned | 2 of 4 | 1 |" in page
    assert "| seeds | 4 of 4 | 2 |" in page
    with pytest.raises(ConfigError, match=f"{name} is audited: give .* another label"):
        audit(model, [data], table, lags=[4.0], starts=2, others={name: [worse]})
    with pytest.raises(ConfigError, match="differ, by amine for one"):
        audit(model, [data], table, lags=[4.0], starts=2, others={"a": [operator, folder]})
    with pytest.raises(ConfigError, match=r"no operator of a compound .*amine\.safetensors"):
        audit(model, [data], table, lags=[4.0], starts=2, others={"a": [tmp_path]})


def thermostatted(bursts: list[Burst], scale: float = 1.0) -> list[Burst]:
    """Bursts that say they are Langevin runs at 300 K, of a molecule larger by a factor."""
    attrs = {"ensemble": "langevin"}
    return [
        replace(one, positions=one.positions * scale, temperature_K=300.0, attrs=one.attrs | attrs)
        for one in bursts
    ]


def test_long_runs_are_counted_and_their_bonds_compared(operator: Path) -> None:
    model, bursts = load_operator(operator), water_bursts(4)
    plan = Plan(duration=32.0, stride=model.card.stride_fs, temperature=300.0)
    run = roll(model, bursts, plan, 4)
    plain = compare_with(thermostatted(bursts), run, bursts, 300.0)
    larger = compare_with(thermostatted(bursts, 1.02), run, bursts, 300.0)
    assert run.unbroken + len(run.reasons) == 4
    assert run.unbroken > 0
    assert run.time == pytest.approx(0.032)
    assert (plain.bond, plain.width, plain.classes) == ("O1–H1,2", "O1–H1,2", 1)
    # Water's bonds are 0.97 Å long: against runs of a larger one they are short by 2 %.
    assert plain.difference - larger.difference == pytest.approx(0.02 * 0.97, rel=0.05)
    assert plain.ratio / larger.ratio == pytest.approx(1.02)
    assert 50 < run.temperature < 1000
    assert compare_with((), run, bursts, 300.0) is None


def test_bonds_beside_a_reference_are_counted_within_errors() -> None:
    """What counts as alike: 0.005 Å and 5 %, and two standard errors."""
    bursts = thermostatted(water_bursts(8))
    numbers, positions = bursts[0].numbers, bursts[0].positions[0]
    classes = bond_classes(numbers, perceive_bonds(numbers, positions))
    (reference,) = reference_observables(bursts, classes, 300.0).bond_lengths()
    for longer, wider, alike, as_wide in (
        (0.004, 1.04, 1, 1),
        (0.02, 1.0, 0, 1),
        (0.0, 1.6, 1, 0),
    ):
        own = dict(reference, mean_error_angstrom=0.0, width_error_angstrom=0.0)
        own["mean_angstrom"] += longer
        own["width_angstrom"] *= wider
        run = CanonicalRun(4, 4, 10.0, 300.0, 1.0, "O", 300.0, 1.0, [own], [])
        found = compare_with(bursts, run, bursts, 300.0)
        assert (found.alike, found.as_wide) == (alike, as_wide)
        assert found.difference == pytest.approx(longer, abs=1e-9)
        assert found.ratio == pytest.approx(wider)
        assert found.ratios == [pytest.approx(wider)]


def test_runs_go_on_until_temperatures_are_known(operator: Path) -> None:
    model, bursts = load_operator(operator), water_bursts(4)
    plan = Plan(32.0, model.card.stride_fs, 300.0, precision=1e9, longest=80.0)
    short = roll(model, bursts, plan, 4)
    assert short.time == pytest.approx(0.032)
    long = roll(model, bursts, replace(plan, precision=1e-9), 4)
    assert long.time == pytest.approx(0.08)
    asked = roll(model, bursts, replace(plan, duration=80.0), 4)
    # To go on is to be in the same run.
    assert long.unbroken == asked.unbroken
    assert long.temperature == pytest.approx(asked.temperature, rel=0.2)


def test_replicas_that_were_cut_short_are_not_counted(
    operator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Observables, "add", press)
    model = load_operator(operator)
    plan = Plan(duration=32.0, stride=model.card.stride_fs, temperature=300.0)
    with pytest.raises(KeyboardInterrupt):
        roll(model, water_bursts(4), plan, 4)


def test_reference_runs_must_be_of_the_ensemble_and_the_order(operator: Path) -> None:
    model, bursts = load_operator(operator), water_bursts(2)
    plan = Plan(duration=16.0, stride=model.card.stride_fs, temperature=300.0)
    run = roll(model, bursts, plan, 2)
    with pytest.raises(DataError, match="is nve at 300 K, not langevin"):
        compare_with(bursts, run, bursts, 300.0)
    other = replace(thermostatted(bursts)[0], numbers=bursts[0].numbers[::-1].copy())
    with pytest.raises(DataError, match="in another order"):
        compare_with([other], run, bursts, 300.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("water,O,test", "water,CCO,test"), "was trained on water"),
        (("test", "secret"), "no compounds of part 'test', but of secret, train"),
        (("O,test", "CCCCC,test"), None),
    ],
)
def test_what_it_was_trained_on_is_no_test(
    operator: Path, data: Path, table: Path, change: tuple[str, str], message: str | None
) -> None:
    table.write_text(table.read_text().replace(*change))
    if message is None:
        found = audit(load_operator(operator), [data], table, lags=[4.0], starts=2)
        assert [row.name for row in found.rows] == ["amine", "ether", "ring"]
        return
    with pytest.raises(ValueError, match=message):
        audit(load_operator(operator), [data], table, lags=[4.0], starts=2)
