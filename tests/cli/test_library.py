"""Lists of molecules: a folder and a record each, gone on with, and failures with reasons."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom

from ase_atom.cli import main
from ase_atom.cli.listing import is_library, read_members
from ase_atom.errors import DataError

BRIEF = ["--equilibration", "32fs", "--quiet"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def scheduler() -> Iterator[list[str]]:
    """A cluster inside this process."""
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with distributed.LocalCluster(**options, dashboard_address=None) as cluster:
        yield ["--scheduler", cluster.scheduler_address]


def table(path: str) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in csv.DictReader(Path(path).read_text().splitlines())}


def test_a_library_is_run_listed_gone_on_with_and_no_other(scheduler, capsys) -> None:
    Path("library.smi").write_text("# two\nCCO ethanol\nCCI ethyl iodide\n")
    run = ["run", "library.smi", *BRIEF, *scheduler]
    assert main([*run, "--time", "96fs"]) == 1
    said = capsys.readouterr()
    assert "failed: ethyl iodide: no shipped operator" in said.err.replace("\n", " ")
    rows = table("library/summary.csv")
    assert rows["ethanol"]["state"] == "done"
    assert float(rows["ethanol"]["time_ps"]) == 0.096
    assert table("library/failures.csv").keys() == {"ethyl iodide"}
    assert "element I" in table("library/failures.csv")["ethyl iodide"]["reason"]
    record = json.loads(Path("library/ethyl_iodide/ethyl_iodide.json").read_text())
    assert (record["state"], record["exit_code"]) == ("failed", 2)

    done = Path("library/ethanol/ethanol.dcd")
    before = done.stat().st_mtime_ns
    assert main([*run, "--time", "96fs"]) == 1
    assert done.stat().st_mtime_ns == before  # the finished one is left alone

    Path("library.smi").write_text("CCO ethanol\n")
    assert main([*run, "--time", "160fs"]) == 0  # a run that had ended early goes on
    single = ["run", "--smiles", "CCO", *BRIEF, "--time", "160fs", "-o", "whole.dcd"]
    assert main(single) == 0
    assert done.read_bytes() == Path("whole.dcd").read_bytes()
    assert not Path("library/failures.csv").exists()

    capsys.readouterr()
    for more, wrong in (
        (
            ["--time", "160fs", "--temperature", "350"],
            "begun without --temperature, not with --temperature 350",
        ),
        (["--time", "96fs"], "can be made longer"),
        (["--time", "160fs", "-o", "library.xtc"], ".xtc"),
    ):
        assert main([*run, *more]) == 2
        assert wrong in capsys.readouterr().err
    Path("library.smi").write_text("OCCO ethanol\n")
    assert main([*run, "--time", "160fs"]) == 2
    assert "ethanol was another molecule" in capsys.readouterr().err


def test_an_sdf_of_structures_and_drawings(scheduler) -> None:
    blocks = []
    for smiles, name, embed in (("CO", "methanol", True), ("CN", "", False)):
        molecule = Chem.MolFromSmiles(smiles)
        if embed:
            molecule = Chem.AddHs(molecule)
            rdDistGeom.EmbedMolecule(molecule, 1)
        else:
            rdDepictor.Compute2DCoords(molecule)
        molecule.SetProp("_Name", name)
        blocks.append(Chem.MolToMolBlock(molecule) + "$$$$\n")
    Path("two.sdf").write_text("".join(blocks))
    Path("one.sdf").write_text(blocks[0])
    assert is_library(Path("two.sdf"))
    assert not is_library(Path("one.sdf"))
    first, second = read_members(Path("two.sdf"), Path("out"), ".xtc")
    assert (first.kind, first.name) == ("mol", "methanol")
    assert (second.kind, second.text) == ("smiles", "CN")
    assert second.name.startswith("CH5N-")
    Path("two.sdf").write_text("".join(blocks[:1]) + "".join(blocks[:1]).replace("meth", "m"))
    assert main(["run", "two.sdf", "-o", "out.xtc", "--time", "32fs", *BRIEF, *scheduler]) == 0
    for name in ("methanol", "manol"):
        assert Path(f"out/{name}/{name}.xtc").stat().st_size > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no molecules"),
        ("# nothing\n\n", "holds no molecules"),
        ("CCO a\nC1CC b\nC1C c\n", "line 2: 'C1CC' is no SMILES that RDKit can read; 1 more"),
        ("CCO a\nCO b\nCN a\n", "line 3: a stands in line 1 already"),
        ("CCO a b\nCO a/b\n", "line 2: a/b stands in line 1 already, as a b, in its folder"),
        ("CCO Ethanol\nCO ethanol\n", "line 2: ethanol stands in line 1 already, as Ethanol"),
        (f"CCO {'a' * 101}\n", "a name of 101 characters"),
    ],
)
def test_a_list_that_is_no_good_is_one_line_and_no_file(here, capsys, text, said) -> None:
    Path("library.smi").write_text(text)
    assert main(["run", "library.smi", "--time", "32fs"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert [each.name for each in here.iterdir()] == ["library.smi"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.smi"], "no such file"),
        (["no.csv"], "no column smiles"),
        (["library.smi", "--smiles", "CCO"], "is a list of molecules: give it alone"),
        (["library.smi", "library.smi"], "is a list of molecules: give it alone"),
        (["library.smi", "--log", "x.csv"], "--log x.csv"),
        (["library.smi", "--restart", "x"], "--restart x"),
        (["library.smi", "--stop-on-error"], "--stop-on-error"),
        (["library.smi", "-o", "out.doc"], "ending"),
        (["library.smi", "--operator", "none"], "none"),
        (["library.smi", "--tolerance", "2"], "--tolerance"),
        (["library.smi", "--time", "1fs", "--frame-interval", "2fs"], "one frame interval"),
        (["library.smi", "--timestep", "0.7fs"], "no multiple of the time step"),
        (["library.smi", "--stride", "1ps", "--operator", "tg80-gfn2"], "means leaps"),
        (["library.smi", "--stride", "100fs", "--operator", "tg80-gfn2"], "horizon"),
        (["library.smi", "--scheduler", "cloud"], "'cloud' is not local"),
        (["library.smi", "--scheduler", "jobqueue:cron"], "unknown queueing system"),
        (["library.smi", "-o", "taken"], "is there and no library's"),
        (["--smiles", "CCO", "--scheduler", "local"], "--scheduler local is for a list"),
        (["--smiles", "CCO", "--workers", "2"], "--workers 2 is for a list"),
    ],
)
def test_what_a_list_does_not_go_with(here, capsys, arguments, said) -> None:
    Path("library.smi").write_text("CCO ethanol\n")
    Path("no.csv").write_text("name,formula\nethanol,C2H6O\n")
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("")
    before = sorted(here.rglob("*"))
    assert main(["run", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert sorted(here.rglob("*")) == before


def test_names_of_a_csv() -> None:
    Path("list.csv").write_text("Name,SMILES,pKa\nethanol,CCO,16\n,CO,15\n")
    names = [each.name for each in read_members(Path("list.csv"), Path("out"), ".dcd")]
    assert names == ["ethanol", "CH4O-3"]
    Path("list.csv").write_text("name,smiles\nethanol,\n")
    with pytest.raises(DataError, match="line 2: '' is no SMILES"):
        read_members(Path("list.csv"), Path("out"), ".dcd")
