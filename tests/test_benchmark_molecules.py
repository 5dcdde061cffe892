"""Suites that divide molecules, or runs of one, and not the frames of one trajectory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from benchmark_files import SMALL, write_md17

from ase_atom.errors import DataError
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
