"""Training of operators that hear the forces of a potential."""

from __future__ import annotations

import math
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
def test_energies_are_the_potentials_only_at_its_level_of_theory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theory: str
) -> None:
    own = theory == CARD.reference
    config = load_config(prepared(tmp_path, monkeypatch, theory, refit=not own))
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    operator = make_operator(config, reference.part("train"))
    assert (operator.surface is not None) == own
    terms = make_module(config, reference, operator).loss_of_step(0)
    assert ("force" in terms) == (not own)
    trained = load_operator(train(config, tmp_path / "run"))
    assert (trained.surface is not None) == own
    assert trained.config.force_input
    before = load_operator(tmp_path / "parent.safetensors").potential
    for name, weight in before.network.state_dict().items():
        assert torch.equal(trained.potential.network.state_dict()[name], weight)


def test_the_energy_head_begins_with_the_potential_and_learns_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(prepared(tmp_path, monkeypatch, "another", refit=True))
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    train_bursts = reference.part("train")
    operator = make_operator(config, train_bursts)
    data = FrameData.from_bursts(
        train_bursts, EnergyOffsets.from_operator(operator), beneath=operator.beneath
    )
    state = select_states(data, torch.arange(5))
    state = PhaseState(state.numbers, state.masses, state.positions, 0 * state.positions)
    energy, forces = operator.energy_and_forces(state)
    potential = operator.potential
    expected = potential.energy(state)
    torch.testing.assert_close(energy - expected, (energy - expected).mean().expand(5))
    heard = operator.forces_heard(operator.index(state.numbers, state.charge), state.positions)
    torch.testing.assert_close(forces, heard, atol=1e-6, rtol=0)
    # What is left to learn is the data's energy less both.
    assert abs(float(data.energies.mean())) < 0.01 < float(data.energies.std())
    lacking = torch.from_numpy(train_bursts[0].energies[:5]) - energy
    torch.testing.assert_close(data.energies[:5].double(), lacking, atol=1e-4, rtol=0)
    expected = (heard - data.forces[:5]).norm(dim=-1).mean()
    states = select_states(data, torch.arange(5))
    scales = Scales(torch.ones(1), force=1.0, energy=1.0, temperature=300.0)
    found = energy_losses(operator, states, scales, measure="length")[0]
    assert float(found.detach()) == pytest.approx(float(expected) / math.sqrt(3), rel=1e-2)


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
