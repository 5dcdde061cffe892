"""``ase-atom run`` with a stride of picoseconds."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read
from leaping import leaping_ethanol

from ase_atom.cli import main
from ase_atom.operator import save_operator


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaps")
    molecule("CH3CH2OH").write(folder / "ethanol.xyz")
    save_operator(leaping_ethanol(), folder / "leaps.safetensors")
    return folder


def run(files, *arguments):
    line = [str(files / "ethanol.xyz"), "--operator", str(files / "leaps.safetensors")]
    return main(["run", *line, *map(str, arguments)])


def test_a_run_is_logged_summed_up_and_goes_on(files, tmp_path, capsys):
    common = ("--stride", "1ps", "--replicas", 2, "--equilibration", "300fs")
    assert run(files, "-o", tmp_path / "whole.traj", "--time", "4ps", *common) in (0, 4)
    said = "".join(capsys.readouterr())
    assert "leaps of 1 ps" in said
    assert "8 kept, 0 drawn again" in said
    records = ("--log", tmp_path / "part.csv", "--restart", tmp_path / "part.restart")
    assert run(files, "-o", tmp_path / "part.traj", "--time", "2ps", *records, *common) in (0, 4)
    assert main(["run", "--resume", str(tmp_path / "part.restart"), "--time", "4ps"]) in (0, 4)
    for replica in range(2):
        one, other = (
            np.array([atoms.positions for atoms in read(tmp_path / f"{name}-{replica}.traj", ":")])
            for name in ("whole", "part")
        )
        assert np.array_equal(one, other)
    rows = list(csv.DictReader((tmp_path / "part.csv").read_text().splitlines()))
    assert len(rows) == 10
    assert [row["redrawn"] for row in rows] == [""] * 2 + ["0"] * 8
    assert all(float(row["raw_potential_eV"]) < 0 for row in rows[2:])
    record = json.loads((tmp_path / "part.json").read_text())
    assert record["leaps"]["kept"] == 8


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--stride", "4ps", "--frame-interval", "1ps"), "4 ps fits"),
        (("--stride", "4ps", "--frame-interval", "16fs"), "4 ps fits"),
        (("--stride", "4ps", "--ensemble", "nve"), "Langevin"),
        (("--stride", "4ps", "--ensemble", "bussi"), "Langevin"),
        (("--stride", "4ps", "--friction", "5"), "10 per ps, not 5"),
        (("--stride", "4ps", "--temperature", "700"), "300 to 500 K"),
        (("--stride", "20ps"), "500 fs to 16 ps"),
        (("--stride", "100fs"), "leap of at least 0.5 ps"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(files, tmp_path, capsys, arguments, named):
    assert run(files, "-o", tmp_path / "a.xtc", "--time", "40ps", *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert named in said
    assert "\n" not in said
    assert not any(tmp_path.iterdir())


def test_bursts_begin_at_the_samples_and_come_again_where_a_run_goes_on(files, tmp_path, capsys):
    records = ("--restart", tmp_path / "a.restart", "--restart-interval", 1)
    common = ("--stride", "1ps", "--burst", "48fs", "--replicas", 2, "--equilibration", "300fs")
    assert run(files, "-o", tmp_path / "a.traj", "--time", "2ps", *records, *common) in (0, 4)
    assert "4 bursts of 48 fs" in capsys.readouterr().err
    samples = [read(tmp_path / f"a-{replica}.traj", ":") for replica in range(2)]
    found = sorted((tmp_path / "a-0-bursts").glob("*.traj"))
    assert [file.stem for file in found] == [
        f"a-{replica}-{leap:07d}" for replica in range(2) for leap in (1, 2)
    ]
    for file in found:
        replica, leap = (int(part) for part in file.stem.split("-")[1:])
        burst = read(file, ":")
        assert len(burst) == 4
        assert np.abs(burst[0].positions - samples[replica][leap].positions).max() < 1e-9
        moved = np.abs(burst[-1].positions - burst[0].positions).max()
        assert 0.01 < moved < 1.0
    assert main(["run", "--resume", str(tmp_path / "a.restart"), "--time", "3ps"]) in (0, 4)
    third = read(tmp_path / "a-0-bursts" / "a-0-0000003.traj", ":")
    whole = ("-o", tmp_path / "b.traj", "--time", "3ps", *common)
    assert run(files, *whole) in (0, 4)
    again = read(tmp_path / "b-0-bursts" / "b-0-0000003.traj", ":")
    assert len(third) == len(again) == 4
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(third, again, strict=True))
    capsys.readouterr()
    for replica in range(2):
        (tmp_path / f"b-{replica}.traj").unlink()
    assert run(files, *whole) == 2
    assert "holds bursts of another run: --overwrite replaces them" in capsys.readouterr().err
    kept = tmp_path / "b-0-bursts" / "notes.txt"
    kept.write_text("mine")
    shorter = ("-o", tmp_path / "b.traj", "--time", "1ps", "--overwrite", *common)
    assert run(files, *shorter) in (0, 4)
    assert sorted(file.name for file in kept.parent.iterdir()) == [
        "b-0-0000001.traj",
        "b-1-0000001.traj",
        "notes.txt",
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--stride", "16fs", "--burst", "100fs"), "--burst 100 fs goes with leaps"),
        (("--burst", "100fs"), "--burst 100 fs goes with leaps"),
        (("--stride", "1ps", "--burst", "2ps"), "to a leap of 1 ps long"),
        (("--stride", "1ps", "--burst", "1fs"), "from a jump of 16 fs"),
        (("--stride", "1ps", "--burst", "long"), "is not a time"),
    ],
)
def test_bursts_that_cannot_be_are_refused(files, tmp_path, capsys, arguments, named):
    assert run(files, "-o", tmp_path / "a.xtc", "--time", "4ps", *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert named in said
    assert "\n" not in said
    assert not any(tmp_path.iterdir())


def test_operators_say_what_leaps_they_have(capsys):
    assert main(["operators", "--json"]) == 0
    found = {card["name"]: card["leaps"] for card in json.loads(capsys.readouterr().out)}
    assert found["ethanol-gfn2"]["lags_fs"] == [500.0, 16000.0]
    assert found["ethanol-pbe"] is None
    assert main(["operators"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "500 fs to 16 ps, 300 to 500 K, friction 10 per ps, CCO" in said
    assert "500 fs to 8 ps, 300 to 450 K, friction 10 per ps, any molecule" in said
    assert "of up to 14 atoms and charge 0" in said
