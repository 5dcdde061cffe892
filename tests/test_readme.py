"""The README's own example, run as it stands but for the operator and the length."""

import re

import pytest
from conftest import ROOT

from ase_atom.operator import list_operators


def test_the_python_example(tiny_checkpoint, monkeypatch, capsys):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert source.count('"ethanol-gfn2"') == 1
    assert source.count("run(1000.0)") == 1
    if "ethanol-gfn2" not in [card.name for card in list_operators()]:
        # A stand-in with next to no forces coasts, so cold and short.
        source = source.replace('"ethanol-gfn2"', repr(str(tiny_checkpoint)))
        source = source.replace("sample_velocities(state, 300.0", "sample_velocities(state, 1.0")
        source = source.replace("temperature_K=300.0", "temperature_K=1.0")
    source = source.replace("run(1000.0)", "run(48.0)")
    monkeypatch.chdir(ROOT)
    exec(compile(source, "README.md", "exec"), {})
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 4  # the start and three jumps
    assert lines[-1].endswith("torch.Size([64, 8, 9, 3])")


def test_the_options_it_names_are_there(capsys):
    from ase_atom.cli import main

    text = (ROOT / "README.md").read_text()
    assert main(["run", "--help"]) == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for line in re.findall(r"^    ase-atom run .*$", text, re.MULTILINE):
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line


@pytest.mark.parametrize("file", ["examples/ethanol.xyz", "examples/ethanol.py", "CITATION.cff"])
def test_the_files_it_names_are_there(file):
    assert file in (ROOT / "README.md").read_text()
    assert (ROOT / file).is_file()
