"""Looks at the expected error during a run: where they are, what they come to, what is said."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import read
from conftest import ETHANOL

from ase_atom.cli import main
from ase_atom.operator import OperatorBase
from ase_atom.propagation import Frames
from ase_atom.propagation.depth import JUMPS, DepthWatch
from ase_atom.state import PhaseState


class Candid(OperatorBase):
    """Expects of each jump the error that the first atom's x coordinate says."""

    horizon = 64.0

    @property
    def error_estimate(self):
        return lambda state, stride: state.positions[:, 0, 0]


def frames_of(errors: np.ndarray, interval: float = 16.0) -> Frames:
    """Frames of replicas ``[B, T]`` whose jumps are to be expected to err by so much."""
    one = PhaseState.from_atoms([molecule("H2O")] * len(errors))
    positions = one.positions[:, None].repeat(1, errors.shape[1], 1, 1)
    positions[:, :, 0, 0] = torch.from_numpy(errors)
    return Frames(
        one.numbers,
        one.masses,
        one.charge,
        interval * torch.arange(errors.shape[1], dtype=torch.float64),
        positions,
        torch.zeros_like(positions),
        torch.from_numpy(np.isfinite(errors)),
    )


def test_looks_become_rarer_as_a_run_becomes_longer() -> None:
    watch = DepthWatch(Candid(), 16.0, 32.0)
    frames = frames_of(np.full((1, 1 + 500 * JUMPS), 0.1), 32.0)
    seen = torch.isfinite(watch.look(frames).expected[0]).nonzero().flatten()
    jumps = 2 * seen
    assert jumps[:32].tolist() == [JUMPS * n for n in range(1, 33)]
    assert not (jumps % JUMPS).any()
    for begin in (32, 64, 128, 256):
        inside = (jumps > begin * JUMPS) & (jumps <= 2 * begin * JUMPS)
        assert inside.sum() == 16


def test_a_run_that_leaves_the_depth_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    jumps = 32 * JUMPS
    calm = 0.08 * np.exp(0.3 * rng.standard_normal((2, jumps + 1)))
    lost = calm.copy()
    lost[:, 3 * jumps // 4 :] *= 5
    lost[1, jumps // 2 :] = np.nan  # a replica that broke
    for errors, leaves in ((calm, False), (lost, True)):
        watch = DepthWatch(Candid(), 16.0, 16.0)
        frames = frames_of(errors)
        watch.look(frames.part(0, jumps // 3))
        again = DepthWatch(Candid(), 16.0, 16.0)  # as after an interruption
        again.load_state_dict(watch.state_dict())
        again.look(frames.part(jumps // 3, jumps + 1))
        course = again.course([0, 1])
        assert course.looks == 32
        assert len(course.parts) == 4
        every = errors[:, JUMPS::JUMPS]
        assert course.error == pytest.approx(float(np.sqrt(np.nanmean(every**2))))
        assert (course.warning() is not None) == leaves
    begin, end, error = course.worst
    assert (begin, end) == (16.0 * jumps * 3 / 4, 16.0 * jumps)
    assert error == pytest.approx(0.42, rel=0.2)
    assert "are expected to err by" in course.warning()
    assert again.course([1]).worst[1] < 16.0 * jumps / 2 + 1


def test_a_run_notes_what_was_expected(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", str(ETHANOL), "-o", "e.extxyz", "--log", "e.csv", "--restart", "e.restart"]
    assert main([*words, "--time", "1.2ps", "--no-equilibration", "--temperature", "300"]) == 0
    assert "expected error" in capsys.readouterr().out
    assert main(["run", "--resume", "e.restart", "--time", "4.8ps"]) == 0
    with open("e.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    noted = {
        float(row["time_fs"]): float(row["expected_error"]) for row in rows if row["expected_error"]
    }
    record = json.loads(Path("e.json").read_text())["molecules"][0]["expected_error"]
    assert record["looks"] == len(noted) == 4
    assert record["error"] == pytest.approx(
        np.sqrt(np.mean(np.square([*noted.values()]))), rel=1e-3
    )
    assert 0.005 < record["error"] < 0.1
    frames = {
        atoms.info["time_fs"]: atoms.info.get("expected_error") for atoms in read("e.extxyz", ":")
    }
    assert {time: error for time, error in frames.items() if error is not None} == pytest.approx(
        noted, rel=1e-3
    )
