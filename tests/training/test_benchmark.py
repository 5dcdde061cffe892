"""Suites from beginning to end on a small trajectory: results, resuming, tables, command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from benchmark_files import SMALL, write_md17, write_rmd17

from ase_atom.errors import ConfigError, DataError
from training.benchmark import main
from training.benchmarks import fitting, md17like, tables, thermostatted
from training.benchmarks.results import Place
from training.benchmarks.running import Options, run_suite
from training.benchmarks.suites import CONFIGS, Budget, load_rows, load_suite
from training.benchmarks.tables import cell, grid, number, spread
from training.benchmarks.trajectories import check_fingerprint, read_md17, read_rmd17
from training.benchmarks.trivial import TRIVIAL


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_md17(tmp_path / "data" / "md17like" / "md17_ethanol.npz", frames=1200)
    return tmp_path / "data"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def run(suite: Path, data: Path, output: Path, **changes: object) -> Path:
    loaded = load_suite(str(suite))
    options = Options(data=data, output=output, **changes)
    return run_suite(loaded, load_rows(loaded), options)


def page(output: Path) -> dict:
    (found,) = json.loads((output / "table.json").read_text())["tasks"]
    return found


def test_a_suite_runs_and_its_table_says_what_was_measured(suite, data, tmp_path) -> None:
    text = run(suite, data, tmp_path / "out").read_text()
    rows = page(tmp_path / "out")["rows"]
    assert list(rows) == [*TRIVIAL, "tiny"]
    for split in ("random", "blocks"):
        # The mean over seeds of the mean over starts of what lies on the disk.
        files = sorted((tmp_path / "out").glob(f"ethanol-*/{split}/tiny/*/errors.npz"))
        errors = [np.load(file) for file in files]
        assert len(errors) == 2
        means = [100 * float(e["s2t"].mean()) for e in errors]
        assert rows["tiny"][f"s2t_{split}"]["mean"] == pytest.approx(np.mean(means), rel=1e-5)
        assert rows["tiny"][f"s2t_{split}"]["std"] == pytest.approx(np.std(means, ddof=1), rel=1e-3)
        best = [name for name, row in rows.items() if row[f"s2s_{split}"]["best"]]
        lowest = min(rows, key=lambda name: rows[name][f"s2s_{split}"]["mean"])
        assert best == [lowest]
        for name, row in rows.items():
            assert 0 < row[f"s2s_{split}"]["p"] <= 1
            assert row[f"s2s_{split}"]["against"] != name
    assert rows["tiny"]["parameters"] > 100
    assert rows["tiny"]["steps"] == 30
    assert rows["tiny"]["equivariance"] < 1e-4
    assert rows["stay"]["s2s_random"]["std"] is None
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("| row | S2S"))
    columns = [part.strip() for part in head.strip("|").split("|")]
    assert columns[1:5] == [
        "S2S, random frames",
        "S2S, time blocks",
        "S2T, random frames",
        "S2T, time blocks",
    ]
    (of_tiny,) = [line for line in lines if line.startswith("| tiny EGNO") and "±" in line]
    assert of_tiny.count("|") == head.count("|")
    assert "Generated trajectories" in text


def test_a_killed_suite_goes_on_to_the_same_result(suite, data, tmp_path, monkeypatch) -> None:
    run(suite, data, tmp_path / "whole")
    looks = fitting.Fit._look
    count = 0

    def interrupted(self: fitting.Fit) -> None:
        nonlocal count
        count += 1
        if count in (6, 40):
            raise KeyboardInterrupt
        looks(self)

    monkeypatch.setattr(fitting.Fit, "_look", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(suite, data, tmp_path / "cut")
        assert list((tmp_path / "cut").glob("*/*/tiny/*/checkpoint.pt"))
    run(suite, data, tmp_path / "cut")
    assert not list((tmp_path / "cut").glob("*/*/tiny/*/checkpoint.pt"))
    whole, cut = page(tmp_path / "whole")["rows"], page(tmp_path / "cut")["rows"]
    for name, row in whole.items():
        for column in ("s2s_random", "s2s_blocks", "s2t_random", "s2t_blocks"):
            assert cut[name][column]["mean"] == row[column]["mean"], (name, column)


def test_a_look_that_is_cut_off_is_taken_again_and_the_average_stays_one(
    suite, data, tmp_path, monkeypatch
) -> None:
    settings = json.loads(json.dumps(SMALL))
    settings["more_rows"]["tiny"]["optimiser"] = {"ema": 0.9}
    suite.write_text(yaml.safe_dump(settings))
    run(suite, data, tmp_path / "whole", seeds=(0,))
    predict, count = fitting.predict, 0

    def interrupted(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count in (6, 31, 45):  # the 31st is the last look of the first row
            raise KeyboardInterrupt
        return predict(*arguments)

    monkeypatch.setattr(fitting, "predict", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(suite, data, tmp_path / "cut", seeds=(0,))
    run(suite, data, tmp_path / "cut", seeds=(0,))
    records = [
        [json.loads(file.read_text())["validation"] for file in sorted(path.glob(pattern))]
        for path in (tmp_path / "whole", tmp_path / "cut")
        for pattern in ["*/*/tiny/*/result.json"]
    ]
    assert len(records[0]) == 2
    assert records[0] == records[1]


def test_what_is_there_is_not_run_again_and_other_settings_are_refused(
    suite, data, tmp_path, monkeypatch
) -> None:
    run(suite, data, tmp_path / "out", seeds=(0,))

    def never(self: fitting.Fit, *_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(fitting.Fit, "run", never)
    run(suite, data, tmp_path / "out", seeds=(0,))
    with pytest.raises(ConfigError, match=r"other settings \(budget.steps: 30 → 31\)"):
        run(suite, data, tmp_path / "out", seeds=(0,), budget=Budget(steps=31))
    with pytest.raises(AssertionError, match="again"):
        run(suite, data, tmp_path / "out", seeds=(0, 1))


def test_a_row_that_cannot_be_built_leaves_nothing_of_it_behind(suite, data, tmp_path) -> None:
    settings = json.loads(json.dumps(SMALL))
    settings["more_rows"]["tiny"]["settings"]["depht"] = 3
    suite.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match="depht"):
        run(suite, data, tmp_path / "out", seeds=(0,))
    assert not list((tmp_path / "out").glob("*/*/tiny"))
    suite.write_text(yaml.safe_dump(SMALL))
    run(suite, data, tmp_path / "out", seeds=(0,))


def test_too_few_windows_for_a_part_are_refused(suite, data, tmp_path) -> None:
    counts = {"train": 5000, "validation": 20, "test": 40}
    suite.write_text(yaml.safe_dump(SMALL | {"counts": counts}))
    with pytest.raises(DataError, match="none is left for the validation part"):
        run(suite, data, tmp_path / "out", seeds=(0,))


def test_trivial_rows_can_be_had_alone(suite, data, tmp_path) -> None:
    loaded = load_suite(str(suite))
    run_suite(loaded, load_rows(loaded, ["none"]), Options(data=data, output=tmp_path / "out"))
    assert list(page(tmp_path / "out")["rows"]) == list(TRIVIAL)


def test_what_another_suite_has_measured_is_taken_over(suite, data, tmp_path, monkeypatch) -> None:
    # A folder that stands in for the data folder takes its results too.
    monkeypatch.setenv("ASE_ATOM_DATA", str(tmp_path / "elsewhere"))
    loaded = load_suite(str(suite))
    rows = load_rows(loaded)
    options = Options(data=data, seeds=(0,))
    run_suite(loaded, rows, options)
    done = fitting.Fit.run

    def never(self: fitting.Fit, *_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(fitting.Fit, "run", never)
    again = loaded.model_copy(update={"name": "again"})
    run_suite(again, rows, options)
    pages = [page(data / "results" / name)["rows"] for name in (loaded.name, "again")]
    assert pages[0] == pages[1]
    # Another budget makes another result.
    monkeypatch.setattr(fitting.Fit, "run", done)
    longer = loaded.model_copy(update={"name": "longer", "budget": Budget(steps=31)})
    run_suite(longer, rows, options)
    assert page(data / "results" / "longer")["rows"]["tiny"]["steps"] == 31


def test_nothing_is_printed_without_the_trivial_rows(suite, data, tmp_path) -> None:
    output = tmp_path / "out"
    run(suite, data, output, seeds=(0,))
    (task,) = load_suite(str(suite)).tasks()
    Place(output, task, "blocks", "mean, aligned", 0).record.unlink()
    loaded = load_suite(str(suite))
    tables.write_tables(output, loaded, [task], load_rows(loaded), (0,))
    text = (output / "table.md").read_text()
    assert "Not printed: trivial rows are missing" in text
    assert "tiny EGNO" not in text
    assert json.loads((output / "table.json").read_text())["tasks"] == []


def test_a_budget_in_minutes_is_one_of_the_processor(suite, data, tmp_path) -> None:
    run(suite, data, tmp_path / "out", seeds=(0,), budget=Budget(minutes=0.005))
    row = page(tmp_path / "out")["rows"]["tiny"]
    assert 0.005 <= row["train_minutes"] < 0.05
    assert row["steps"] >= 1


# -- tables ----------------------------------------------------------------------------------------


def test_numbers_and_cells_are_formatted() -> None:
    assert [number(value) for value in (3.4712, 12.04, 1514.8, 0.00712, 2e-7, 0.0, None)] == [
        "3.47",
        "12.0",
        "1515",
        "0.00712",
        "2e-7",
        "0",
        "–",
    ]
    assert cell(None) == "–"
    assert cell({"mean": 3.471, "std": 0.0512, "best": True}) == "**3.47 ± 0.051**"
    assert cell({"mean": 3.471, "std": None, "best": False}) == "3.47"
    assert grid(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]
    assert spread([], "s2s") is None


def test_published_numbers_stand_only_beside_their_own_task() -> None:
    tasks = {task.name: task for task in load_suite("md17").tasks()}
    ethanol, aspirin = tasks["ethanol"], tasks["aspirin"]
    assert tables.published(ethanol)["paper"] == {"s2s": 3.47, "s2t": 2.69}
    for change in ({"delta": 1000}, {"timesteps": 4}, {"atoms": "all"}):
        assert tables.published(ethanol.model_copy(update=change)) == {}
    hydrogens = aspirin.model_copy(update={"atoms": "all", "errors_of": "heavy"})
    assert tables.published(hydrogens)["paper"] == {"s2s": 17.48}


def test_errors_of_heavy_atoms_are_those_of_heavy_atoms_alone(suite, data, tmp_path) -> None:
    """Where nothing is learned, hydrogens that enter change no heavy atom's error."""
    loaded = load_suite(str(suite))
    found = {}
    for atoms, errors_of in (("heavy", "all"), ("all", "heavy"), ("all", "all")):
        changed = loaded.model_copy(update={"atoms": atoms, "errors_of": errors_of})
        output = tmp_path / f"{atoms}-{errors_of}"
        text = run_suite(changed, {}, Options(data=data, output=output)).read_text()
        assert ("errors of heavy atoms" in text) == (errors_of == "heavy")
        found[atoms, errors_of] = page(output)["rows"]
    for row in ("stay", "ballistic", "mean, laboratory"):
        heavy, both, every = (rows[row]["s2t_blocks"]["mean"] for rows in found.values())
        assert heavy == pytest.approx(both, rel=1e-6)
        assert every != pytest.approx(heavy, rel=1e-3)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_suite_loads(path: Path) -> None:
    if path.stem in ("models", "published"):
        return
    loaded = load_suite(path.stem)
    assert loaded.tasks()
    assert load_rows(loaded)
    assert loaded.published is not None


