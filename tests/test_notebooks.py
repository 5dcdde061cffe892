"""The notebooks hold together: `.ci/run` executes them, and here they are looked at."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def code_of(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


@pytest.mark.filterwarnings("ignore")  # of ASE's own
def test_swapping_an_integrator(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (notebook,) = (each for each in NOTEBOOKS if each.stem.startswith("swap"))
    names: dict = {}
    exec(compile(code_of(notebook), notebook.name, "exec"), names)
    assert "times as fast" in capsys.readouterr().out
    assert len(names["run"]) == 126
    assert 0 < names["error"] < 0.1


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_shipped_without_results(notebook) -> None:
    ast.parse(code_of(notebook))
    for cell in json.loads(notebook.read_text())["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
