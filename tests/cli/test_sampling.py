"""``ase-atom sample``: what it keeps, and how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.io import read
from conftest import ETHANOL

from ase_atom.analysis.reference_engines import make_calculator
from ase_atom.cli import main

FEW = ["--chain", "1", "--steps", "3", "--timestep", "0.2", "--discard", "0"]
HOT = ["--temperature", "1e6"]  # such that some proposals are refused and some are not


class Failing(LennardJones):
    """Fails at one of its calls."""

    left: ClassVar[float] = float("inf")

    def calculate(self, *args, **kwargs) -> None:
        type(self).left -= 1
        if type(self).left < 0:
            raise RuntimeError("the machine is gone")
        super().calculate(*args, **kwargs)


def sample(folder: Path, *more: object, correct: str = "ase.calculators.lj:LennardJones") -> int:
    words = ["sample", ETHANOL, "--correct", correct, *FEW, *HOT]
    words += ["-o", folder / "s.extxyz", "--harvest", folder / "h.extxyz", *more]
    return main([str(word) for word in words])


def test_every_energy_and_force_is_kept(tmp_path, capsys) -> None:
    assert sample(tmp_path, "--proposals", 6) == 0
    text = capsys.readouterr().out
    frames, asked = read(tmp_path / "s.extxyz", ":"), read(tmp_path / "h.extxyz", ":")
    assert len(frames) == 6
    assert [frame.info["proposal"] for frame in asked] == list(range(7))
    taken = [frame for frame in asked[1:] if frame.info["accepted"]]
    assert f"{len(taken)} of 6" in text
    assert 0 < len(taken) < 6
    for frame in asked:
        again = frame.copy()
        again.calc = LennardJones()
        assert again.get_potential_energy() == pytest.approx(frame.get_potential_energy(), rel=1e-5)
        np.testing.assert_allclose(again.get_forces(), frame.get_forces(), rtol=1e-3, atol=1e-4)
    last = asked[0]
    for frame, proposed in zip(frames, asked[1:], strict=True):
        last = proposed if proposed.info["accepted"] else last
        np.testing.assert_allclose(frame.positions, last.positions, atol=1e-5)
    assert sample(tmp_path, "--proposals", 6) == 2  # nothing is overwritten


def test_a_sampling_that_ended_early_goes_on_to_the_same_files(tmp_path, capsys) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert sample(whole, "--proposals", 8) == 0
    restart = cut / "s.restart"
    own = {"correct": f"{__name__}:Failing"}
    Failing.left = 0
    assert sample(cut, "--proposals", 7, "--restart", restart, **own) == 2
    assert "the machine is gone" in capsys.readouterr().err
    assert not list(cut.iterdir())
    Failing.left = 5
    assert sample(cut, "--proposals", 7, "--restart", restart, **own) == 2
    assert f"--resume {restart} goes on" in capsys.readouterr().err
    Failing.left = float("inf")
    with (cut / "h.extxyz").open("a") as file:  # as of a kill in the middle of a frame
        file.write("9\nLattice")
    assert main(["sample", "--resume", str(restart)]) == 0
    assert main(["sample", "--resume", str(restart), "--proposals", "8"]) == 0
    assert (cut / "s.extxyz").read_bytes() == (whole / "s.extxyz").read_bytes()
    mine = (cut / "h.extxyz").read_text().replace(own["correct"], "ase.calculators.lj:LennardJones")
    assert mine == (whole / "h.extxyz").read_text()

    capsys.readouterr()
    for words, said in (
        (["--proposals", "3"], "fewer than the 8"),
        (["--seed", "3"], "--seed cannot be changed"),
        (["--chain", "3"], "takes --proposals alone"),
    ):
        assert main(["sample", "--resume", str(restart), *words]) == 2
        assert said in capsys.readouterr().err
    (cut / "h.extxyz").write_text("")
    assert main(["sample", "--resume", str(restart), "--proposals", "9"]) == 2
    assert "is shorter than the run had left it" in capsys.readouterr().err


def test_energies_do_not_depend_on_the_way_to_a_geometry(tmp_path) -> None:
    """Else the sampled potential is none, and one that goes on differs in the last digits."""
    pytest.importorskip("tblite")
    restart = tmp_path / "s.restart"
    more = ["--proposals", 2, "--temperature", 300, "--restart", restart]
    assert sample(tmp_path, *more, correct="gfn2") == 0
    assert main(["sample", "--resume", str(restart), "--proposals", "4"]) == 0
    for frame in read(tmp_path / "h.extxyz", ":"):
        again = frame.copy()
        again.calc = make_calculator("gfn2")
        assert again.get_potential_energy() == pytest.approx(frame.get_potential_energy(), rel=1e-9)
    whole = tmp_path / "whole"
    whole.mkdir()
    assert sample(whole, "--proposals", 4, "--temperature", 300, correct="gfn2") == 0
    assert (whole / "h.extxyz").read_bytes() == (tmp_path / "h.extxyz").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--correct CALCULATOR is missing"),
        (["--correct", "nonsense"], "unknown --correct 'nonsense'"),
        (["--correct", "gfn2", "--temperature", "0"], "--temperature must be above zero"),
        (["--correct", "gfn2", "--smiles", "CCO"], "give one molecule"),
        (["--correct", "gfn2", "--harvest", "h.h5"], "should end in .extxyz"),
        (["--correct", "gfn2", "--restart", "s.dcd"], "named for two files"),
        (["--resume", "none.restart"], "cannot be changed"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(tmp_path, monkeypatch, capsys, options, said) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(ETHANOL), "-o", "s.dcd", *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())
