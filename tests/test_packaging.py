"""What the packaging promises."""

import configparser
import importlib
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

import ase_atom


def requirements() -> list[Requirement]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return [Requirement(line) for text in lists for line in text.split("\n") if line]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    rows = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): number for name, number in rows}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_has_a_pin_above_its_lower_bound(requirement):
    pinned = pins()[requirement.name.lower().replace("_", "-")]
    assert requirement.specifier.contains(pinned)


def test_the_version_is_the_same_everywhere():
    stated = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert stated[1] == ase_atom.__version__ == version("ase-atom")


def test_every_public_name_can_be_had():
    for name in ase_atom.__all__:
        assert getattr(ase_atom, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Operators'"):
        _ = ase_atom.Operators


def test_the_package_does_not_lean_on_the_training_code():
    for file in Path(ase_atom.__file__).parent.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) training\b", file.read_text(), re.MULTILINE), file


def loaded_by_others() -> list[str]:
    """Modules that others load by entry points, some while they are being imported themselves."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    values = "\n".join(config["options.entry_points"].values())
    return sorted(set(re.findall(r"= (\S+):", values)))


@pytest.mark.parametrize("first", [*loaded_by_others(), "ase_atom.openmm.ml_potential"])
def test_what_others_load_can_be_imported_first(first: str):
    """No order of imports leaves a module half made."""
    if "openmm" in first:
        pytest.importorskip("openmmml")
    potential = "import openmmml; openmmml.MLPotential('ase-atom', operator='x')"
    check = f"import {first}; " + (potential if "openmm" in first else "")
    subprocess.run([sys.executable, "-W", "ignore", "-c", check], check=True)


ALLOWED = (
    *("errors", "files", "io", "keywords", "operator", "plugins", "sending", "state"),
    *("torch_settings", "units"),
)


def test_the_operator_sees_no_ase_no_openmm_and_no_adapter():
    for file in (Path(ase_atom.__file__).parent / "operator").glob("*.py"):
        for line in re.findall(r"^\s*(?:from|import) (\S+)", file.read_text(), re.MULTILINE):
            top = line.split(".")[0]
            assert top not in ("ase", "openmm", "mdtraj", "rdkit"), file
            if top == "ase_atom":
                assert line.split(".")[1] in ALLOWED, file


def test_the_example_script_is_valid():
    source = (ROOT / "examples" / "ethanol.py").read_text()
    compile(source, "ethanol.py", "exec")
    for module, names in re.findall(r"^from (ase_atom\S*) import (.+)$", source, re.MULTILINE):
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name)
