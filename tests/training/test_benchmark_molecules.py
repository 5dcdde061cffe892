"""Suites that divide molecules, or runs of one, and not the frames of one trajectory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from benchmark_files import SMALL, write_md17

from ase_atom.errors import DataError
from training.benchmark import main
from training.benchmarks.running import Options, run_suite
from training.benchmarks.suites import load_rows, load_suite


def run(suite: Path, data: Path, output: Path) -> Path:
    loaded = load_suite(str(suite))
    return run_suite(loaded, load_rows(loaded), Options(data=data, output=output))


def page(output: Path) -> dict:
    (found,) = json.loads((output / "table.json").read_text())["tasks"]
    return found


def test_several_molecules_train_one_model_for_others(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("a", "b", "c", "d"):
        write_md17(data / "tg80" / f"tg80_{name}.npz", frames=800)
        arrays = dict(np.load(data / "tg80" / f"tg80_{name}.npz"))
        kept = {"coords": arrays["R"], "nuclear_charges": arrays["z"]}
        np.savez(data / "tg80" / f"tg80_{name}.npz", **kept)
    division = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    # Too long a horizon for three blocks of time of one molecule, which are not needed here.
    settings = SMALL | {"layout": "tg80", "molecules": [], "seeds": [0], "delta": [300]}
    settings["divisions"] = {"unseen": {"random": division, "blocks": division}}
    path = tmp_path / "many.yaml"
    path.write_text(yaml.safe_dump(settings))
    text = run(path, data, tmp_path / "out").read_text()
    assert "| row | S2S, random molecules | S2S, unlike molecules |" in text
    assert "time blocks |" not in text
    found = page(tmp_path / "out")
    assert found["starts"]["blocks"] == {"train": 60, "validation": 20, "test": 40}
    assert found["public"] is True
    rows = found["rows"]
    assert rows["mean, aligned"]["s2s_random"]["mean"] == rows["stay"]["s2s_random"]["mean"]
    assert rows["tiny"]["s2t_blocks"]["mean"] > 0


def test_other_runs_of_a_molecule_teach_about_it(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "tg80"
    for skipped, place in enumerate(("tg80_d.npz", "seed-1/tg80_d.npz", "seed-2/tg80_d.npz")):
        write_md17(folder / place, frames=1000)
        arrays = np.load(folder / place)
        kept = {"coords": arrays["R"][100 * skipped :], "nuclear_charges": arrays["z"]}
        np.savez(folder / place, **kept)
    division = {"train": ["seed-1/d"], "validation": ["seed-2/d"], "test": ["d"]}
    settings = SMALL | {"layout": "tg80", "molecules": [], "seeds": [0]}
    settings |= {"divisions": {"d": {"random": division}}, "split_names": {"random": "other runs"}}
    path = tmp_path / "runs.yaml"
    path.write_text(yaml.safe_dump(settings))
    text = run(path, tmp_path / "data", tmp_path / "out").read_text()
    assert "| row | S2S, other runs | S2T, other runs |" in text
    assert "unlike molecules" not in text
    rows = page(tmp_path / "out")["rows"]
    # Of another molecule there would be nothing to take the mean of.
    assert rows["mean, aligned"]["s2s_random"]["mean"] != rows["stay"]["s2s_random"]["mean"]
    assert rows["tiny"]["s2t_random"]["mean"] > 0
    assert rows["tiny"]["s2t_blocks"] is None

    np.savez(folder / "seed-2" / "tg80_d.npz", **kept | {"nuclear_charges": arrays["z"][::-1]})
    with pytest.raises(DataError, match=r"seed-2/tg80_d.npz has other atoms, or in another order"):
        run(path, tmp_path / "data", tmp_path / "again")
    (folder / "seed-2" / "tg80_d.npz").unlink()
    with pytest.raises(
        DataError, match=r"no trajectory of seed-2/d: .* as docs/benchmarks.md says"
    ):
        run(path, tmp_path / "data", tmp_path / "again")


def test_zero_shot_beside_single_task_on_the_same_starts(tmp_path: Path, capsys) -> None:
    data = tmp_path / "data"
    for place in ("tg80_a.npz", "tg80_b.npz", "tg80_d.npz", "seed-1/tg80_d.npz"):
        write_md17(data / "tg80" / place, frames=1000)
        arrays = np.load(data / "tg80" / place)
        # Molecules differ by what they do.
        speed = 1 + (place[-5] != "d")
        kept = {"coords": arrays["R"][::speed][:500], "nuclear_charges": arrays["z"]}
        np.savez(data / "tg80" / place, **kept)
    of = {
        "zero": ({"train": ["a"], "validation": ["b"], "test": ["d"]}, {}),
        "single": (
            {"train": ["seed-1/d"], "validation": ["seed-1/d"], "test": ["d"]},
            {"other": {"base": "tiny", "label": "alone"}},
        ),
    }
    for name, (division, rows) in of.items():
        settings = SMALL | {"layout": "tg80", "molecules": [], "seeds": [0]}
        settings["divisions"] = {"d": {"random": division}}
        settings["more_rows"] = SMALL["more_rows"] | rows
        settings["rows"] = ["other"] if rows else ["tiny"]
        settings["split_names"] = {"random": "other runs"} if rows else {}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    suites = [str(tmp_path / f"{name}.yaml") for name in of]

    assert main(["compare", *suites, "--data", str(data)]) == 2
    assert "run both suites on the same targets" in capsys.readouterr().err
    errors = []
    for suite, row in zip(suites, ("tiny", "other"), strict=True):
        assert main(["run", suite, "--data", str(data)]) == 0
        table = data / "results" / Path(suite).stem / "table.json"
        (found,) = json.loads(table.read_text())["tasks"]
        errors.append(found["rows"][row]["s2t_random"]["mean"])
    capsys.readouterr()
    assert main(["compare", *suites, "--data", str(data)]) == 0
    head, _, line = capsys.readouterr().out.splitlines()
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert cells["row"] == "tiny EGNO, random molecules"
    assert cells["beside"] == "alone, other runs"
    assert abs(errors[0] / errors[1] - 1) > 0.02
    assert float(cells["ratio"]) == pytest.approx(errors[0] / errors[1], abs=0.006)

    # Another trajectory of the target has the same starts, and is another test.
    write_md17(data / "tg80" / "tg80_d.npz", frames=1100)
    arrays = np.load(data / "tg80" / "tg80_d.npz")
    kept = {"coords": arrays["R"][600:], "nuclear_charges": arrays["z"]}
    np.savez(data / "tg80" / "tg80_d.npz", **kept)
    shutil.rmtree(data / "results" / "single")
    assert main(["run", suites[1], "--data", str(data)]) == 0
    assert main(["compare", *suites, "--data", str(data)]) == 2
