"""``ase-atom run --restart`` and ``--resume``: killed and continued, a run is the run it was."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
from killed_runs import ETHANOL, command, differences, try_one

from ase_atom import load_operator
from ase_atom.cli import main
from ase_atom.cli.keeper import Keeper
from ase_atom.io import read_trajectory
from ase_atom.propagation import Langevin
from ase_atom.state import PhaseState


@pytest.mark.parametrize("ending", ["dcd", "h5", "traj"])
def test_a_killed_run_goes_on_to_the_same_trajectory(tmp_path, ending):
    _, different = try_one(tmp_path, ending, "640fs", random.Random(7), most=2)
    assert different == []


@pytest.mark.parametrize("ending", ["dcd", "xyz"])
def test_a_run_that_is_cut_off_again_while_it_catches_up(tmp_path, ending, monkeypatch):
    """The trajectory is ahead of the restart file twice over, by different numbers of frames."""

    def cut_off(words, blocks, saves):
        lives = {"blocks": 0, "saves": 0}

        def take(keeper, frames):
            whole_take(keeper, frames)
            lives["blocks"] += 1
            if lives["blocks"] == blocks:
                raise KeyboardInterrupt

        def save(keeper):
            lives["saves"] += 1
            if lives["saves"] <= saves:
                whole_save(keeper)

        with monkeypatch.context() as patch:
            patch.setattr(Keeper, "take", take)
            patch.setattr(Keeper, "save", save)
            assert main(words) == 130

    whole_take, whole_save = Keeper.take, Keeper.save
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    assert main(command(tmp_path / "whole", ending, "480fs")) == 0
    again = ["run", "--resume", str(tmp_path / "cut" / "run.restart")]
    cut_off(command(tmp_path / "cut", ending, "480fs"), blocks=16, saves=2)
    cut_off(again, blocks=3, saves=1)
    cut_off(again, blocks=7, saves=1)
    assert main(again) == 0
    assert differences(tmp_path / "cut", tmp_path / "whole", ending) == []


@pytest.mark.parametrize("ending", ["xtc", "trr", "nc", "xyz", "extxyz"])
def test_a_finished_run_is_prolonged_as_if_it_had_been_longer(tmp_path, ending, capsys):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    assert main(command(tmp_path / "whole", ending, "320fs")) == 0
    assert main(command(tmp_path / "cut", ending, "100fs")) == 0
    restart = tmp_path / "cut" / "run.restart"
    assert main(["run", "--resume", str(restart), "--time", "320fs"]) == 0
    assert "wall time" in capsys.readouterr().out
    for file in (f"run-0.{ending}", f"run-1.{ending}", "run.csv"):
        one, other = tmp_path / "whole" / file, tmp_path / "cut" / file
        if ending == "nc" and not file.endswith("csv"):
            with read_trajectory(one) as left, read_trajectory(other) as right:
                for x, y in zip(left, right, strict=True):
                    np.testing.assert_array_equal(x.positions, y.positions)
                    np.testing.assert_array_equal(x.times, y.times)
        else:
            assert one.read_bytes() == other.read_bytes()


def test_a_run_by_steps_goes_on_by_steps(tmp_path, capsys):
    steps = ["--timestep", "1fs", "--ensemble", "nve", "--operator", "organic-wb97m"]
    for name, time in (("whole", "160fs"), ("cut", "50fs")):
        (tmp_path / name).mkdir()
        words = command(tmp_path / name, "dcd", time, *steps)
        # Replicas at constant energy must not start alike.
        words[words.index("--no-equilibration")] = "--equilibration=16fs"
        assert main(words) == 0
    assert "in steps by its forces of 1 fs, NVE" in capsys.readouterr().err
    restart = tmp_path / "cut" / "run.restart"
    assert main(["run", "--resume", str(restart), "--time", "160fs"]) == 0
    for file in ("run-0.dcd", "run-1.dcd"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert record["operator"]["timestep_fs"] == 1.0
    assert record["ensemble"] == "NVE(energy_correction=False, reversible=False)"
    with (tmp_path / "whole" / "run.csv").open() as file:
        total = [float(row["total_eV"]) for row in csv.DictReader(file)]
    for replica in (total[0::2], total[1::2]):
        assert 0 < np.ptp(replica) < 0.05


def test_a_run_and_its_files_can_be_moved(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    monkeypatch.chdir(first)
    assert main(command(Path(), "dcd", "100fs")) == 0
    first.rename(second)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--resume", "second/run.restart", "--time", "200fs"]) == 0
    with read_trajectory(second / "run-0.dcd") as frames:
        assert len(frames) == 21


# -- log and record --------------------------------------------------------------------------------


def test_the_log_tells_energies_and_temperatures(tmp_path):
    assert main(command(tmp_path, "extxyz", "160fs")) == 0
    with (tmp_path / "run.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trajectory"] for row in rows[:2]] == ["run-0.extxyz", "run-1.extxyz"]
    assert [float(row["time_fs"]) for row in rows[::2]] == [10.0 * n for n in range(17)]
    operator = load_operator("ethanol-gfn2")
    for replica in range(2):
        with read_trajectory(tmp_path / f"run-{replica}.extxyz") as reader:
            (block,) = reader
            atoms = reader.atoms
        for frame, row in enumerate(rows[replica::2]):
            atoms.positions = block.positions[frame]
            state = PhaseState.from_atoms(atoms)
            potential = float(operator.energy(state)[0])
            kinetic = 103.6427 * 0.5 * (atoms.get_masses() @ (block.velocities[frame] ** 2).sum(1))
            assert float(row["potential_eV"]) == pytest.approx(potential, abs=2e-4)
            assert block.energies[frame] == pytest.approx(potential, abs=2e-4)
            assert float(row["kinetic_eV"]) == pytest.approx(kinetic, abs=1e-4)
            total = float(row["potential_eV"]) + float(row["kinetic_eV"])
            assert float(row["total_eV"]) == pytest.approx(total, abs=2e-6)
            kelvin = 2 * kinetic / (24 * 8.617333e-5)
            assert float(row["temperature_K"]) == pytest.approx(kelvin, abs=0.1)


def test_the_record_tells_what_was_run(tmp_path):
    assert main([*command(tmp_path, "dcd", "160fs"), "--seed", "5"]) == 0
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["state"], record["exit_code"], record["seed"]) == ("done", 0, 5)
    assert record["operator"]["fingerprint"] == load_operator("ethanol-gfn2").fingerprint
    assert record["operator"]["engine"] in ("onnx", "torch")
    assert record["ensemble"] == repr(Langevin())
    assert record["time_fs"] == 160.0
    assert record["frames"] == 17
    (molecule,) = record["molecules"]
    assert molecule["degrees_of_freedom"] == 24
    assert 100 < molecule["temperature_K"]["mean"] < 600
    assert {"ase-atom", "torch", "python"} <= set(record["versions"])


# -- refusals --------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path):
    assert main(command(tmp_path, "dcd", "100fs")) == 0
    return tmp_path


def refused(capsys, *words) -> str:
    capsys.readouterr()
    assert main(["run", *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_settings_of_a_run_that_goes_on_cannot_change(finished, capsys):
    restart = finished / "run.restart"
    for words, named in (
        (["--temperature", "310"], "--temperature cannot be changed"),
        (["--replicas", "2"], "--replicas cannot be changed"),
        ([str(ETHANOL)], "the structures cannot be changed"),
        (["--time", "50fs"], "is shorter than the 100 fs"),
    ):
        assert named in refused(capsys, "--resume", restart, *words)


def test_lost_trajectories_and_restart_files_are_one_line(finished, capsys):
    restart, file = finished / "run.restart", finished / "run-0.dcd"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    line = refused(capsys, "--resume", restart, "--time", "200fs")
    assert "run-0.dcd holds" in line
    assert "of the 11" in line
    file.unlink()
    assert "run-0.dcd" in refused(capsys, "--resume", restart, "--time", "200fs")
    file.write_bytes(whole)
    log = finished / "run.csv"
    kept = log.read_bytes()
    log.write_bytes(kept[:40])
    assert "run.csv is shorter" in refused(capsys, "--resume", restart, "--time", "200fs")
    log.write_bytes(b"somebody's notes " * 1000)
    assert "run.csv is no log" in refused(capsys, "--resume", restart, "--time", "200fs")
    assert log.read_bytes() == b"somebody's notes " * 1000
    log.write_bytes(kept)
    content = restart.read_bytes()
    for damaged in (b"", content[:50], content[: len(content) // 2], b"\0" * 200):
        restart.write_bytes(damaged)
        assert "run.restart" in refused(capsys, "--resume", restart)
    assert "missing.restart" in refused(capsys, "--resume", finished / "missing.restart")
    assert file.read_bytes() == whole


def test_outputs_do_not_get_in_each_others_way(finished, capsys):
    start = [str(ETHANOL), "--output", str(finished / "new.dcd"), "--time", "100fs"]
    for words, named in (
        (["--restart", finished / "run.restart"], "exists and is kept"),
        (["--log", finished / "run.csv"], "exists and is kept"),
        (["--log", finished / "new.dcd"], "two files of the run"),
        (["--restart", finished / "new.pdb"], "two files of the run"),
        (["--restart", finished / "none" / "run.restart"], "does not exist"),
        (["--restart-interval", "0"], "--restart-interval must be at least 1"),
    ):
        assert named in refused(capsys, *start, *words)
    assert not (finished / "new.dcd").exists()


def test_an_operator_that_changed_is_refused(finished, capsys, tiny_operator, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    restart = finished / "run.restart"
    with safe_open(restart, framework="pt") as file:
        facts = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = json.loads(facts["state"])
    state["operator"]["fingerprint"] = "0" * 64
    save_file(tensors, restart, {**facts, "state": json.dumps(state)})
    line = refused(capsys, "--resume", restart, "--time", "200fs")
    assert "is not the operator that the run" in line
