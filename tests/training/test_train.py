"""Training runs: they learn, resume to the same result, and refuse what does not fit."""

from __future__ import annotations

import csv
import functools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ase import Atoms
from conftest import ROOT
from harmonic_bursts import hydrogen_bursts, water_bursts
from safetensors.torch import load_file

from ase_atom.errors import ConfigError, CoverageError, DataError
from ase_atom.operator import load_operator
from ase_atom.state import PhaseState
from training.data.store import fingerprint, write_bursts
from training.learning.config import load_config
from training.learning.folder import RunFolder
from training.learning.loop import Steps
from training.learning.optimisers import Muon, build_optimiser, build_schedule, orthogonalise
from training.learning.run import load_reference, make_module, make_operator
from training.train import main, train

CONFIG = """
name: springs
stride: 8
operator: {horizon: 16, segment: 8, elements: [1, 8], width: 16, pair_width: 8, heads: 2,
           vector_channels: 8, blocks: 1, energy_blocks: 1, pair_vectors: 4, radial_channels: 4,
           modes: 8}
data: {paths: [water.h5], validation: 0.1, test: 0.2}
optimiser: {name: muon, lr: 5.0e-3, warmup: 3, ema: 0.9}
loss: {force_batch: 4}
trainer: {steps: 40, batch_size: 8, accelerator: cpu, threads: 1, checkpoint_every: 5,
          validate_every: 10, log_every: 5, validate_starts: 2}
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASE_ATOM_DATA", str(tmp_path))
    write_bursts(tmp_path / "water.h5", water_bursts(10))
    path = tmp_path / "springs.yaml"
    path.write_text(CONFIG)
    return path


def start(config: Path, output: Path, *options: str, **keywords: object) -> subprocess.Popen:
    words = [sys.executable, "-m", "training.train", str(config), "--output", str(output), *options]
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords
    )


def steps_logged(output: Path) -> list[int]:
    with (output / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return [int(row["step"]) for row in rows]


def test_a_killed_run_resumes_to_the_same_result(config: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = load_file(train(load_config(config), whole))

    process = start(config, broken)
    while process.poll() is None and not list((broken / "checkpoints").glob("step=*.ckpt")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    stopped = RunFolder(broken).last_checkpoint()
    assert stopped is not None
    assert not (broken / "springs.safetensors").exists()

    found = load_file(train(load_config(config), broken))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert steps_logged(whole) == list(range(4, 40, 5))
    # The row of the checkpoint's own step is written a moment after the checkpoint.
    step = int(stopped.stem.partition("=")[2])
    assert [s for s in steps_logged(broken) if s != step - 1] == [
        s for s in steps_logged(whole) if s != step - 1
    ]
    assert [path.name for path in (broken / "checkpoints").iterdir()] == ["step=40.ckpt"]


def test_the_operator_carries_its_facts(config: Path, tmp_path: Path) -> None:
    settings = load_config(config, ["trainer.steps=2", "notes=trial"])
    path = train(settings, tmp_path / "run", command="python -m training.train springs.yaml")
    operator = load_operator(path)
    card = operator.card
    assert (card.name, card.smiles, card.elements) == ("springs", ["O"], [1, 8])
    assert card.temperature_range_K == (300.0, 500.0)
    assert (card.horizon_fs, card.stride_fs) == (16.0, 8.0)
    assert card.level_of_theory == "springs"
    assert card.training_command == "python -m training.train springs.yaml"
    assert card.training_config == settings.model_dump(mode="json")
    assert card.data_fingerprint == fingerprint(tmp_path / "water.h5")
    assert card.notes == "trial"
    assert [len(card.split[part]) for part in ("train", "validation", "test")] == [7, 1, 2]
    assert card.masses == {1: 1.008, 8: 15.999}
    assert not list((tmp_path / "run").glob("*unfinished*"))


def test_training_learns(config: Path, tmp_path: Path) -> None:
    """Errors on bursts that it never saw fall well below those of staying put."""
    settings = load_config(
        config,
        # In half as many steps some processors' rounding is still on a plateau.
        ["trainer.steps=500", "trainer.batch_size=16", "trainer.validate_every=500"]
        + ["optimiser.warmup=20", "trainer.log_every=50", "optimiser.name=adamw"],
    )
    train(settings, tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert losses[-1] < 0.2 * losses[0]
    last = next(row for row in reversed(rows) if row["validation/position_4fs"])
    # At 8 fs a bond is back where it was: hardly a displacement to measure errors against.
    assert float(last["validation/position_4fs"]) < 0.7
    assert float(last["validation/velocity_4fs"]) < 0.5
    size = torch.tensor(water_bursts(1)[0].forces).square().mean().sqrt()
    assert float(last["validation/force_meV_A"]) < 500 * float(size)


def test_compiled_functions_trace_and_agree(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Traced as for `trainer.compile`, but run without the minutes of making machine code."""
    traced = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", traced)
    losses, gradients = [], []
    for flag in ("false", "true"):
        settings = load_config(config, [f"trainer.compile={flag}"])
        reference = load_reference(settings, RunFolder(tmp_path / "run"))
        operator = make_operator(settings, reference.part("train"))
        module = make_module(settings, reference, operator)
        loss = module.loss_of_step(0)["loss"]
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in operator.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_other_settings_do_not_go_on_with_a_run(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    train(load_config(config, ["trainer.steps=1"]), output)
    with pytest.raises(ConfigError, match=r"optimiser.lr: 0.005 → 0.1.*--restart"):
        train(load_config(config, ["optimiser.lr=0.1"]), output)
    train(load_config(config, ["optimiser.lr=0.1", "trainer.steps=2"]), output, restart=True)
    assert RunFolder(output).last_checkpoint().name == "step=2.ckpt"


def test_bursts_added_later_are_left_out_and_altered_ones_refused(
    config: Path, tmp_path: Path
) -> None:
    settings, folder = load_config(config), RunFolder(tmp_path / "run")
    begun = load_reference(settings, folder)
    folder.begin(settings, begun.split, begun.fingerprint)
    write_bursts(tmp_path / "water.h5", water_bursts(12))
    again = load_reference(settings, folder)
    assert (again.split, again.fingerprint) == (begun.split, begun.fingerprint)
    write_bursts(tmp_path / "water.h5", water_bursts(10, frames=50))
    with pytest.raises(DataError, match="changed after this run began"):
        load_reference(settings, folder)
    write_bursts(tmp_path / "water.h5", water_bursts(9))
    with pytest.raises(DataError, match=r"1 bursts .* are gone .* water/00009"):
        load_reference(settings, folder)


def test_a_run_can_start_from_a_trained_operator(config: Path, tmp_path: Path) -> None:
    parent = train(load_config(config, ["trainer.steps=2"]), tmp_path / "parent")
    given = [f"start_from={parent}", "trainer.steps=1", "optimiser.lr=1e-12"]
    given += ["optimiser.muon_lr=1e-12", "operator.horizon=24"]
    child = train(load_config(config, given), tmp_path / "child")
    assert load_operator(child).horizon == 24
    assert load_operator(child).card.split == load_operator(parent).card.split
    for name, value in load_file(parent).items():
        torch.testing.assert_close(load_file(child)[name], value, atol=1e-9, rtol=1e-6)
    # What it learns from other data does not undo what its parent learned from.
    write_bursts(tmp_path / "others.h5", water_bursts(20)[10:])
    others = train(
        load_config(config, [*given, "data.paths=[others.h5]", "refit_energies=true"]),
        tmp_path / "others",
    )
    marks = [set(load_operator(path).card.training_frames) for path in (parent, others)]
    assert marks[0] < marks[1]
    # Of the same level of theory it is for its parent's molecules too.
    write_bursts(tmp_path / "hydrogen.h5", hydrogen_bursts(6))
    wider = train(load_config(config, [*given, "data.paths=[hydrogen.h5]"]), tmp_path / "wider")
    card, before = load_operator(wider).card, load_operator(parent).card
    assert card.smiles == ["O", "[H][H]"]
    assert (card.elements, card.masses) == ([1, 8], before.masses)
    assert card.temperature_range_K[1] == before.temperature_range_K[1] > 300.0
    with pytest.raises(ConfigError, match=r"operator\.width: 16 → 32"):
        train(load_config(config, [*given, "operator.width=32"]), tmp_path / "other")
    # It goes on only from the parent that it began with.
    train(load_config(config, ["trainer.steps=3"]), tmp_path / "parent")
    with pytest.raises(
        ConfigError, match=r"started from another .*springs\.safetensors than there"
    ):
        train(load_config(config, [*given, "trainer.steps=2"]), tmp_path / "child")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.paths=[sand.h5]", ("sand.h5", "python -m training.generate")),
        ("loss.window=2.5", ("loss.window (2.5 fs)", "no multiple", "(1 fs)")),
        ("loss.chain=8", ("loss.window times loss.chain (64 fs)", "shortest burst")),
        ("operator.elements=[1, 6]", ("[8]", "operator.elements: [1, 6, 8]")),
        ("start_from=nobody", ("no operator", "nobody")),
        pytest.param(
            "trainer.accelerator=gpu",
            ("gpu",),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_does_not_fit_is_one_line_and_exit_code_2(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
    words: tuple[str, ...],
) -> None:
    output = tmp_path / "run"
    arguments = ["train", str(config), "--output", str(output), "--set", override]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for word in words:
        assert word in message
    assert not output.exists()


def test_ctrl_c_says_how_to_go_on(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(_: Steps) -> Iterator[int]:
        yield from range(7)
        raise KeyboardInterrupt

    monkeypatch.setattr(Steps, "__iter__", interrupted)
    monkeypatch.setattr("sys.argv", ["train", str(config), "--output", str(tmp_path / "run")])
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert caught.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert RunFolder(tmp_path / "run").last_checkpoint().name == "step=5.ckpt"


def test_a_run_that_diverges_says_so(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no longer finite by step \d+: lower optimiser.lr"):
        train(load_config(config, ["optimiser.name=adamw", "optimiser.lr=1e30"]), tmp_path / "run")


def test_bursts_of_a_thermostat_are_refused(config: Path, tmp_path: Path) -> None:
    bursts = water_bursts(10)
    bursts[3].attrs["ensemble"] = "langevin"
    write_bursts(tmp_path / "water.h5", bursts)
    with pytest.raises(DataError, match="water/00003 is of ensemble langevin"):
        train(load_config(config), tmp_path / "run")


def test_displaced_geometries_and_unknown_charges_are_no_paths(
    config: Path, tmp_path: Path
) -> None:
    bursts = water_bursts(10)
    bursts[3].attrs["ensemble"] = "displaced"
    write_bursts(tmp_path / "water.h5", bursts)
    with pytest.raises(DataError, match=r"displaced: .* no path, name its folder under data.disp"):
        train(load_config(config), tmp_path / "run")
    bursts[3].attrs["ensemble"], bursts[4].charge = "nve", -1
    write_bursts(tmp_path / "water.h5", bursts)
    with pytest.raises(DataError, match=r"charge of -1, and operator.charges are \[0\]: add"):
        train(load_config(config), tmp_path / "run")
    settings = load_config(config, ['data.displaced=["water.h5"]', "operator.charges=[0, -1]"])
    with pytest.raises(DataError, match=r"ensemble nve: data\.displaced takes"):
        train(settings, tmp_path / "run")


def test_the_charge_is_an_input(config: Path, tmp_path: Path) -> None:
    """Ions of the same atoms have other paths, and a zero of energy of their own."""
    ions = water_bursts(10)
    for number, burst in enumerate(ions):
        burst.key, burst.smiles, burst.charge = f"ion/{number:05d}", "[OH2+]", 1
        burst.energies += 9.0
    write_bursts(tmp_path / "ions.h5", ions)
    options = ["trainer.steps=4", 'data.paths=["water.h5","ions.h5"]', "operator.charges=[0,1]"]
    operator = load_operator(train(load_config(config, options), tmp_path / "run"))
    assert operator.card.charges == [0, 1]
    atoms = Atoms(ions[0].numbers, positions=ions[0].positions[0])
    neutral, ion, anion = (
        PhaseState.from_atoms(Atoms(atoms, info={"charge": charge})) for charge in (0, 1, -1)
    )
    times = torch.tensor([8.0])
    paths = [operator(state, times)[0] for state in (neutral, ion)]
    assert float((paths[0] - paths[1]).abs().max()) > 1e-6
    assert float(operator.energy(ion) - operator.energy(neutral)) == pytest.approx(9.0, abs=1.0)
    with pytest.raises(CoverageError, match=r"total charge 0 or \+1, not -1|0, \+1, not -1"):
        operator(anion, times)


def test_displaced_geometries_teach_the_potential_alone(config: Path, tmp_path: Path) -> None:
    displaced = water_bursts(3)
    for number, burst in enumerate(displaced):
        burst.key, burst.attrs["ensemble"], burst.interval = f"away/{number:05d}", "displaced", 0.0
        burst.forces += 50.0
    stranger = hydrogen_bursts(1)[0]
    stranger.attrs["ensemble"], stranger.interval = "displaced", 0.0
    write_bursts(tmp_path / "displaced.h5", [*displaced, stranger])
    options = ["trainer.steps=4"]
    plain = load_operator(train(load_config(config, options), tmp_path / "plain"))
    options.append('data.displaced=["displaced.h5"]')
    settings = load_config(config, options)
    reference = load_reference(settings, RunFolder(tmp_path / "none"))
    assert {burst.molecule for burst in reference.displaced} == {"away"}
    (sampler,) = make_module(
        settings, reference, make_operator(settings, reference.part("train"))
    ).samplers
    drawn = [sampler.states(sampler.generator(step)) for step in range(20)]
    shares = torch.cat([(states.forces > 25).any(-1).any(-1) for states in drawn]).float().mean()
    assert 0.15 < float(shares) < 0.45  # 3 of 10 bursts
    taught = load_operator(train(settings, tmp_path / "taught"))
    assert taught.card.data_fingerprint != plain.card.data_fingerprint
    assert not torch.equal(taught.energy_pairs.weight, plain.energy_pairs.weight)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(config: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))

    output = tmp_path / "run"
    process = start(config, output, "--set", "trainer.steps=10", preexec_fn=limit)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert "File too large" in errors.splitlines()[-1]
    assert RunFolder(output).last_checkpoint() is None
    path = train(load_config(config, ["trainer.steps=10"]), output)
    assert load_operator(path).card.name == "springs"


def test_muon_steps_as_torchs_own_does() -> None:
    reference = getattr(torch.optim, "Muon", None)
    if reference is None:
        pytest.skip("this PyTorch has no Muon")
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in ((16, 40), (16, 40), (40, 16))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}
    optimisers = (Muon(ours, **settings), reference(theirs, **settings))
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for one, other in zip(ours, theirs, strict=True):
        # Theirs works in bfloat16.
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)


def test_orthogonalised_matrices_have_singular_values_about_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 12, 30), (2, 30, 12)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3


def test_rate_rises_then_falls_to_zero_in_both_optimisers(config: Path) -> None:
    settings = load_config(config, ["optimiser.warmup=9"]).optimiser
    model = torch.nn.Linear(16, 16)
    optimiser = build_optimiser(model, settings)
    schedule = build_schedule(optimiser, settings.warmup, 100)
    rates = []
    for _ in range(100):
        rates.append([group["lr"] for part in optimiser.parts for group in part.param_groups])
        model(torch.ones(1, 16)).sum().backward()
        optimiser.step()
        schedule.step()
    muon, adamw = zip(*rates, strict=True)
    assert muon[0] == pytest.approx(0.1 * settings.muon_lr)
    assert max(muon) == pytest.approx(settings.muon_lr, rel=0.05)
    assert muon[-1] < 1e-3 * settings.muon_lr
    assert adamw[50] == pytest.approx(muon[50] * settings.lr / settings.muon_lr)
