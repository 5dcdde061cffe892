"""Training on many molecules: which bursts go where, batches by size, growth, a decaying branch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from harmonic_bursts import hydrogen_bursts, water_bursts

from ase_atom.errors import ConfigError, DataError
from ase_atom.operator import load_operator
from training.data.buckets import bucketed, shares
from training.data.split import divide_compounds
from training.data.store import Burst, write_burst, write_bursts
from training.learning.config import OptimiserConfig, TrainingConfig, load_config
from training.learning.folder import RunFolder
from training.learning.optimisers import build_schedule
from training.learning.run import load_reference, make_module, make_operator
from training.train import decaying, train

CONFIG = """
name: many
stride: 8
operator: {horizon: 16, segment: 8, elements: [1, 8], width: 16, pair_width: 8, heads: 2,
           vector_channels: 8, blocks: 1, energy_blocks: 1, pair_vectors: 4, radial_channels: 4,
           modes: 8}
data: {paths: [small], partition: PARTITION, validation: 0.3, test: 0, buckets: [2, 3], grow: true}
optimiser: {name: muon, lr: 5.0e-3, warmup: 3, ema: 0.9, schedule: constant}
loss: {force_batch: 4}
trainer: {steps: 6, batch_size: 8, accelerator: cpu, threads: 1, checkpoint_every: 3,
          validate_every: 6, log_every: 3, validate_starts: 2}
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def renamed(bursts: list[Burst], name: str, smiles: str) -> list[Burst]:
    return [replace(burst, key=f"{name}/{n:05d}", smiles=smiles) for n, burst in enumerate(bursts)]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingConfig:
    """Water whole, hydrogen still being made; two more that only look like other compounds."""
    monkeypatch.setenv("ASE_ATOM_DATA", str(tmp_path))
    folder = tmp_path / "small"
    write_bursts(folder / "water.h5", water_bursts(5))
    write_bursts(folder / "unseen.h5", renamed(water_bursts(2), "unseen", "OO"))
    write_bursts(folder / "secret.h5", renamed(water_bursts(2), "secret", "[OH]"))
    for burst in hydrogen_bursts(2):
        write_burst(folder / "hydrogen.bursts" / f"{burst.key[-5:]}.h5", burst)
    (folder / "contents.csv").write_text("name\n")
    table = tmp_path / "parts.csv"
    table.write_text("name,smiles,part\nunseen,OO,validation\nsecret,[OH],test\nwater,O,train\n")
    path = tmp_path / "many.yaml"
    path.write_text(CONFIG.replace("PARTITION", str(table)))
    return load_config(path)


def names(keys: list[str]) -> set[str]:
    return {key.split("/")[0] for key in keys}


def test_test_compounds_are_never_kept_and_others_go_where_the_table_says(
    config: TrainingConfig, tmp_path: Path
) -> None:
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    assert names(list(reference.bursts)) == {"water", "hydrogen", "unseen"}
    assert names(reference.split["train"]) == {"water", "hydrogen"}
    assert {"water/00000", "hydrogen/00000"} <= set(reference.split["train"])
    groups = reference.held_out()
    assert [burst.key for burst in groups["unseen"]] == ["unseen/00000", "unseen/00001"]
    assert names([burst.key for burst in groups.get("", [])]) <= {"water", "hydrogen"}
    assert set(groups) <= {"", "unseen"}


def test_a_burst_stays_in_its_part_when_others_come() -> None:
    bursts = water_bursts(60)
    parts = {burst.key: "train" for burst in bursts}
    few, many = (divide_compounds(bursts[:count], parts, 0.3) for count in (20, 60))
    for part in ("train", "validation"):
        assert set(few[part]) <= set(many[part])
    assert 0.1 < len(many["validation"]) / 60 < 0.5
    with pytest.raises(DataError, match="none of 60 bursts"):
        divide_compounds(bursts, dict.fromkeys(parts, "validation"), 0.3)


def test_batches_share_windows_by_size_and_are_padded_to_their_own(
    config: TrainingConfig, tmp_path: Path
) -> None:
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    module = make_module(config, reference, make_operator(config, reference.part("train")))
    assert [sampler.data.numbers.shape[1] for sampler in module.samplers] == [2, 3]
    assert sum(sampler.batch_size for sampler in module.samplers) == 8
    module.loss_of_step(0)["loss"].backward()
    assert all(p.grad is not None for p in module.operator.trunk.parameters())


def test_losses_of_one_size_and_of_two_are_the_same_losses(
    config: TrainingConfig, tmp_path: Path
) -> None:
    """Over enough steps, groups change the order of the windows and not their mean."""
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    means = []
    for buckets in ((), (2, 3)):
        settings = config.model_copy(
            update={"data": config.data.model_copy(update={"buckets": buckets})}
        )
        operator = make_operator(settings, reference.part("train"))
        module = make_module(settings, reference, operator)
        with torch.no_grad():
            found = [
                sum(
                    sampler.batch_size / 8 * module.path_terms(sampler, sampler.generator(step))[1]
                    for sampler in module.samplers
                )
                for step in range(60)
            ]
        means.append(float(torch.stack(found).mean()))
    assert means[0] == pytest.approx(means[1], rel=0.15)


