"""One settings file for each published experiment: all are read by the benchmarks and built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmark_files import write_md17
from conftest import ROOT

from ase_atom.operator import PaperConfig, parse_config
from training.benchmarks.fitting import Fit
from training.benchmarks.models import Setting, build_model, predict
from training.benchmarks.samples import Window, make_samples, split_starts
from training.benchmarks.sources import load_trajectory
from training.benchmarks.suites import Budget, load_rows, load_suite

FOLDER = ROOT / "training" / "configs" / "paper"
FILES = sorted(FOLDER.rglob("*.yaml"))
PUBLISHED = PaperConfig(horizon=1500.0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_experiment_is_one_the_benchmarks_can_run(path: Path) -> None:
    suite = load_suite(str(path))
    rows = load_rows(suite)
    assert suite.published is not None
    assert suite.tasks()
    for name, row in rows.items():
        config = parse_config({"horizon": 1500.0, "elements": (6, 7, 8)} | row.settings)
        assert isinstance(config, PaperConfig), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_experiment_trains(path: Path, tmp_path: Path) -> None:
    """A few steps of every row, with its own optimiser, on a small trajectory."""
    suite = load_suite(str(path))
    task = suite.tasks()[0]
    write_md17(tmp_path / "md17like" / "md17_ethanol.npz", frames=400)
    trajectory = load_trajectory("md17", "ethanol", task.atoms == "heavy", tmp_path)
    window = Window(32, task.timesteps)
    parts = [
        make_samples(trajectory, starts, window)
        for starts in split_starts(trajectory, window, 0, (4, 2, 2), "random")
    ]
    lags = torch.arange(1, task.timesteps + 1, dtype=torch.float64) * 16.0 / task.timesteps
    elements = tuple(sorted(set(trajectory.numbers.tolist())))
    setting = Setting(elements, lags, 0.5, task.atoms == "heavy")
    for name, row in load_rows(suite).items():
        model = build_model(row, setting, parts[0], seed=0)
        fit = Fit(model, *parts[:2], row, Budget(steps=3), 0, tmp_path / name)
        assert fit.run().steps == 3, name
        errors = [error for _, error in fit.history]
        assert all(0 < error < float("inf") for error in errors), name
        assert len(set(errors)) > 1, f"{name}: nothing was learned"
        assert torch.isfinite(predict(model, parts[2])).all(), name


def test_each_ablation_changes_one_setting_of_the_published_model() -> None:
    found = {}
    for path in sorted((FOLDER / "ablations").glob("*.yaml")):
        rows = load_rows(load_suite(str(path)))
        base = next(iter(rows.values()))
        start = PUBLISHED.model_dump() | base.settings
        for name, row in list(rows.items())[1:]:
            changed = PaperConfig(**({"horizon": 1500.0} | row.settings)).model_dump()
            found[name] = {key for key, value in changed.items() if value != start[key]}
            assert row.optimiser == base.optimiser, name
            assert row.batch_size == base.batch_size, name
    both = found.pop("self-attention-no-rope")
    assert both == {"attention", "positional"}
    assert all(len(keys) == 1 for keys in found.values()), found
    # Every switch of the published study is tried somewhere.
    tried = set.union(*found.values())
    expected = {"lift", "positional", "rope_base", "attention", "value_residual", "update", "noise"}
    expected |= {"activation", "trunk", "attention_scale", "walks", "output_heads"}
    assert tried == expected


def test_no_compound_stands_on_two_sides_of_the_honest_divisions() -> None:
    for name in ("tg80-multitask", "scaling"):
        for division in load_suite(str(FOLDER / f"{name}.yaml")).divisions.values():
            parts = [getattr(division["blocks"], part) for part in ("train", "validation", "test")]
            stems = [{compound.rstrip("0123456789") for compound in part} for part in parts]
            assert not stems[0] & stems[1]
            assert not stems[0] & stems[2]
            assert not stems[1] & stems[2]