# -- the command line ------------------------------------------------------------------------------


def test_mistakes_are_one_line_and_exit_code_two(suite, data, tmp_path, capsys) -> None:
    mine = ["--data", str(data), "--output", str(tmp_path / "out")]
    for arguments, word in (
        (["run", "md18"], "unknown suite 'md18': there are ablations"),
        (["run", "md17", "--data", str(tmp_path)], "make-md17like"),
        (["run", str(suite), "--rows", "stay", *mine], "unknown row 'stay'"),
        (["run", str(suite), "--molecules", "water", *mine], "has no molecule water"),
        (["run", str(suite), "--deltas", "17", *mine], "has no Δ 17"),
        (["run", str(suite), "--deltas", "x", *mine], "--deltas takes whole numbers"),
        (["run", str(suite), "--minutes", "0", *mine], "--minutes"),
        (["run", str(suite), "--published", "--minutes", "1", *mine], "exclude"),
        (["run", str(suite), "--device", "toaster", *mine], "toaster"),
        (["download", "md18"], "unknown layout"),
        (["make-md17like", "water"], "unknown molecule 'water'"),
        (["make-md17like", "--suite", "md18"], "unknown suite"),
    ):
        assert main(arguments) == 2, arguments
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1, errors
        assert word in errors[0], errors
    assert not (tmp_path / "out").exists()


