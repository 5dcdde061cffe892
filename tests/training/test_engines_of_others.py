"""Reference engines that other packages bring."""

from pathlib import Path

import pytest
from ase import Atoms
from installed_package import install

from ase_atom.errors import ConfigError
from training.data.store import read_bursts
from training.engines.factory import GROUP, get_engine
from training.generate import main

MORSE = """
from ase.calculators.morse import MorsePotential

from training.engines.factory import Engine


def morse(name, options):
    settings = {"epsilon": 9.9, "r0": 1.1, "rho0": 2.96} | options
    return Engine(name, "elsewhere", "1.0", f"Morse for {name}", lambda: MorsePotential(**settings))


def broken(name, options):
    raise RuntimeError("no licence")


def calculator(name, options):
    return MorsePotential()
"""


@pytest.fixture
def installed(monkeypatch, tmp_path):
    def add(**engines: str) -> None:
        install(monkeypatch, tmp_path / "site", MORSE, {GROUP: engines})

    return add


def test_a_package_adds_an_engine_by_an_entry_point(installed, tmp_path: Path):
    installed(morse="elsewhere:morse")
    data = tmp_path / "data"
    run = ["--smiles", "N#N", "--name", "nitrogen", "--data", str(data), "--thermalise", "20"]
    run += ["--bursts", "1", "--duration", "10", "--workers", "1", "--temperatures", "300"]
    assert main([*run, "--engine", "morse"]) == 0
    (burst,) = read_bursts(data)
    assert burst.attrs["theory"] == "Morse for morse"
    assert burst.attrs["engine"] == "morse"
    nitrogen = Atoms("N2", [[0, 0, 0], [0, 0, 1.1]])
    for name, well in (("morse", 9.9), ("morse:tight", 9.9)):
        nitrogen.calc = get_engine(name).make()
        assert nitrogen.get_potential_energy() == pytest.approx(-well)
    nitrogen.calc = get_engine("morse", '{"epsilon": 5.0}').make()
    assert nitrogen.get_potential_energy() == pytest.approx(-5.0)


@pytest.mark.parametrize(
    ("engines", "name", "message"),
    [
        ({"gone": "no_such_package:X"}, "gone", "engine 'gone' of no_such_package:X cannot be"),
        ({"bad": "elsewhere:broken"}, "bad", "engine bad of elsewhere:broken .*: no licence"),
        ({"raw": "elsewhere:calculator"}, "raw", "is a MorsePotential, and no training.engines"),
        ({"gfn2": "elsewhere:morse"}, "gfn2", "there is an engine 'gfn2' already"),
        ({"morse": "elsewhere:morse"}, "mrose", "there are gfn2, gfn1, aimnet2, morse, pyscf"),
    ],
)
def test_an_engine_that_cannot_be_used_is_one_line(
    installed, tmp_path: Path, capsys, engines: dict[str, str], name: str, message: str
):
    installed(**engines)
    with pytest.raises(ConfigError, match=message):
        get_engine(name)
    data = tmp_path / "data"
    assert main(["--smiles", "N#N", "--engine", name, "--data", str(data)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not data.exists()
