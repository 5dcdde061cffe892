"""A finished operator as a row of the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

from ase_atom.errors import CheckpointError, ConfigError
from ase_atom.state import PhaseState
from training.benchmarks.marched import Marched
from training.benchmarks.running import Options, run_suite
from training.benchmarks.samples import Window, make_samples
from training.benchmarks.sources import load_trajectory
from training.benchmarks.suites import Suite, load_rows, load_suite
from training.data.store import iterate_bursts, write_bursts

EXAMPLE = ROOT / "examples" / "data" / "ethanol-pbe.h5"
SUITE = {
    "title": "Marched",
    "layout": "tg80",
    "molecules": ["ethanol"],
    "delta": [32],
    "timesteps": [4],
    "atoms": "all",
    "errors_of": "heavy",
    "counts": {"train": 20, "validation": 10, "test": 6},
    "margin": 0,
    "rows": ["operator"],
    "more_rows": {"operator": {"model": "marched", "settings": {"operator": "ethanol-pbe"}}},
    "seeds": [0, 1],
    "budget": {"steps": 3},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ethanol by PBE, as the one trajectory of a compound of TG80."""
    burst = next(iter(iterate_bursts(EXAMPLE)))
    write_bursts(tmp_path / "tg80" / "thermostatted" / "ethanol.h5", [burst])
    return tmp_path


def suite(folder: Path, **changes: object) -> Suite:
    path = folder / "marched.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes))
    return load_suite(str(path))


def test_a_marched_operator_is_measured_and_not_trained(data: Path, tmp_path: Path) -> None:
    loaded = suite(tmp_path)
    run_suite(loaded, load_rows(loaded), Options(data=data, output=tmp_path / "out"))
    (page,) = json.loads((tmp_path / "out" / "table.json").read_text())["tasks"]
    rows = page["rows"]
    for split in ("random", "blocks"):
        found = rows["operator"][f"s2t_{split}"]
        assert found["seeds"] == 1
        # It learned from this method and molecule, and its jump is of 16 fs.
        others = [row[f"s2t_{split}"]["mean"] for name, row in rows.items() if name != "operator"]
        assert found["mean"] < 0.05 * min(others)
    assert rows["operator"]["steps"] is None
    assert rows["operator"]["equivariance"] < 1e-3
    settings = next((tmp_path / "out").glob("*/random/operator/0/settings.json"))
    assert len(json.loads(settings.read_text())["weights"]) == 64


def test_velocities_are_those_of_the_start(data: Path) -> None:
    """Forward differences are velocities of half a frame later: a fifth off, for hydrogens."""
    burst = next(iter(iterate_bursts(EXAMPLE)))
    trajectory = load_trajectory("tg80", "ethanol", False, data)
    places = torch.arange(0, 200, 20)
    samples = make_samples(trajectory, places.numpy(), Window(8, 8), 0)
    lags = torch.arange(1, 9, dtype=torch.float64)
    model = Marched({"operator": "ethanol-pbe"}, lags, 1.0, heavy=False)
    true = torch.as_tensor(burst.velocities[places]).float()
    state = PhaseState(samples.numbers, samples.masses, samples.positions, samples.velocities)
    better = model.at_start(state).velocities
    assert (better - true).norm() < 0.1 * (samples.velocities - true).norm()
    # Each frame is that of its own lag.
    errors = (model(samples) - samples.targets).norm(dim=-1).mean((0, 2))
    assert bool((errors < 0.02).all())


def test_replicas_that_break_stay_where_they_were(data: Path) -> None:
    trajectory = load_trajectory("tg80", "ethanol", False, data)
    samples = make_samples(trajectory, torch.tensor([10, 20]).numpy(), Window(32, 4), 0)
    lags = 8 * torch.arange(1, 5, dtype=torch.float64)
    model = Marched({"operator": "ethanol-pbe"}, lags, 1.0, heavy=False)
    whole = model(samples)
    samples.velocities[1] *= 30
    found = model(samples)
    torch.testing.assert_close(found[0], whole[0])
    assert bool(torch.isfinite(found).all())
    assert (found[1] - samples.positions[1]).abs().max() < 100


def test_what_cannot_be_marched_is_refused(data: Path, tmp_path: Path) -> None:
    for changes, error, words in (
        ({"atoms": "heavy", "errors_of": "all"}, ConfigError, "needs atoms: all"),
        ({"more_rows": {"operator": {"model": "marched"}}}, ConfigError, "operator"),
        (
            {"more_rows": {"operator": {"model": "marched", "settings": {"operator": "none"}}}},
            CheckpointError,
            "none",
        ),
    ):
        loaded = suite(tmp_path, **changes)
        with pytest.raises(error, match=words):
            run_suite(loaded, load_rows(loaded), Options(data=data, output=tmp_path / "bad"))
