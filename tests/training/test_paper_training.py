"""The published architecture in training: noise, dropout, gradients, rotations, runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import yaml
from ase.build import molecule
from conftest import make_card
from harmonic_bursts import water_bursts

from ase_atom.errors import ConfigError
from ase_atom.operator import (
    Operator,
    PaperConfig,
    SpectralConfig,
    build_operator,
    load_operator,
    save_operator,
)
from ase_atom.operator.paper import attention, shared
from ase_atom.operator.paper.affine import to_length_one
from ase_atom.operator.paper.attention import DroppedAttention, drop
from ase_atom.operator.paper.lift import Lift, return_probabilities
from ase_atom.operator.paper.times import plan_times
from ase_atom.operator.paper.tokens import Tokens
from ase_atom.state import PhaseState
from training.data.frames import Windows
from training.data.store import write_bursts
from training.learning.config import load_config
from training.learning.folder import RunFolder
from training.learning.module import rotated
from training.train import train

# -- inputs ----------------------------------------------------------------------------------------


def noisy_lift(walks: int) -> tuple[torch.Tensor, ...]:
    """Noise on positions, velocities and on their copies in phase space, σ = 0.5."""
    torch.manual_seed(0)
    lift = Lift(PaperConfig(horizon=1.0, lift="equivariant", walks=walks))
    x, v = torch.randn(2, 400, 3, 3)
    extra = torch.full((400, 3, 1 + walks), 6.0)
    x[:, 2], v[:, 2], extra[:, 2] = 0, 0, 0
    clean = lift(x, v, extra, 0.0, 8)
    noised = lift(x, v, extra, 0.5, 8)
    sides = []
    for name in ("x", "v", "phase"):
        numbers = getattr(noised, name).numbers
        assert numbers.shape[1] == 8
        assert not numbers[:, :, 2].any()  # padding
        sides.append((numbers - getattr(clean, name).numbers)[:, :, :2])
    assert torch.equal(noised.inputs[0], noised.x.numbers[..., :3])
    return tuple(sides)


@pytest.mark.parametrize("walks", [0, 2])
def test_noise_is_independent_for_each_copy_and_channel_but_the_last(walks):
    x, v, phase = noisy_lift(walks)
    # Phase space: x, v, ‖x‖, ‖v‖, Z and walks; the last of all is exempt.
    assert not phase[..., -1].any()
    channels = torch.cat([x, v, phase[..., :-1]], dim=-1).flatten(2).flatten(0, 1)
    assert float(channels.std(0).min()) > 0.47
    assert float(channels.std(0).max()) < 0.53
    correlation = torch.corrcoef(channels.T) - torch.eye(channels.shape[1])
    assert float(correlation.abs().max()) < 0.08
    over_time = torch.corrcoef(x[:, :, 0, 0].T) - torch.eye(8)
    assert float(over_time.abs().max()) < 0.2


def test_return_probabilities_of_a_chain():
    """Three atoms in a row: from an end the walk must come back by the middle."""
    positions = torch.tensor([[[0.0, 0, 0], [1.5, 0, 0], [3.0, 0, 0], [0, 0, 0]]])
    real = torch.tensor([[True, True, True, False]])
    found = return_probabilities(positions, real, 4, 1.6)[0]
    ends, middle = torch.tensor([0, 0.5, 0, 0.5]), torch.tensor([0.0, 1, 0, 1])
    torch.testing.assert_close(found, torch.stack([ends, middle, ends, torch.zeros(4)]))


def test_radius_grows_until_there_is_a_bond():
    positions = torch.tensor([[[0.0, 0, 0], [0, 0, 3.0]]])
    found = return_probabilities(positions, torch.ones(1, 2, dtype=torch.bool), 2, 1.6)
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1], [0, 1]]]))
    alone = return_probabilities(positions[:, :1], torch.ones(1, 1, dtype=torch.bool), 2, 1.6)
    assert not alone.any()


# -- dropout ---------------------------------------------------------------------------------------


def written_out(query, key, value, mask, kept, share):
    """Attention with given dropout, by PyTorch's differentiation."""
    scores = query @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return (torch.softmax(scores, -1) * kept / (1 - share)) @ value