def test_groups_by_size() -> None:
    bursts = [*water_bursts(3), *hydrogen_bursts(1)]
    assert bucketed(bursts, ()) == [bursts]
    assert [[len(b.numbers) for b in group] for group in bucketed(bursts, (2, 3, 9))] == [
        [2],
        [3, 3, 3],
    ]
    with pytest.raises(DataError, match="water/00000 has 3 atoms"):
        bucketed(bursts, (2,))
    assert shares(bucketed(bursts, (2, 3)), 8) == [2, 6]
    assert shares(bucketed(bursts, (2, 3)), 1) == [1, 1]
    few_and_many = [[SimpleNamespace(energies=range(count))] for count in (1, 1, 1, 77)]
    assert shares(few_and_many, 8) == [1, 1, 1, 5]


def test_new_bursts_join_at_resumption(config: TrainingConfig, tmp_path: Path) -> None:
    path = train(config, tmp_path / "run")
    before = load_operator(path)
    write_bursts(tmp_path / "small" / "water.h5", water_bursts(9))
    longer = config.model_copy(update={"trainer": config.trainer.model_copy(update={"steps": 9})})
    after = load_operator(train(longer, tmp_path / "run"))
    assert set(before.card.split["train"]) < set(after.card.split["train"])
    assert before.card.data_fingerprint != after.card.data_fingerprint
    # The zero of energies stays that of the checkpoint.
    assert torch.equal(before.energy_offsets, after.energy_offsets)
    fixed = config.model_copy(update={"data": config.data.model_copy(update={"grow": False})})
    train(fixed, tmp_path / "fixed")
    write_bursts(tmp_path / "small" / "water.h5", water_bursts(12))
    with pytest.raises(DataError, match=r"are not those that this run began with.*data\.grow"):
        train(fixed, tmp_path / "fixed")


def test_a_branch_decays_and_leaves_the_run_as_it_is(
    config: TrainingConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="no checkpoint to branch from"):
        decaying(config, run, 4)
    train(config, run)
    kept = (run / "checkpoints" / "step=6.ckpt").read_bytes()
    settings, folder = decaying(config, run, 4)
    assert folder == run / "decay-6"
    # A branch that was stopped is the one that goes on.
    assert decaying(config, run, 4) == (settings, folder)
    shipped = train(settings, folder)
    assert RunFolder(folder).last_checkpoint().name == "step=10.ckpt"
    assert load_operator(shipped).card.training_config["optimiser"]["schedule"] == "decay"
    assert (run / "checkpoints" / "step=6.ckpt").read_bytes() == kept
    longer = config.model_copy(update={"trainer": config.trainer.model_copy(update={"steps": 8})})
    train(longer, run)
    assert decaying(longer, run, 4)[1] == run / "decay-8"
    with pytest.raises(ConfigError, match="decay-8 is finished, a branch of 4 steps and not 5"):
        train(*decaying(longer, run, 4))
        decaying(longer, run, 5)
    cosine = config.model_copy(
        update={"optimiser": config.optimiser.model_copy(update={"schedule": "cosine"})}
    )
    with pytest.raises(ConfigError, match=r"for optimiser\.schedule: constant, not cosine"):
        decaying(cosine, run, 4)
    # What is begun anew has no branches of the run before.
    train(config, run, restart=True)
    assert decaying(config, run, 4) == (settings, folder)
    assert not list(folder.glob("*.safetensors"))


def test_the_branchs_rate_is_constant_and_then_falls_to_zero() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=2.0)
    schedule = build_schedule(optimiser, 4, 30, "decay", 20)
    rates = []
    for _ in range(31):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates[5:21] == [2.0] * 16
    assert all(one > other for one, other in pairwise(rates[20:]))
    assert rates[30] == 0


def test_a_rate_that_cools_never_ends_and_its_branch_falls_from_there() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    found = {}
    for shape, decay_from in (("constant", 0), ("decay", 300)):
        optimiser = torch.optim.SGD([weight], lr=2.0)
        schedule = build_schedule(optimiser, 4, 400, shape, decay_from, cooling=100)
        rates = found[shape] = []
        for _ in range(401):
            rates.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
    assert found["constant"][300] == pytest.approx(1.0)
    assert found["decay"][:301] == found["constant"][:301]
    assert found["decay"][400] == 0
    with pytest.raises(ValueError, match="cooling is for schedule: constant"):
        OptimiserConfig(cooling=5)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"test": 0.1}, "with partition, test must be 0"),
        ({"buckets": (3, 2)}, "buckets must rise"),
        ({"partition": "nowhere.csv"}, r"data\.partition: nowhere\.csv: No such file"),
    ],
)
def test_bad_settings_are_named(
    config: TrainingConfig, tmp_path: Path, section: dict, message: str
) -> None:
    plain = config.model_dump(mode="json")
    plain["data"] |= section
    with pytest.raises(ValueError, match=message):
        load_reference(TrainingConfig.model_validate(plain), RunFolder(tmp_path / "run"))
