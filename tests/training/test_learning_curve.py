"""Validation errors by set of a table, of a training and its branch."""

from pathlib import Path

import pytest
import typer

from benchmarks.learning_curve import TRAINED, as_markdown, draw, read_curve, read_sets

SETS = {"phenol": "drug", "toluene": "drug", "aniline": "drug", "ozone": "odd"}


def log(folder: Path, rows: dict[int, list[float]]) -> Path:
    """Write a log with the errors of the compounds in order, and one row of losses alone."""
    folder.mkdir()
    names = [f"compounds/{name}/position_16fs" for name in SETS]
    lines = [",".join(["step", "train/loss", "validation/position_16fs", *names]), "7,0.5,,,,,"]
    lines += [f"{step - 1},,0.05,{','.join(map(str, errors))}" for step, errors in rows.items()]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_branch_takes_the_place_of_later_steps(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("name,set\n" + "".join(f"{n},{s}\n" for n, s in SETS.items()))
    run = log(tmp_path / "run", {500: [1, 2, 9, 4], 1000: [1, 1, 1, 1], 1500: [1, 1, 1, 1]})
    branch = log(tmp_path / "branch", {1000: [0.3, 0.1, 0.2, 0.4]})
    curve = read_curve([run, branch], read_sets(table), "position_16fs")
    assert curve == {
        500: {TRAINED: 0.05, "drug": 2.0, "odd": 4.0},
        1000: {TRAINED: 0.05, "drug": 0.2, "odd": 0.4},
    }
    assert as_markdown(curve).splitlines()[-1] == "| 1000 | 0.050 | 0.200 | 0.400 |"
    draw(curve, "position_16fs", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_holds_no_curve_is_named(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="elsewhere holds no metrics"):
        read_curve([tmp_path / "elsewhere"], SETS, "position_16fs")
    run = log(tmp_path / "run", {500: [1, 2, 3, 4]})
    with pytest.raises(typer.BadParameter, match="position_15fs"):
        read_curve([run], SETS, "position_15fs")
