"""Fine-tuning: to another level of theory, from little data, and never over what was held out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from conftest import make_card, make_operator
from harmonic_bursts import MASSES, WATER, Springs, water_bursts
from potentials import random_potential

from ase_atom.errors import ConfigError, DataError
from ase_atom.molecules.coverage import temperature_warning
from ase_atom.operator import load_operator, save_operator
from ase_atom.state import PhaseState
from training import finetune
from training.data.export import write_frames
from training.data.store import Burst, fingerprint, read_bursts, write_bursts
from training.importing.bursts import divide
from training.learning import tuning
from training.learning.config import load_config
from training.learning.run import refit_energies
from training.train import train

CONFIG = """
name: springs
stride: 8
operator: {horizon: 16, segment: 8, elements: [1, 8], width: 16, pair_width: 8, heads: 2,
           vector_channels: 8, blocks: 1, energy_blocks: 1, pair_vectors: 4, radial_channels: 4,
           modes: 8}
data: {paths: [water.h5], validation: 0.1, test: 0.2}
optimiser: {name: muon, lr: 5.0e-3, warmup: 10}
loss: {force_batch: 4}
trainer: {steps: 120, batch_size: 8, accelerator: cpu, threads: 1, validate_every: 120}
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator of one level of theory, and its data."""
    folder = tmp_path_factory.mktemp("parent")
    write_bursts(folder / "water.h5", water_bursts(10))
    (folder / "springs.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASE_ATOM_DATA", str(folder))
        return train(load_config(folder / "springs.yaml"), folder / "run")


def softer_bursts(count: int, frames: int = 80) -> list[Burst]:
    """Water at another level of theory: softer springs, another zero of energy."""
    springs = Springs((*WATER[:3], [(i, j, 0.6 * constant) for i, j, constant in WATER[3]]))
    bursts = [springs.burst(n, 400.0, frames, "soft") for n in range(count)]
    for burst in bursts:
        burst.energies -= 300
        burst.attrs["theory"] = "softer springs"
    return bursts


def tune(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["finetune", *map(str, words), "--threads", "1"])
    with pytest.raises(SystemExit) as caught:
        finetune.main()
    return caught.value.code


@pytest.mark.parametrize("potential", [False, True])
def test_an_operator_learns_another_level_of_theory(
    parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    potential: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    if potential:
        before = load_operator(parent)
        before.potential = random_potential((1, 8))
        parent = save_operator(before, tmp_path / "parent.safetensors")
    data = tmp_path / "soft.h5"
    write_bursts(data, softer_bursts(4))
    words = ["--steps", "90", "--rate", "3", "--output", "tuned.safetensors"]
    assert tune(monkeypatch, parent, data, *words) == 0
    printed = capsys.readouterr().out
    assert "before: springs" in printed
    assert "after: tuned" in printed
    operator = load_operator("tuned.safetensors")
    card = operator.card
    assert card.level_of_theory == "softer springs"
    assert card.data_fingerprint == fingerprint(data)
    assert "fine-tuned from springs" in card.notes
    assert card.training_config["start_from"] == str(parent)
    assert (len(card.split["train"]), len(card.split["validation"])) == (3, 1)

    bursts = {burst.key: burst for burst in read_bursts(data)}
    held = [bursts[key] for key in card.split["validation"]]
    before = load_operator(parent)
    refit_energies(before, [bursts[key] for key in card.split["train"]])
    old, new = (tuning.held_out_errors(one, held, [4, 8]) for one in (before, operator))
    assert new["position_4fs"] < 0.8 * old["position_4fs"]
    # A potential of random weights learns slowly.
    assert new["force_meV_A"] < (0.97 if potential else 0.85) * old["force_meV_A"]
    # The zero of energy is the new one: 300 eV below the parent's.
    state = PhaseState.from_atoms(Atoms(held[0].numbers, held[0].positions[0]))
    assert float(operator.energy(state)) == pytest.approx(held[0].energies[0], abs=1.0)


def test_from_scratch_takes_nothing_but_the_architecture(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bursts(tmp_path / "soft.h5", softer_bursts(3))
    assert tune(monkeypatch, parent, "soft.h5", "--steps", "1", "--from-scratch") == 0
    operator = load_operator("soft-scratch.safetensors")
    before = load_operator(parent)
    assert operator.config == before.config
    assert operator.card.training_config["start_from"] is None
    weights = zip(operator.parameters(), before.parameters(), strict=True)
    assert any(not torch.allclose(one, other, atol=0.1) for one, other in weights)


def test_an_operator_is_tuned_for_molecules_that_it_covers() -> None:
    bursts = softer_bursts(2)
    own, hydrogens = make_operator(), [replace(one, smiles="OO") for one in bursts]
    for card, found, message in (
        (
            make_card(smiles=["CCO", "CO"]),
            bursts,
            r"not trained on O \(its card lists CCO, CO\): .*",
        ),
        (
            make_card(smiles=["O"]),
            bursts + hydrogens,
            r"not trained on OO .* such as organic-wb97m",
        ),
        (make_card(smiles=["C" * n for n in range(1, 9)]), bursts, "CCCCCC, …"),
        (make_card(smiles=["O"]), bursts, None),
        (make_card(smiles=["CCO"], largest_molecule=2), bursts, None),
    ):
        own.card = card
        if message is None:
            finetune.check_parent(own, found)
        else:
            with pytest.raises(ConfigError, match=message):
                finetune.check_parent(own, found)
            finetune.check_parent(own, found, from_scratch=True)


def test_stereochemistry_that_data_do_not_state_hinders_nothing() -> None:
    """As of an operator for malonaldehyde's enol, and of a trajectory of it that was imported."""
    operator = make_operator()
    operator.card = make_card(smiles=[r"O=C/C=C\O"])
    finetune.check_parent(operator, [replace(softer_bursts(1)[0], smiles="O=CC=CO")])