@pytest.mark.parametrize("masked", [False, True])
def test_dropped_attention_and_its_gradients(monkeypatch, masked):
    monkeypatch.setattr(attention, "_CACHE", 3000)  # several parts
    torch.manual_seed(0)
    sides = [torch.randn(5, 2, n, 4, dtype=torch.float64) for n in (9, 6, 6)]
    ours = [side.clone().requires_grad_() for side in sides]
    theirs = [side.clone().requires_grad_() for side in sides]
    mask = None
    if masked:
        mask = torch.ones(5, 1, 1, 6, dtype=torch.bool)
        mask[1:3, ..., 4:] = False
    torch.manual_seed(1)
    kept = attention._random_bytes((5, 2, 9, 6)) >= 64
    torch.manual_seed(1)
    out = DroppedAttention.apply(*ours, mask, 0.25)
    expected = written_out(*theirs, mask, kept, 0.25)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_dropout_drops_its_share_and_makes_up_for_it():
    torch.manual_seed(0)
    rows = torch.ones(400, 400)
    dropped = drop(rows, 0.2)
    assert float((dropped == 0).float().mean()) == pytest.approx(51 / 256, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)
    assert drop(rows, 0.0) is rows or torch.equal(drop(rows, 0.0), rows)


# -- the trunk's two ways --------------------------------------------------------------------------

MODEL = {"horizon": 16.0, "width": 32, "heads": 2, "blocks": 3, "timesteps": 4, "noise": 0.0}


def make(**changes: object) -> Operator:
    torch.manual_seed(3)
    config = PaperConfig(**(MODEL | {"attention_dropout": 0.0, "dropout": 0.0} | changes))
    return build_operator(config).double()


def lifted_and_tokens(operator: Operator, padding: bool) -> tuple:
    torch.manual_seed(4)
    species = torch.tensor([[1, 2, 3, 2], [3, 2, 0 if padding else 1, 0 if padding else 2]])
    x, v = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    times = torch.tensor([4.0, 8.0, 9.5, 16.0])
    config = operator.config
    plan = plan_times(times, config.segment, config.timesteps, config.anchor)
    tokens = Tokens(config, plan, species > 0, torch.float64)
    return operator._lifted(species, x, v, tokens, None), tokens


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(
    "changes",
    [{}, {"anchor": True}, {"positional": "none"}, {"blocks": 1}, {"attention_scale": "learned"}],
    ids=str,
)
def test_sharing_changes_neither_features_nor_gradients(changes, padding):
    operator = make(**changes)
    found = []
    for way in (operator.trunk, operator.trunk.each_copy):
        operator.zero_grad()
        lifted, tokens = lifted_and_tokens(operator, padding)
        real = (lifted.phase.numbers[..., :1] != 0).any(-1, keepdim=True)
        rows = way(lifted, tokens) * real
        (rows * torch.linspace(0, 1, rows.shape[-1], dtype=rows.dtype)).sum().backward()
        found.append((rows.detach(), [p.grad for p in operator.trunk.parameters()]))
    assert float(found[0][0].std()) > 0.01
    torch.testing.assert_close(found[0][0], found[1][0])
    largest = max(float(gradient.abs().max()) for gradient in found[1][1])
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * largest)


def test_scores_too_large_for_sharing_are_met_another_way():
    operator = make().eval().requires_grad_(False)
    for block in operator.trunk.blocks:
        block.attention.query.weight.mul_(3000)
    lifted, tokens = lifted_and_tokens(operator, False)
    found = operator.trunk(lifted, tokens)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, operator.trunk.each_copy(lifted, tokens))


def test_training_is_random_and_evaluation_is_not():
    operator = make(noise=0.1, attention_dropout=0.2, dropout=0.1)
    assert operator.stochastic
    species, masses = torch.tensor([[2, 3]]), torch.tensor([[12.0, 16.0]]).double()
    x, v = torch.randn(2, 1, 2, 3, dtype=torch.float64)

    def run() -> torch.Tensor:
        return operator.segment(species, masses, x, v, torch.tensor([4.0, 8.0]))[0].detach()

    assert not torch.equal(run(), run())
    torch.manual_seed(5)
    first = run()
    torch.manual_seed(5)
    assert torch.equal(run(), first)
    operator.eval()
    assert torch.equal(run(), run())
    assert not make().stochastic


