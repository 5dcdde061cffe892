"""What results know of themselves, and what tables make of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from benchmark_files import SMALL, write_md17
from matplotlib.image import imread

from ase_atom.errors import ConfigError
from training.benchmark import main
from training.benchmarks import fitting
from training.benchmarks.peers import EGNO
from training.benchmarks.running import Options, run_suite, tables_only
from training.benchmarks.scoring import some_of_each
from training.benchmarks.suites import Budget, Suite, load_rows, load_suite
from training.benchmarks.trivial import TRIVIAL

BRIEF = SMALL | {"seeds": [0], "budget": {"steps": 3}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_md17(tmp_path / "data" / "md17like" / "md17_ethanol.npz", frames=1200)
    return tmp_path / "data"


def brief(tmp_path: Path, **changes: object) -> Suite:
    path = tmp_path / "brief.yaml"
    path.write_text(yaml.safe_dump(BRIEF | changes))
    return load_suite(str(path))


def tables_of(output: Path) -> list[dict]:
    return json.loads((output / "table.json").read_text())["tasks"]


def test_another_file_under_the_same_name_makes_another_result(data, tmp_path, monkeypatch) -> None:
    suite, options = brief(tmp_path), Options(data=data, output=tmp_path / "out")
    run_suite(suite, load_rows(suite), options)
    write_md17(data / "md17like" / "md17_ethanol.npz", frames=1300)

    def never(*_: object) -> None:
        raise AssertionError("measured before the clash was found")

    monkeypatch.setattr(fitting.Fit, "run", never)
    with pytest.raises(ConfigError, match=r"files\.ethanol"):
        run_suite(suite, load_rows(suite), options)


def test_a_result_of_another_budget_is_found_before_anything_is_trained(
    data, tmp_path, monkeypatch
) -> None:
    suite, output = brief(tmp_path, seeds=[0, 1]), tmp_path / "out"
    run_suite(suite, load_rows(suite), Options(data=data, output=output, seeds=(1,)))
    monkeypatch.setattr(fitting.Fit, "run", lambda *_: pytest.fail("trained"))
    other = Options(data=data, output=output, budget=Budget(steps=4))
    with pytest.raises(ConfigError, match=r"budget\.steps: 3 → 4"):
        run_suite(suite, load_rows(suite), other)


def test_other_code_of_a_row_makes_another_result(data, tmp_path, monkeypatch) -> None:
    suite, options = brief(tmp_path), Options(data=data, output=tmp_path / "out")
    run_suite(suite, load_rows(suite), options)
    monkeypatch.setattr(EGNO, "version", EGNO.version + 1)
    monkeypatch.setattr(fitting.Fit, "run", lambda *_: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=rf"version: {EGNO.version - 1} → {EGNO.version}"):
        run_suite(suite, load_rows(suite), options)


@pytest.mark.parametrize("seed", [0, 1])
def test_tables_do_not_mix_budgets(seed, data, tmp_path) -> None:
    """Neither over the seeds of a row nor from one row to another."""
    small = dict(BRIEF["more_rows"]["tiny"])
    suite = brief(tmp_path, seeds=[0, 1], more_rows={"tiny": small, "other": small})
    output = tmp_path / "out"
    rows = load_rows(suite, ["tiny", "other"])
    run_suite(suite, {"tiny": rows["tiny"]}, Options(data=data, output=output, seeds=(0,)))
    name = "tiny" if seed else "other"
    longer = Options(data=data, output=output, seeds=(seed,), budget=Budget(steps=4))
    with pytest.raises(ConfigError, match=r"tiny among them \(budget\.steps: 3 → 4\)"):
        run_suite(suite, {name: rows[name]}, longer)
    # Nor where results came there in other ways.
    elsewhere = Options(data=data, output=tmp_path / "else", seeds=(seed,), budget=longer.budget)
    run_suite(suite, {name: rows[name]}, elsewhere)
    shutil.copytree(tmp_path / "else", output, dirs_exist_ok=True)
    with pytest.raises(ConfigError, match=rf"{name} cannot stand in one table"):
        tables_only(suite, rows, Options(data=data, output=output))


def test_a_run_of_a_part_leaves_the_table_whole(data, tmp_path) -> None:
    suite, output = brief(tmp_path, delta=[16, 32]), tmp_path / "out"
    rows = load_rows(suite)
    run_suite(suite, rows, Options(data=data, output=output, deltas=(16,)))
    assert [page["task"]["delta"] for page in tables_of(output)] == [16]
    run_suite(suite, load_rows(suite, ["none"]), Options(data=data, output=output, deltas=(32,)))
    first, second = tables_of(output)
    assert "tiny" in first["rows"]
    assert list(second["rows"]) == list(TRIVIAL)
    # Asked for alone, a part is shown alone.
    tables_only(suite, rows, Options(data=data, output=output, deltas=(32,)))
    assert [page["task"]["delta"] for page in tables_of(output)] == [32]


def test_rows_and_seeds_in_place_of_the_suites_stay_in_its_table(data, tmp_path) -> None:
    tiny = BRIEF["more_rows"]["tiny"]
    suite = brief(tmp_path, more_rows={"tiny": tiny, "other": tiny | {"label": "other EGNO"}})
    output = tmp_path / "out"
    beside = Options(data=data, output=output, seeds=(1, 2))
    run_suite(suite, load_rows(suite, ["other"]), beside)
    # The suite's own run, and another part of it, show them too.
    for rows in (load_rows(suite), load_rows(suite, ["none"])):
        run_suite(suite, rows, Options(data=data, output=output))
        (page,) = tables_of(output)
        assert list(page["rows"]) == [*TRIVIAL, "tiny", "other"]
        assert page["rows"]["other"]["s2s_random"]["seeds"] == 2
        assert page["rows"]["tiny"]["s2s_random"]["seeds"] == 1


def test_errors_are_drawn_against_the_horizon(data, tmp_path, capsys) -> None:
    suite, output = brief(tmp_path, delta=[16, 300], longest_blocks=16), tmp_path / "out"
    table, image = output / "table.json", tmp_path / "x.png"
    arguments = ["figure", str(tmp_path / "brief.yaml"), "--table", str(table), "-o"]

    def refused(name: str) -> str:
        assert main([*arguments, str(tmp_path / name)]) == 2
        assert not (tmp_path / name).exists()
        return capsys.readouterr().err

    assert "training.benchmark run writes it" in refused("x.png")
    output.mkdir()
    for damaged in ('{"tasks": [', "{}", "[]"):
        table.write_text(damaged)
        assert "is no table" in refused("x.png")
    run_suite(suite, load_rows(suite), Options(data=data, output=output, deltas=(16,)))
    assert "two horizons" in refused("x.png")
    run_suite(suite, load_rows(suite), Options(data=data, output=output))
    assert "figures end in" in refused("x.jpgg")
    assert main([*arguments, str(image)]) == 0
    # Only random frames have two horizons, and their panel has more to it than paper.
    drawn = imread(image)
    assert drawn.std() > 0.05
    assert drawn.shape[0] < drawn.shape[1]


def test_another_number_of_frames_is_no_other_horizon(data, tmp_path, capsys) -> None:
    suite, output = brief(tmp_path, timesteps=[4, 8]), tmp_path / "out"
    run_suite(suite, load_rows(suite, ["none"]), Options(data=data, output=output))
    table, image = output / "table.json", tmp_path / "x.png"
    arguments = ["figure", "brief", "--table", str(table), "-o", str(image)]
    assert main(arguments) == 2
    assert "two horizons" in capsys.readouterr().err
    suite = brief(tmp_path, delta=[16, 32], timesteps=[4, 8])
    run_suite(suite, load_rows(suite, ["none"]), Options(data=data, output=output))
    assert main(arguments) == 0
    # Two splits of either number of frames: two rows of two panels.
    assert imread(image).shape[0] > 1000


def test_a_horizon_too_long_for_blocks_of_time_has_one_split(data, tmp_path) -> None:
    suite, output = brief(tmp_path, delta=[16, 300], longest_blocks=16), tmp_path / "out"
    text = run_suite(suite, load_rows(suite), Options(data=data, output=output)).read_text()
    short, long = tables_of(output)
    assert list(short["starts"]) == ["random", "blocks"]
    assert list(long["starts"]) == ["random"]
    assert long["rows"]["tiny"]["s2t_blocks"] is None
    assert long["rows"]["tiny"]["s2t_random"]["mean"] > 0
    assert text.count("leave no room for time blocks") == 1


def test_equivariance_is_measured_on_every_molecule() -> None:
    molecule = torch.as_tensor(np.repeat([3, 5, 9], [400, 400, 10]))
    rows = some_of_each(SimpleNamespace(molecule=molecule), 99)
    assert molecule[rows].unique(return_counts=True)[1].tolist() == [33, 33, 10]
    alone = some_of_each(SimpleNamespace(molecule=torch.zeros(500)), 100)
    assert alone.tolist() == list(range(100))
