"""What settling stands for, and the table of leaps beside runs of several molecules."""

from __future__ import annotations

import pytest
from ase.build import molecule
from leaping import leaping_ethanol, untrained_leaps

from ase_atom.operator import load_operator
from training.leap import unseen
from training.leap.judge import Judge
from training.leap.samples import Structure
from training.leap.settling import measured_settling
from training.leap.teacher import Assignment, make_runs

JUMPS = 8


@pytest.fixture(scope="module")
def ethanol():
    return load_operator("ethanol-gfn2", "auto")


@pytest.fixture(scope="module")
def run(ethanol, tmp_path_factory):
    job = Assignment("CCO", [molecule("CH3CH2OH")], 500.0, 16, 3200.0, seed=5)
    return next(iter(make_runs(ethanol, [job], tmp_path_factory.mktemp("runs"))))


def test_settling_at_the_friction_of_the_run_stands_for_its_own_time(ethanol, run):
    card = untrained_leaps(settling_friction=run.friction, settling_jumps=JUMPS).card
    found = measured_settling(ethanol, [run], card, 1024)
    assert found == pytest.approx(16.0 * JUMPS, rel=0.25)


def test_settling_under_stronger_friction_stands_for_less_but_not_for_nothing(ethanol, run):
    strong, stronger = (
        measured_settling(
            ethanol,
            [run],
            untrained_leaps(settling_friction=friction, settling_jumps=JUMPS).card,
            1024,
        )
        for friction in (0.05, 0.5)
    )
    assert 20.0 < stronger < strong < 16.0 * JUMPS


def test_nothing_is_measured_where_nothing_turns(tmp_path):
    operator = load_operator("tg80-gfn2", "auto")
    job = Assignment("N", [molecule("NH3")], 300.0, 2, 640.0, seed=5)
    (run,) = make_runs(operator, [job], tmp_path)
    assert measured_settling(operator, [run], untrained_leaps().card, 8) is None


def test_molecules_are_judged_by_bonds_energies_and_hops(run):
    operator = leaping_ethanol()
    judge = Judge(operator, run, 16, 0)
    found = unseen.judged(judge, 16)
    assert (found.kept, found.redrawn, found.lost) == (16, 0, 0)
    # Leaps that have learned nothing leave molecules nearly as they are.
    assert found.structure.bond[0] < 0.05
    assert {each.name for each in found.hops} == {"H-C-C-O", "C-C-O-H"}
    states = {each.name: each for each in found.hops}
    assert states["C-C-O-H"].ours < states["C-C-O-H"].theirs
    line = unseen.row("CCO", 1024.0, found)
    assert line.startswith("| CCO | 1.024 ps | ")
    assert len(line.split("|")) == len(unseen.HEADER.split("\n")[0].split("|"))


def test_the_summary_counts_torsions_that_hop_as_often_as_in_the_run():
    def verdict(ours: float) -> unseen.Verdict:
        hops = (unseen.Hops("C-C-C-C", ours, 0.4, 0.01, 0.0),)
        shape = Structure((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.01, 0.0))
        return unseen.Verdict(shape, 0.0, 10, 1, 0, hops)

    said = unseen.summary([verdict(each) for each in (0.4, 0.44, 0.2, 0.4)])
    assert "energy +0.010 settled, 4 of 40 drawn again, 0 lost" in said
    assert "4 torsions hop 1.00 times" in said
    assert "75% within" in said


def test_the_summary_of_molecules_that_do_not_turn_says_so():
    shape = Structure((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.01, 0.0))
    said = unseen.summary([unseen.Verdict(shape, 0.0, 10, 1, 0, ())])
    assert said.endswith("1 of 10 drawn again, 0 lost; no torsion hops often enough to be compared")