@pytest.mark.parametrize(
    "changes",
    [{}, {"noise": 0.1, "attention_dropout": 0.2}, {"attention": "self"}, {"output_heads": 2}],
    ids=str,
)
def test_mixed_precision_is_nearly_the_same(changes):
    operator = make(**changes).float()
    species, masses = torch.tensor([[2, 3, 1]]), torch.tensor([[12.0, 16.0, 1.0]])
    torch.manual_seed(6)
    x, v = torch.randn(2, 1, 3, 3)
    found = []
    for mixed in (False, True):
        torch.manual_seed(7)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = operator.segment(species, masses, x, v, torch.tensor([4.0, 16.0]))[0]
        out.sum().backward()
        found.append(out.detach())
    torch.testing.assert_close(*found, rtol=0, atol=0.1 * float(found[0].abs().max()))


# -- runs ------------------------------------------------------------------------------------------

CONFIG = """
name: springs
stride: 8
operator: {architecture: paper, horizon: 16, segment: 8, elements: [1, 8], width: 32, heads: 2,
           blocks: 2, timesteps: 4, anchor: true, velocities: true, update: path,
           frame: centre_of_mass, frame_interval: null, constant_input: true, noise: 0.01,
           attention_dropout: 0.1, dropout: 0.1}
data: {paths: [water.h5], validation: 0.1, test: 0.2}
optimiser: {name: adamw, lr: 3.0e-3, warmup: 3, ema: 0.9, schedule: constant, amsgrad: true,
            eps: 1.0e-10}
loss: {force: 0, energy: 0, lags_per_sample: 3}
trainer: {steps: 20, batch_size: 8, accelerator: cpu, threads: 1, checkpoint_every: 10,
          validate_every: 10, log_every: 5, validate_starts: 2}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASE_ATOM_DATA", str(tmp_path))
    write_bursts(tmp_path / "water.h5", water_bursts(10))
    path = tmp_path / "springs.yaml"
    path.write_text(CONFIG)
    return path


def test_a_run_resumes_to_the_same_result(config, tmp_path):
    """Noise, dropout and rotations included."""
    whole = load_operator(train(load_config(config), tmp_path / "whole"))
    parts = tmp_path / "parts"
    train(load_config(config, ["trainer.steps=10"]), parts)
    resumed = load_operator(train(load_config(config), parts))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert whole.card.training_config["operator"]["architecture"] == "paper"


def test_it_learns(config, tmp_path):
    changes = ["trainer.steps=120", "trainer.batch_size=16", "operator.dropout=0"]
    changes += ["operator.attention_dropout=0", "operator.noise=0", "trainer.validate_every=120"]
    train(load_config(config, changes), tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert losses[-1] < 0.6 * losses[0]
    assert "validation/force_meV_A" not in rows[0]


def test_an_energy_head_is_taken_over_and_left_alone(config, tmp_path):
    sizes = {"width": 16, "pair_width": 8, "vector_channels": 8, "heads": 2, "pair_vectors": 2}
    sizes |= {"radial_channels": 4, "blocks": 1}
    parent = build_operator(SpectralConfig(elements=(1, 8), energy_blocks=1, **sizes))
    parent.set_energy_scale({1: -3.0, 8: -1990.0}, 2.0)
    parent.card = make_card()
    path = save_operator(parent, tmp_path / "parent.safetensors")
    changes = [f"energy_from={path}", f"operator.energy={sizes}", "trainer.steps=5"]
    trained = load_operator(train(load_config(config, changes), tmp_path / "run"))
    state = PhaseState.from_atoms(molecule("H2O"))
    assert torch.equal(trained.energy(state), parent.energy(state))


def test_runs_begun_before_a_setting_existed_go_on(config, tmp_path):
    settings = load_config(config)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    stored = settings.model_dump(mode="json")
    del stored["data"]["rotations"], stored["energy_from"]
    (folder.path / "config.yaml").write_text(yaml.safe_dump(stored))
    folder.check_same(settings)
    with pytest.raises(ConfigError, match=r"operator.dropout: 0.1 → 0.5"):
        folder.check_same(load_config(config, ["operator.dropout=0.5"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("operator.velocities=false", "operator"),
        ("operator.anchour=true", "did you mean operator.anchor?"),
        ("operator.timesteps=0", "operator.timesteps: input should be greater"),
        ("operator.architecture=egno", "must be one of spectral, paper"),
        ("loss.force=1", "must be 0 without operator.energy"),
        ("energy_from=ethanol-gfn2", "needs operator.energy"),
        ("trainer.compile=true", "trainer.compile is for architecture: spectral"),
    ],
)
def test_settings_that_make_no_sense(config, change, words):
    with pytest.raises(ConfigError) as caught:
        load_config(config, [change])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_energy_from_is_for_this_architecture(tmp_path):
    path = tmp_path / "spectral.yaml"
    path.write_text("name: small\nenergy_from: ethanol-gfn2\ndata: {paths: [water.h5]}\n")
    with pytest.raises(ConfigError, match="energy_from is for architecture: paper"):
        load_config(path)


def test_rotations_turn_and_mirror_windows_and_keep_what_is_physical():
    torch.manual_seed(0)
    x, v = torch.randn(2, 400, 3, 4, 3)
    windows = Windows(
        torch.ones(400, 4).long(),
        torch.ones(400, 4),
        torch.zeros(400).long(),
        *(x, v, torch.tensor([1, 2]), x[:, 0] - v[:, 0]),
    )
    turned = rotated(windows, torch.Generator().manual_seed(1))
    for name in ("positions", "velocities"):
        before, after = (getattr(w, name).flatten(1, 2) for w in (windows, turned))
        torch.testing.assert_close(
            before @ before.transpose(1, 2), after @ after.transpose(1, 2), rtol=0, atol=1e-5
        )
    torch.testing.assert_close(turned.forces, turned.positions[:, 0] - turned.velocities[:, 0])
    vectors = [torch.cat([w.positions, w.velocities], 1).flatten(1, 2) for w in (windows, turned)]
    matrices = torch.linalg.lstsq(*(side.double() for side in vectors)).solution
    squares = matrices @ matrices.transpose(1, 2)
    torch.testing.assert_close(squares, torch.eye(3).double().expand(400, 3, 3), rtol=0, atol=1e-3)
    mirrored = float((torch.linalg.det(matrices) < 0).double().mean())
    assert mirrored == pytest.approx(0.5, abs=0.1)
    assert float(matrices.mean(0).abs().max()) < 0.15
    spread = matrices.square().mean(0)
    torch.testing.assert_close(spread, torch.full_like(spread, 1 / 3), rtol=0, atol=0.06)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e19])
def test_norms_of_rows_whose_squares_overflow(size):
    rows = (size * torch.randn(5, 16)).requires_grad_()
    weights = torch.randn(5, 16)
    found = to_length_one(rows, 1e-3)
    (gradient,) = torch.autograd.grad((weights * found).sum(), rows)
    exact = rows.detach().double().requires_grad_()
    known = exact / (exact.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    (expected,) = torch.autograd.grad((weights.double() * known).sum(), exact)
    torch.testing.assert_close(found.double(), known, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient.double() * size, expected * size, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 100.0, 300.0, 1000.0, 3000.0])
def test_large_scores_leave_values_and_gradients_as_they_are(factor):
    operator = make().eval()
    for block in operator.trunk.blocks:
        block.attention.query.weight.data.mul_(factor)
    found = []
    for way in (operator.trunk, operator.trunk.each_copy):
        lifted, tokens = lifted_and_tokens(operator, False)
        rows = way(lifted, tokens)
        weights = [operator.trunk.blocks[0].attention.value.weight]
        found.append((rows.detach(), *torch.autograd.grad(rows.square().mean(), weights)))
    for one, other in zip(*found, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * float(other.abs().max()))


def test_the_largest_score_may_be_taken_off(monkeypatch):
    operator = make().eval()
    plain = operator.trunk(*lifted_and_tokens(operator, False))
    monkeypatch.setattr(shared, "_LARGEST_SCORE", 0.0)
    torch.testing.assert_close(operator.trunk(*lifted_and_tokens(operator, False)), plain)
