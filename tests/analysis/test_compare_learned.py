"""Which runs of a reference an operator has learned from: by content, or by name with a word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_card
from harmonic_bursts import water_bursts

from ase_atom.analysis import Trajectory, load_trajectory
from ase_atom.analysis.inputs.learned import unseen
from ase_atom.errors import ConfigError
from ase_atom.io import open_trajectory
from ase_atom.operator import OperatorCard
from ase_atom.operator.fingerprints import frame_fingerprints
from training.data.store import Burst, fingerprint, write_bursts
from training.learning.card import make_card as trained_card
from training.learning.config import TrainingConfig
from training.learning.folder import RunFolder
from training.learning.reference import load_reference

TAUGHT = [f"water/{k:05d}" for k in (0, 1, 3)]
HELD = ["water/00002"]


class Operator:
    """As much of one as is asked for."""

    def __init__(self, card: OperatorCard | None) -> None:
        self.card = card


def by_name(path: Path, **changes: object) -> Operator:
    """One whose card knows names and the fingerprint of the data."""
    facts = {
        "split": {"train": TAUGHT, "validation": HELD},
        "data_fingerprint": fingerprint(path),
        "level_of_theory": "springs",
    }
    return Operator(make_card(**(facts | changes)))


def by_content(bursts: list[Burst]) -> Operator:
    """One whose card knows what it has learned from."""
    marks = [frame_fingerprints(b.numbers, b.positions[[30]])[0] for b in bursts if b.key in TAUGHT]
    return Operator(make_card(split={"train": TAUGHT}, training_frames=marks))


def notes(found: Trajectory) -> str:
    return "; ".join(found.notes)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "water.h5"
    write_bursts(path, water_bursts(4))
    return path


def test_a_card_of_training_knows_its_bursts_under_any_name(tmp_path: Path) -> None:
    write_bursts(tmp_path / "water.h5", water_bursts(4, 120))
    data = {"paths": [str(tmp_path / "water.h5")], "validation": 0.25}
    config = TrainingConfig(name="springs", data=data)
    reference = load_reference(config, RunFolder(tmp_path / "run"))
    card = trained_card(config, reference, "none")
    taught = {int(key[-5:]) for key in card.split["train"]}
    others = [
        replace(burst, key=f"mine/{5 + k:05d}") for k, burst in enumerate(water_bursts(6, 120))
    ]
    write_bursts(tmp_path / "others.h5", others)
    rest = unseen(load_trajectory(tmp_path / "others.h5"), Operator(card))
    assert [run.key for run in rest] == [b.key for k, b in enumerate(others) if k not in taught]
    assert f"{len(taught)} of its runs, from which {card.name} has learned" in notes(rest)


@pytest.mark.parametrize("ending", [".dcd", ".extxyz", ".npz"])
def test_learned_bursts_are_known_in_plain_files(tmp_path: Path, ending: str) -> None:
    bursts = water_bursts(4)
    operator = by_content(bursts)
    for k, burst in enumerate(bursts):
        path = tmp_path / f"runs/{k}{ending}"
        path.parent.mkdir(exist_ok=True)
        if ending == ".npz":
            np.savez(path, numbers=burst.numbers, positions=burst.positions)
            continue
        atoms = Trajectory.from_arrays(burst.numbers, burst.positions).atoms()
        with open_trajectory(path, atoms) as writer:
            writer.write_frames(burst.positions + 0.3, burst.velocities, burst.times)
    rest = unseen(load_trajectory(tmp_path / "runs"), operator)
    assert [Path(run.name).name for run in rest] == [f"2{ending}"]
    with pytest.raises(ConfigError, match="learned from every run of 0"):
        unseen(load_trajectory(tmp_path / f"runs/0{ending}"), operator)


def test_other_data_of_the_same_names_are_kept(tmp_path: Path) -> None:
    operator = by_content(water_bursts(4))
    others = [replace(b, key=f"water/{k:05d}") for k, b in enumerate(water_bursts(8)[4:])]
    write_bursts(tmp_path / "mine.h5", others)
    found = unseen(load_trajectory(tmp_path / "mine.h5"), operator)
    assert len(found.segments) == 4
    assert "none of its runs holds a frame that tiny is known to have learned from" in notes(found)


@pytest.mark.parametrize("temperature", [None, 300.0])
def test_names_are_certain_where_the_data_are_those_of_the_card(data, temperature) -> None:
    rest = unseen(load_trajectory(data, temperature=temperature), by_name(data))
    assert [run.key for run in rest] == HELD
    assert "of its runs, from which tiny has learned, were left out" in notes(rest)
    assert "name" not in notes(rest)
    with pytest.raises(ConfigError, match="tiny has learned from every run"):
        unseen(load_trajectory(data, temperature=500.0), by_name(data))


def test_names_alone_are_said_to_be_names_alone(data, tmp_path) -> None:
    operator = by_name(data)
    write_bursts(tmp_path / "part.h5", [b for b in water_bursts(6) if b.key != TAUGHT[0]])
    rest = unseen(load_trajectory(tmp_path / "part.h5"), operator)
    assert [run.key[-1] for run in rest] == ["2", "4", "5"]
    assert "2 of its runs were left out for their names" in notes(rest)
    assert "has learned from 2 of its 5 runs, in another file or under other" in notes(rest)
    write_bursts(tmp_path / "one.h5", water_bursts(1))
    with pytest.raises(
        ConfigError, match=r"bears the name .* or rename these if they are other runs"
    ):
        unseen(load_trajectory(tmp_path / "one.h5"), operator)


def test_another_level_of_theory_is_not_what_was_learned(data, tmp_path) -> None:
    mine = [replace(b, attrs=b.attrs | {"theory": "mine"}) for b in water_bursts(4)]
    write_bursts(tmp_path / "mine.h5", mine)
    found = unseen(load_trajectory(tmp_path / "mine.h5"), by_name(data))
    assert len(found.segments) == 4
    assert "3 of its runs have names of bursts" in notes(found)
    assert "are of another level of theory, and were kept" in notes(found)


def test_what_is_not_known_is_said(data) -> None:
    reference = load_trajectory(data)
    plain = replace(reference, segments=tuple(replace(r, key="", theory="") for r in reference))
    assert "from 4 of its 4 runs" in notes(unseen(plain, by_name(data)))
    for operator in (Operator(None), by_name(data, split={})):
        found = unseen(reference, operator)
        assert len(found.segments) == 4
        assert "has learned from its runs is not known" in notes(found)
