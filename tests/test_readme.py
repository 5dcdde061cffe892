"""The Python in README and docs, run as it stands but for its length."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from ase_atom.cli import main

SHORTER = [
    ("run(20_000)", "run(400)"),
    ("step(20_000)", "step(400)"),
    ("run(1000.0)", "run(48.0)"),
    ("seed=2).state  #", "seed=2, duration=32.0).state  #"),
    ("    20_000,\n", "    400,\n"),
    ("range(64)", "range(4)"),
    ("run(2_000)", "run(300)"),
    (
        'found.write("out")',
        "assert found.write",
    ),  # half a minute of pictures, which other tests draw
]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
IN_DATA = "data folder|data_folder"  # blocks that measure reference data, which are not shipped


def blocks(path: str) -> list[str]:
    """Return the Python of a page, each block after those before it, made shorter."""
    text = (ROOT / path).read_text()
    for long, short in SHORTER:
        text = text.replace(long, short)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with the examples in it, in which to run."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(source: str, names: dict | None = None) -> None:
    exec(compile(source, "page", "exec"), {} if names is None else names)


def test_the_script_for_ase(here, capsys):
    source, _ = blocks("README.md")
    run(source)
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "Time[ps]"
    assert [row.split()[0] for row in rows] == ["0.0000", "0.1000", "0.2000"]


def test_the_script_for_openmm(here):
    _, source = blocks("README.md")
    run(source)
    header, *rows = (here / "openmm.csv").read_text().splitlines()
    assert header.count(",") == 2
    assert [float(row.split(",")[0]) for row in rows] == pytest.approx([0.1, 0.2])


def test_the_script_without_either(here, capsys):
    march, choice, *_ = blocks("docs/python.md")
    names: dict = {}
    run(march, names)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 4  # the start and three jumps
    assert lines[-1].endswith("torch.Size([64, 8, 9, 3])")
    run(choice.replace("# chosen", "; assert operator.card.name == 'ethanol-gfn2'  #"), names)
    assert names["operator"].card.name == "ethanol-pbe"
    assert "ethanol-pbe was not trained for COC (C2H6O)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("page", "number"),
    [
        (page, number)
        for page in PAGES
        for number, source in enumerate(blocks(page))
        if not re.search(IN_DATA, source)
    ],
)
@pytest.mark.filterwarnings("ignore")  # of ASE's and OpenMM's own
def test_every_block_runs_alone(here, page, number):
    run(blocks(page)[number])


def test_the_options_it_names_are_there(capsys):
    text = (ROOT / "README.md").read_text()
    for line in re.findall(r"^    ase-atom .*$", text, re.MULTILINE):
        command = line.split()[1]
        assert main([command, "--help"]) == 0
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert set(re.findall(r"--[a-z-]+", line.partition("#")[0])) <= known, line


@pytest.mark.parametrize("page", PAGES)
def test_the_files_it_names_are_there(page):
    # In commands, SMILES may look like links.
    text = re.sub(r"^    .*$", "", (ROOT / page).read_text(), flags=re.MULTILINE)
    links = re.findall(r"\]\(([^)#]+)\)", text)
    for link in links:
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link
