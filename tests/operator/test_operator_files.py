"""Operator files that ask for more than they hold are refused before a network is built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ase_atom.errors import CheckpointError
from ase_atom.operator import list_operators, load_operator
from ase_atom.operator.base import checksum
from ase_atom.operator.blueprint import blueprint
from ase_atom.operator.checkpoint import find_operator


@pytest.fixture(scope="module")
def shipped() -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Facts and tensors of a shipped operator."""
    with safe_open(find_operator(list_operators()[0].name), framework="pt") as file:
        return dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def altered(path: Path, shipped: tuple, part: str, changes: dict[str, Any]) -> Path:
    """Write an operator file with other settings, whose checksum is right."""
    facts, tensors = shipped
    facts = {key: value for key, value in facts.items() if key != "checksum"}
    facts[part] = json.dumps(json.loads(facts[part]) | changes)
    facts["checksum"] = checksum(tensors, facts)
    save_file(tensors, path, metadata=facts)
    return path


REFUSED = {
    "width": ("config", {"width": 4096}, "by its settings"),
    "too wide": ("config", {"width": 2**40}, "less than or equal to 4096"),
    "blocks": ("config", {"blocks": 5}, "only its settings name"),
    "too deep": ("config", {"blocks": 10**9}, "less than or equal to 64"),
    "fewer blocks": ("config", {"blocks": 3}, "only its tensors name"),
    "modes": ("config", {"modes": 10**12}, "less than or equal to"),
    "no element": ("config", {"elements": [0, 1]}, "greater than or equal to 1"),
    "element 200": ("config", {"elements": [1, 200]}, "less than or equal to 118"),
    "elements twice": ("config", {"elements": [1, 6, 6, 8]}, "holds one twice"),
    "segments": ("config", {"segment": 1e-12}, "more than 1024 of them"),
    "segment": ("config", {"segment": 0}, "greater than 0"),
    "horizon": ("config", {"horizon": float("inf")}, "finite"),
    "horizon and segment": ("config", {"horizon": 1e300, "segment": 1e-300}, "more than 1024"),
    "other architecture": ("config", {"architecture": "os.system"}, "must be one of"),
    "card": ("card", {"elements": [1, 500]}, "less than or equal to 118"),
    "stride": ("card", {"stride_fs": float("nan")}, "finite|greater than 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_fit_are_refused(tmp_path, shipped, case):
    part, changes, words = REFUSED[case]
    path = altered(tmp_path / "operator.safetensors", shipped, part, changes)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_operator(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


def test_an_altered_file_with_a_right_checksum_and_settings_is_read(tmp_path, shipped):
    path = altered(tmp_path / "operator.safetensors", shipped, "card", {"notes": "mine"})
    assert load_operator(path).card.notes == "mine"


@pytest.mark.parametrize("facts", [{}, {"format": "x"}, {"format": "ase-atom-operator/1"}])
def test_other_safetensors_files(tmp_path, facts):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata=facts or None)
    with pytest.raises(CheckpointError, match="no ase-atom operator"):
        load_operator(path)


def test_no_compiler_is_imported_to_run_an_operator():
    """Torch's compiler, which takes half as long to import as torch, and what comes with it."""
    script = """
import sys
from ase.build import molecule
from ase_atom import PhaseState, list_operators, load_operator
import torch
operators = [load_operator(each.name, "auto") for each in list_operators()]
(operator,) = (each for each in operators if each.card.name == "ethanol-gfn2")
state = PhaseState.from_atoms(molecule("CH3CH2OH"))
operator(state, torch.tensor([16.0])), operator.energy(state)
heavy = "torch._dynamo torch._inductor onnx pandas matplotlib mdtraj rdkit".split()
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_a_blueprint_has_shapes_and_no_memory():
    with blueprint():
        made = torch.nn.Sequential(torch.nn.Embedding(10**9, 64), torch.nn.Linear(64, 10**8))
    assert {each.device.type for each in made.parameters()} == {"meta"}
    assert made[0].weight.shape == (10**9, 64)