def test_settings_files_are_checked(tmp_path: Path) -> None:
    for changes, word in (
        ({"detla": [16]}, "unknown key detla; did you mean delta"),
        ({"delta": [2]}, "4 frames do not fit into Δ = 2"),
        ({"budget": {"steps": 3, "minutes": 1}}, "one of them"),
        ({"rows": []}, "rows"),
        ({"seeds": []}, "seeds"),
        ({"molecules": []}, "no tasks|molecules"),
    ):
        path = tmp_path / "x.yaml"
        path.write_text(yaml.safe_dump(SMALL | changes))
        with pytest.raises(ConfigError, match=word):
            load_suite(str(path))
    path.write_text(yaml.safe_dump(SMALL | {"more_rows": {"tiny": {"base": "nobody"}}}))
    with pytest.raises(ConfigError, match="nobody"):
        load_rows(load_suite(str(path)))
    path.write_text(yaml.safe_dump(SMALL | {"more_rows": {"tiny": {"base": "tiny"}}}))
    with pytest.raises(ConfigError, match="its base 'tiny' is built on it"):
        load_rows(load_suite(str(path)))


def test_the_command_prints_its_table(suite, data, tmp_path, capsys) -> None:
    arguments = ["run", str(suite), "--data", str(data), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--seeds", "0", "--minutes", "0.002"]) == 0
    printed = capsys.readouterr().out
    assert "## ethanol, Δ = 16 frames, P = 4, heavy atoms" in printed
    assert main([*arguments, "--seeds", "0", "--table"]) == 0
    assert capsys.readouterr().out == printed


# -- generated trajectories ------------------------------------------------------------------------


def test_generated_trajectories_have_no_momenta_and_resume_to_the_same(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(thermostatted, "STARTS", 30.0)
    protocol = thermostatted.Protocol(chunk=40)

    def make(folder: str, frames: int, **changes: object) -> Path:
        arguments = (tmp_path / folder, "ethanol", frames, protocol, lambda line: None)
        return md17like.make_trajectory(*arguments, **changes)

    whole = read_md17(make("a", 80), "ethanol")
    check_fingerprint(tmp_path / "a" / "md17_ethanol.npz")
    x, masses = whole.positions, whole.masses[:, None]
    assert np.abs((masses * x).sum(1)).max() < 1e-9
    between, velocities = (x[1:] + x[:-1]) / 2, np.diff(x, axis=0) / 0.5
    angular = (masses * np.cross(between, velocities)).sum(1)
    assert np.abs(angular).max() < 1e-3 * np.abs(masses * np.cross(between, velocities)).max()
    kelvin = (masses * velocities**2).sum((1, 2)) * 103.642697 / (21 * 8.617333e-5)
    assert 150 < kelvin.mean() < 1200
    # Cut after the first chunk, and made longer afterwards.
    make("b", 40)
    longer = read_md17(make("b", 80), "ethanol")
    assert np.array_equal(longer.positions, x)
    make("c", 80, prefix="rmd17", shuffled=True)
    again = read_rmd17(tmp_path / "c" / "rmd17_ethanol.npz", "ethanol")
    assert np.array_equal(again.positions, x)
    other = thermostatted.Protocol(chunk=40, temperature=300.0)
    with pytest.raises(ConfigError, match="other settings"):
        md17like.make_trajectory(tmp_path / "a", "ethanol", 80, other, print)


def test_real_rmd17_files_lack_frames(tmp_path: Path) -> None:
    kept = np.sort(np.random.default_rng(0).choice(1200, 400, replace=False))
    write_rmd17(tmp_path / "data" / "rmd17" / "rmd17_ethanol.npz", 1200, kept)
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"layout": "rmd17"}))
    with pytest.raises(DataError, match="frames are missing in between"):
        run(path, tmp_path / "data", tmp_path / "out")
