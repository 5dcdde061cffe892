"""Training of operators that hear the forces of a potential."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_card
from harmonic_bursts import water_bursts
from potentials import CARD, random_potential

from ase_atom.errors import ConfigError
from ase_atom.operator import build_operator, load_operator, save_operator
from ase_atom.state import PhaseState
from training.data.frames import EnergyOffsets, FrameData, Sampler, select_states
from training.data.store import write_bursts
from training.learning.config import TrainingConfig, load_config
from training.learning.folder import RunFolder
from training.learning.losses import Scales, energy_losses
from training.learning.run import load_reference, make_module, make_operator
from training.learning.tuning import make_config
from training.train import train

CONFIG = """
name: hearing
stride: 8
start_from: START
operator: {horizon: 16, segment: 8, elements: [1, 8], width: 16, pair_width: 8, heads: 2,
           vector_channels: 8, blocks: 1, energy_blocks: 1, pair_vectors: 4, radial_channels: 4,
           modes: 8, force_input: true}
data: {paths: [water.h5], validation: 0.3, test: 0}
optimiser: {name: muon, lr: 5.0e-3, warmup: 3, ema: 0.9}
loss: {force_batch: 4}
trainer: {steps: 4, batch_size: 8, accelerator: cpu, threads: 1, checkpoint_every: 4,
          validate_every: 4, log_every: 2, validate_starts: 2}
"""


def prepared(
    folder: Path, monkeypatch: pytest.MonkeyPatch, theory: str, refit: bool = False
) -> Path:
    """A parent with a potential that hears nothing yet, and bursts of a level of theory."""
    monkeypatch.setenv("ASE_ATOM_DATA", str(folder))
    bursts = [replace(burst, attrs=burst.attrs | {"theory": theory}) for burst in water_bursts(6)]
    write_bursts(folder / "water.h5", bursts)
    path = folder / "hearing.yaml"
    text = CONFIG.replace("START", str(folder / "parent.safetensors"))
    path.write_text(text + ("refit_energies: true\n" if refit else ""))
    torch.manual_seed(0)
    operator = load_config(path).operator.model_copy(update={"force_input": False})
    parent = build_operator(operator)
    parent.card = make_card(smiles=["O"], elements=[1, 8], masses={1: 1.008, 8: 15.999})
    parent.potential = random_potential((1, 8))
    save_operator(parent, folder / "parent.safetensors")
    return path


@pytest.mark.parametrize("theory", [CARD.reference, "another"])
def test_a_potential_is_trained_along_only_at_another_level_of_theory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theory: str
) -> None:
    own = theory == CARD.reference
    config = load_config(prepared(tmp_path, monkeypatch, theory, refit=not own))
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    operator = make_operator(config, reference.part("train"))
    terms = make_module(config, reference, operator).loss_of_step(0)
    assert ("force" in terms) == (not own)
    trained = load_operator(train(config, tmp_path / "run"))
    assert trained.config.force_input
    card = trained.potential.card
    assert (card.reference, card.source) == (theory, "" if own else CARD.reference)
    before = load_operator(tmp_path / "parent.safetensors").potential.network
    for name, weight in before.named_parameters():
        same = torch.equal(trained.potential.network.get_parameter(name), weight)
        assert same == own, name


def test_a_potential_begins_with_the_energies_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(prepared(tmp_path, monkeypatch, "another", refit=True))
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    bursts = reference.part("train")
    operator = make_operator(config, bursts)
    data = FrameData.from_bursts(bursts, EnergyOffsets.from_operator(operator))
    chosen = select_states(data, torch.arange(len(data.energies)))
    state = PhaseState(
        chosen.numbers, chosen.masses, chosen.positions, 0 * chosen.positions, chosen.charge
    )
    energy, forces = operator.energy_and_forces(state)
    energies = torch.cat([torch.from_numpy(burst.energies) for burst in bursts])
    assert float((energy - energies).mean()) == pytest.approx(0, abs=0.02)
    # What the losses see is the same difference.
    scales = Scales(torch.ones(1), force=1.0, energy=1.0, temperature=300.0)
    found = [float(each.detach()) for each in energy_losses(operator, chosen, scales)]
    assert found[1] == pytest.approx(float((energy - energies).square().mean()), rel=1e-3)
    wrong = (forces - chosen.forces).square().sum(-1).mean() / 3
    assert found[0] == pytest.approx(float(wrong), rel=1e-3)


def test_a_run_that_trains_a_potential_resumes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared(tmp_path, monkeypatch, "another", refit=True)
    schedule = "optimiser.schedule=constant"
    whole = train(load_config(path, [schedule, "trainer.steps=4"]), tmp_path / "whole")
    halves = ["trainer.steps=2", "trainer.checkpoint_every=2"], ["trainer.steps=4"]
    for steps in halves:
        parts = train(load_config(path, [schedule, *steps]), tmp_path / "parts")
    one, other = (load_operator(each).potential.network for each in (whole, parts))
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weight, rtol=1e-5, atol=1e-7)


def test_jumps_after_the_first_hear_the_forces_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared(tmp_path, monkeypatch, CARD.reference)
    config = load_config(path, ["loss.chain=2"])
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    module = make_module(config, reference, make_operator(config, reference.part("train")))
    module.operator.requires_grad_(False)
    heard = []
    found = module.operator.segment
    module.segment = lambda *given, **more: (heard.append((given, more)), found(*given, **more))[1]
    sampler = module.samplers[0]
    module.path_terms(sampler, sampler.generator(0))
    windows = sampler.windows(sampler.generator(0))
    assert torch.equal(heard[0][1]["forces"], windows.forces)
    species, _, x, *_ = heard[1][0]
    expected = module.operator.forces_heard(species, x)
    torch.testing.assert_close(heard[1][1]["forces"], expected)


def test_windows_have_the_forces_of_their_first_frame() -> None:
    data = FrameData.from_bursts(water_bursts(3))
    sampler = Sampler(data, window=8, batch_size=64, state_batch_size=1, seed=0)
    windows = sampler.windows(sampler.generator(3))
    for start, forces in zip(windows.positions[:, 0], windows.forces, strict=True):
        frame = (data.positions - start).abs().amax((1, 2)).argmin()
        assert torch.equal(data.forces[frame], forces)


def test_without_a_potential_there_is_nothing_to_hear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared(tmp_path, monkeypatch, "another")
    text = path.read_text()
    lines = [line for line in text.split("\n") if not line.startswith(("start_from", "refit"))]
    path.write_text("\n".join(lines))
    config = load_config(path)
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"force_input: set start_from to .* training\.potential"):
        make_operator(config, reference.part("train"))


@pytest.mark.parametrize(
    ("theory", "options", "message"),
    [
        ("another", [], "not of the level of theory of .* set refit_energies: true"),
        (
            "another",
            ["operator.elements=[1, 8, 6]", "refit_energies=true"],
            r"potential of .* does not know atomic numbers \[6\]",
        ),
        (CARD.reference, ["loss.position=0", "loss.velocity=0"], "nothing to learn but paths"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    theory: str,
    options: list[str],
    message: str,
) -> None:
    config = load_config(prepared(tmp_path, monkeypatch, theory), options)
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run")


def test_training_from_random_weights_hears_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared(tmp_path, monkeypatch, "another", refit=True)
    trained = train(load_config(path), tmp_path / "run")
    parent = load_operator(trained)
    made: TrainingConfig = make_config(
        parent, str(trained), tmp_path / "water.h5", "x", from_scratch=True
    )
    assert not made.operator.force_input
    assert make_config(parent, str(trained), tmp_path / "water.h5", "x").operator.force_input