def test_advice_is_of_its_own_options(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bursts(tmp_path / "soft.h5", softer_bursts(3))
    assert tune(monkeypatch, parent, "soft.h5", "--steps", "50", "--rate", "1e30") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "lower --rate, and begin anew with --overwrite" in error


def test_a_trajectory_of_another_program_is_read_and_divided_in_time(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (burst,) = softer_bursts(1, frames=400)
    burst.attrs["ensemble"] = "nve"
    write_frames(tmp_path / "aimd.extxyz", iter([burst]), 1)
    words = ["--steps", "2", "--theory", "by hand", "--output", "mine.safetensors"]
    assert tune(monkeypatch, parent, "aimd.extxyz", *words) == 0
    card = load_operator("mine.safetensors").card
    assert card.level_of_theory == "by hand"
    assert card.split == {"train": ["aimd/00000"], "validation": ["aimd/00001"], "test": []}
    (kelvin,) = {one.temperature_K for one in read_bursts(tmp_path / "mine.run" / "data.h5")}
    for factor, warned in ((0.75, True), (0.85, False), (1.0, False), (1.15, False), (1.25, True)):
        assert (temperature_warning(factor * kelvin, card) is not None) == warned
    taught, held = read_bursts(tmp_path / "mine.run" / "data.h5")
    assert len(taught.energies) + len(held.energies) == 398 - 50
    np.testing.assert_allclose(held.energies, burst.energies[-1 - len(held.energies) : -1])


def test_a_harvest_teaches_the_potential_beside_the_paths(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    *paths, asked = softer_bursts(4, frames=40)
    write_bursts(tmp_path / "soft.h5", paths)

    def keep(file: str, shift: float) -> None:
        for x, energy, forces in zip(asked.positions, asked.energies, asked.forces, strict=True):
            frame = Atoms(asked.numbers, x + 1.0, info={"calculator": "soft"})
            frame.calc = SinglePointCalculator(frame, energy=energy + shift, forces=forces)
            write(file, frame, format="extxyz", append=True)

    keep("asked.extxyz", 0.0)
    words = ["soft.h5", "--steps", "2", "--output", "mine.safetensors", "--harvest"]
    assert tune(monkeypatch, parent, *words, "asked.extxyz") == 0
    assert "40 geometries of asked.extxyz for the potential" in capsys.readouterr().out
    (kept,) = read_bursts(tmp_path / "mine.run" / "harvest.h5")
    np.testing.assert_allclose(kept.forces, asked.forces, atol=1e-7)
    np.testing.assert_allclose(kept.energies, asked.energies, atol=1e-7)
    assert (kept.attrs["ensemble"], kept.attrs["theory"]) == ("displaced", "soft")
    data = load_operator("mine.safetensors").card.training_config["data"]
    assert data["displaced"] == [str(tmp_path / "mine.run" / "harvest.h5")]

    keep("other.extxyz", 5.0)
    words[4] = "other.safetensors"
    assert tune(monkeypatch, parent, *words, "other.extxyz") == 2
    assert "another level of theory" in capsys.readouterr().err
    assert tune(monkeypatch, parent, "asked.extxyz", *words[1:5]) == 2
    assert "go with --harvest beside a trajectory" in capsys.readouterr().err


def test_parts_of_a_burst_do_not_touch_and_a_short_one_is_refused() -> None:
    (burst,) = softer_bursts(1, frames=400)
    taught, held = divide(burst, 0.25)
    assert [taught.attrs["part"], held.attrs["part"]] == ["train", "validation"]
    assert len(held.energies) == 100
    assert len(taught.energies) == 250
    np.testing.assert_array_equal(held.positions[-1], burst.positions[-1])
    with pytest.raises(DataError, match="too few to learn"):
        divide(softer_bursts(1, frames=150)[0], 0.25)


def test_less_to_learn_from_and_the_same_held_out() -> None:
    bursts = softer_bursts(5, frames=120)
    held = []
    for length in (119.0, 210.0, 300.0):
        found = tuning.shortened(bursts, length, 1, seed=0)
        taught = [burst for burst in found if burst.attrs["part"] == "train"]
        held.append([burst.key for burst in found if burst.attrs["part"] == "validation"])
        assert length - 80 < sum(len(burst.energies) - 1 for burst in taught) <= length
    assert held[0] == held[1] == held[2]
    for length in (50.0, 900.0):
        with pytest.raises(DataError, match="the data have 476 beside what is held out"):
            tuning.shortened(bursts, length, 1, seed=0)


def test_a_budget_becomes_a_number_of_steps(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bursts(tmp_path / "soft.h5", softer_bursts(3))
    assert (
        tune(monkeypatch, parent, "soft.h5", "--budget", "0.01", "--output", "quick.safetensors")
        == 0
    )
    steps = load_operator("quick.safetensors").card.training_config["trainer"]["steps"]
    assert f"{steps} steps in 0.01 minutes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody", "soft.h5"], "no operator named 'nobody'"),
        (["PARENT", "sand.h5"], "there is no reference data at sand.h5"),
        (["PARENT", "note.txt"], "note.txt cannot be read by ASE"),
        (["PARENT", "carbon.h5"], r"knows atomic numbers \[1, 8\], but the data holds \[6\]"),
        (
            ["PARENT", "peroxide.h5"],
            r"springs was not trained on OO \(its card lists O\): start from",
        ),
        (["PARENT", "soft.h5", "--steps", "3", "--budget", "1"], "--steps or --budget, not both"),
        (["PARENT", "soft.h5", "--budget", "-1"], "--budget takes minutes above 0"),
        (["PARENT", "soft.h5", "--rate", "0"], "--rate takes a factor above 0"),
        (["PARENT", "soft.h5", "--output", "there.safetensors"], "exists: give another --output"),
        (["PARENT", "soft.h5", "--output", "tuned.pt"], "ends in .safetensors"),
        (["PARENT", "soft.h5", "--theory", "PBE"], "are for trajectories of other programs"),
        (["PARENT", "one.h5"], "too few to learn"),
        (["PARENT", "soft.h5", "--held-out", "0"], "--held-out takes a share or a count above 0"),
        (["PARENT", "one.h5", "--held-out", "2"], r"2 is a number of runs, and one.h5 holds one"),
        (["PARENT", "md.extxyz", "--held-out", "1"], "and md.extxyz holds one, .* a share below 1"),
        (["PARENT", "divided.h5", "--held-out", "0.5"], "divided.h5 was divided when it was made"),
        (["PARENT", "soft.h5", "--held-out", "1.5", "--length", "90"], "is a fraction below 1"),
        (["PARENT", "soft.h5", "--name", "my run", "--length", "90"], "name"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bursts(tmp_path / "soft.h5", softer_bursts(3))
    write_bursts(tmp_path / "one.h5", softer_bursts(1))
    (long,) = softer_bursts(1, frames=400)
    write_bursts(tmp_path / "divided.h5", divide(long, 0.25))
    write_frames(tmp_path / "md.extxyz", iter([long]), 1)
    carbon = softer_bursts(2)
    for burst in carbon:
        burst.numbers = np.array([6, 1, 1])
        burst.masses = np.array([12.011, MASSES[1], MASSES[1]])
    write_bursts(tmp_path / "carbon.h5", carbon)
    write_bursts(tmp_path / "peroxide.h5", [replace(b, smiles="OO") for b in softer_bursts(2)])
    (tmp_path / "note.txt").write_text("no trajectory\n")
    (tmp_path / "there.safetensors").write_text("mine")
    write(tmp_path / "plain.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
    present = sorted(tmp_path.rglob("*"))
    assert tune(monkeypatch, *(parent if word == "PARENT" else word for word in words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert sorted(tmp_path.rglob("*")) == present


def test_bursts_may_be_as_short_as_one_pass(
    parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Many short bursts cover more than few long ones, and later passes begin where one ends."""
    monkeypatch.chdir(tmp_path)
    write_bursts(tmp_path / "short.h5", softer_bursts(40, frames=12))
    assert tune(monkeypatch, parent, "short.h5", "--steps", "90") == 0
    *_, before, after = (
        re.findall(r"[\d.]+|-", line.partition(": ")[2].partition(" ")[2])
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("before", "after"))
    )
    assert float(after[0]) < 0.95 * float(before[0])
    assert after[1:3] == ["-", "-"]  # 16 and 32 fs, which no burst covers
    operator = load_operator(tmp_path / "short.safetensors")
    assert operator.horizon == 16.0
    write_bursts(tmp_path / "shorter.h5", softer_bursts(6, frames=8))
    assert tune(monkeypatch, parent, "shorter.h5", "--steps", "40") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "lag (8 fs) is longer than the shortest burst (7 fs)" in line
