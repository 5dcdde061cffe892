"""Generation of reference data: physics of a burst, kills, resumption, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule as ase_molecule
from conftest import ROOT

from ase_atom.errors import ConfigError, DataError
from ase_atom.units import AMU_A2_FS2_IN_EV, KB
from training.data.burst import Burst
from training.data.molecules import from_smiles, from_structure
from training.data.store import fingerprint, read_bursts, write_burst
from training.engines.factory import get_engine
from training.generate import main
from training.generation.campaign import run_campaign
from training.generation.dynamics import Settings, burst_seed, run_burst

MORSE = "ase.calculators.morse:MorsePotential"
NITROGEN = json.dumps({"epsilon": 9.9, "r0": 1.1, "rho0": 2.96})
FAST = {"engine": MORSE, "engine_options": NITROGEN, "thermalise": 20.0}


def options(folder: Path, *more: str) -> list[str]:
    return [
        *("--smiles", "N#N", "--name", "nitrogen", "--engine", MORSE),
        *("--engine-options", NITROGEN, "--data", str(folder), "--thermalise", "20"),
        *("--temperatures", "300,500", *more),
    ]


@pytest.fixture(scope="module")
def xtb_burst() -> Burst:
    settings = Settings(duration=30.0, temperatures=(400.0,), thermalise=30.0, relax_steps=10)
    return run_burst(from_smiles("O", "water"), 0, settings)


def test_a_burst_conserves_energy_and_stays_in_place(xtb_burst: Burst) -> None:
    total = xtb_burst.total_energies()
    assert np.ptp(xtb_burst.energies) > 0.01
    assert np.abs(total - total[0]).max() == pytest.approx(xtb_burst.attrs["energy_error_eV"])
    assert xtb_burst.attrs["energy_error_eV"] < 0.02
    momentum = (xtb_burst.masses[:, None] * xtb_burst.velocities).sum(1)
    assert np.abs(momentum).max() < 1e-12
    centre = (xtb_burst.masses[:, None] * xtb_burst.positions).sum(1)
    assert np.abs(centre).max() < 1e-9


def test_a_burst_rotates(xtb_burst: Burst) -> None:
    cross = np.cross(xtb_burst.positions, xtb_burst.velocities)
    momentum = (xtb_burst.masses[:, None] * cross).sum(1)
    assert np.linalg.norm(momentum[0]) > 1e-3
    spread = np.ptp(momentum, axis=0)
    assert np.abs(spread).max() < 1e-3 * np.linalg.norm(momentum[0])


def test_velocities_and_forces_are_derivatives(xtb_burst: Burst) -> None:
    """Central differences over 2 fs err by the third derivative, (ωh)²/6 or 8 % of an O-H mode."""
    x, v, f = xtb_burst.positions, xtb_burst.velocities, xtb_burst.forces
    masses = xtb_burst.masses[:, None] * AMU_A2_FS2_IN_EV
    assert _relative_error((x[2:] - x[:-2]) / 2, v[1:-1]) < 0.08
    assert _relative_error((v[2:] - v[:-2]) / 2, f[1:-1] / masses) < 0.15
    # Fourth order, where the sign and unit of neither could hide.
    assert _relative_error((8 * (x[3:-1] - x[1:-3]) - (x[4:] - x[:-4])) / 12, v[2:-2]) < 0.02


def _relative_error(guess: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(((guess - truth) ** 2).mean() / (truth**2).mean()))


def test_the_origin_is_recorded(xtb_burst: Burst) -> None:
    attrs = xtb_burst.attrs
    assert attrs["theory"] == f"GFN2-xTB (tblite {attrs['version']})"
    assert attrs["ensemble"] == "nve"
    assert attrs["timestep_fs"] == 0.5
    assert xtb_burst.seed == burst_seed(0, "water", 0)
    assert (xtb_burst.smiles, xtb_burst.key) == ("O", "water/00000")
    assert xtb_burst.positions.shape == (31, 3, 3)


def test_langevin_heats_the_interior_and_the_whole_alike() -> None:
    """ASE's ``fixcm=True`` would hold the centre of mass and heat the interior of N₂ twofold."""
    settings = Settings(
        **FAST,
        **{"ensemble": "langevin", "timestep": 1.0, "interval": 10.0, "duration": 3000.0},
        **{"friction": 0.05, "temperatures": (350.0,)},
    )
    burst = run_burst(from_smiles("N#N", "nitrogen"), 0, settings)
    assert burst.attrs["ensemble"] == "langevin"
    assert burst.attrs["friction_per_fs"] == 0.05
    assert burst.interval == 10
    centre = burst.velocities[20:].mean(1)  # the two masses are equal
    whole = AMU_A2_FS2_IN_EV * burst.masses.sum() * (centre**2).mean()
    interior = 2 * burst.kinetic_energies()[20:].mean() / 3 - whole
    # Each a mean of three degrees of freedom over about 200 independent samples: 6 % each.
    assert whole / KB == pytest.approx(350, rel=0.2)
    assert interior / KB == pytest.approx(350, rel=0.2)


def test_bursts_depend_on_nothing_but_their_index(tmp_path: Path) -> None:
    molecule, settings = from_smiles("N#N", "nitrogen"), Settings(**FAST, duration=5.0)
    alone = run_burst(molecule, 3, settings)
    outcome = run_campaign(tmp_path, [molecule], settings, 4, 2, lambda *_: None)
    assert sorted(outcome.finished) == [f"nitrogen/0000{i}" for i in range(4)]
    bursts = read_bursts(tmp_path / "nitrogen.h5")
    assert bursts[3].checksum() == alone.checksum()
    assert len({burst.seed for burst in bursts}) == 4
    assert [burst.temperature_K for burst in bursts] == [300, 400, 500, 300]
    assert run_burst(molecule, 3, settings.model_copy(update={"seed": 1})).seed != alone.seed


def test_killed_generation_resumes_to_the_same_data(tmp_path: Path) -> None:
    """Kill a run for real, damage a part, run it again; compare with a run left alone."""
    count, lengths = 8, ("--duration", "150", "--workers", "2", "--bursts", "8")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "training.generate", *options(killed, *lengths)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    parts = killed / "nitrogen.bursts"
    deadline = time.monotonic() + 200
    while len(list(parts.glob("[!.]*.h5"))) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run made no bursts"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    survivors = sorted(parts.glob("[!.]*.h5"))
    assert 2 <= len(survivors) < count, "it was killed too late to test anything"
    assert not (killed / "nitrogen.h5").exists()
    survivors[0].write_bytes(survivors[0].read_bytes()[:-500])

    resumed = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert resumed.returncode == 0, resumed.stderr
    there = len(survivors) - 1
    assert f"[{there}/{count}] {count - there} to make, {there} are there" in resumed.stderr
    settings = Settings(**FAST, duration=150.0, temperatures=(300.0, 500.0))
    run_campaign(whole, [from_smiles("N#N", "nitrogen")], settings, count, 1, lambda *_: None)
    assert fingerprint(killed / "nitrogen.h5") == fingerprint(whole / "nitrogen.h5")
    assert not parts.exists()


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_termination_stops_cleanly(tmp_path: Path) -> None:
    more = ("--duration", "150", "--bursts", "200", "--workers", "1")
    command = [sys.executable, "-m", "training.generate", *options(tmp_path, *more)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    parts = tmp_path / "nitrogen.bursts"
    while not list(parts.glob("[!.]*.h5")):
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(ConfigError, match="another run"):
        run_campaign(
            tmp_path,
            [from_smiles("N#N", "nitrogen")],
            Settings(**FAST, duration=150.0, temperatures=(300.0, 500.0)),
            *(200, 1, lambda *_: None),
        )
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on" in error
    assert "Traceback" not in error
    assert read_bursts(parts)


def test_more_bursts_extend_and_other_settings_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--duration", "4", "--bursts")
    assert main(options(tmp_path, *short, "1")) == 0
    first = read_bursts(tmp_path / "nitrogen.h5")[0].checksum()
    assert main(options(tmp_path, *short, "2")) == 0
    bursts = read_bursts(tmp_path / "nitrogen.h5")
    assert len(bursts) == 2
    assert bursts[0].checksum() == first
    before = (tmp_path / "nitrogen.h5").read_bytes()
    capsys.readouterr()
    assert main(options(tmp_path, *short, "3", "--timestep", "0.25")) == 2
    error = capsys.readouterr().err
    assert "timestep was 0.5 and is now 0.25" in error
    assert len(error.strip().splitlines()) == 1
    assert (tmp_path / "nitrogen.h5").read_bytes() == before


def test_one_failure_does_not_stop_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ethanol is far outside a potential that knows no carbon; nitrogen is inside."""
    arguments = options(tmp_path, "--duration", "4", "--bursts", "1")
    assert main([*arguments, "--smiles", "CC", "--name", "ethane"]) == 1
    error = capsys.readouterr().err
    assert "failed: ethane/00000: " in error
    assert len(read_bursts(tmp_path / "nitrogen.h5")) == 1
    assert not (tmp_path / "ethane.h5").exists()


def test_a_burst_that_gains_energy_is_not_kept() -> None:
    settings = Settings(**FAST, duration=60.0, timestep=3.0, interval=3.0, max_energy_error=1e-4)
    with pytest.raises(DataError, match="total energy strays"):
        run_burst(from_smiles("N#N", "nitrogen"), 0, settings)


def test_structure_files_give_the_starts(tmp_path: Path) -> None:
    path = tmp_path / "water.xyz"
    ase.io.write(path, ase_molecule("H2O"))
    water = from_structure(path)
    assert (water.name, water.smiles) == ("water", "O")
    assert water.bonds().tolist() == [[0, 1], [0, 2]]
    np.testing.assert_allclose(
        water.start(5, 0).positions, ase_molecule("H2O").positions, atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--smiles"),
        (["--smiles", "C(("], "SMILES"),
        (["--smiles", "[Na+].[Cl-]"], "2 molecules"),
        (["--smiles", "C[NH3+]"], "total charge of +1"),
        (["--smiles", "[CH3]"], "unpaired"),
        (["--smiles", "[2H]O"], "isotope"),
        (["--smiles", "CC", "--name", "a", "--name", "b"], "2 names"),
        (["--smiles", "CC", "--smiles", "CC"], "two molecules"),
        (["--smiles", "CC", "--name", "a/b"], "cannot name"),
        (["--smiles", "CC", "--engine", "gfn7"], "unknown engine"),
        (["--smiles", "CC", "--engine", "ase.calculators.emt:Nothing"], "Nothing"),
        (["--smiles", "CC", "--engine-options", "{"], "JSON"),
        (["--smiles", "CC", "--engine-options", '{"acuracy": 1}'], "no option 'acuracy'"),
        (["--smiles", "CC", "--engine-options", "[]"], 'such as {"accuracy": 1.0}'),
        (["--smiles", "CC", "--temperatures=-300"], "--temperatures: input should be greater"),
        (["--smiles", "CC", "--temperatures", "warm"], "--temperatures"),
        (["--smiles", "CC", "--ensemble", "npt"], "--ensemble"),
        (["--smiles", "CC", "--timestep", "0.3"], "no multiple"),
        (["--smiles", "CC", "--bursts", "0"], "--bursts"),
        (["--structure", "missing.xyz"], "no such file"),
        (["export", "missing", "-o", "x.npz", "--format", "md17"], "no reference data"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ASE_ATOM_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("engine", "given", "option"),
    [
        ("gfn2", {"charge": 1, "multiplicity": 2}, "charge=1"),
        ("gfn1", {"multiplicity": 3}, "multiplicity=3"),
        ("pyscf:pbe/sto-3g", {"charge": -1}, "charge=-1"),
        ("pyscf:pbe/sto-3g", {"spin": 2}, "spin=2"),
        (MORSE, {"Mult": 2}, "Mult=2"),
        (MORSE, {"uhf": 1}, "uhf=1"),
        (MORSE, {"dft": {"magmom": 1.0}}, "magmom=1.0"),
    ],
)
def test_ions_and_open_shells_are_no_engine_option(
    engine: str,
    given: dict[str, object],
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--smiles", "CO", "--engine", engine, "--engine-options", json.dumps(given)]
    assert main([*arguments, "--data", str(tmp_path / "data")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"engine option {option}: only neutral closed-shell molecules" in line
    assert not (tmp_path / "data").exists()


def test_options_that_say_neutral_and_closed_shell_are_taken() -> None:
    get_engine("gfn2", '{"charge": 0, "multiplicity": 1}')
    get_engine("gfn2", '{"charge": null, "multiplicity": null}')


def test_export_command(tmp_path: Path, xtb_burst: Burst) -> None:
    write_burst(tmp_path / "water.h5", xtb_burst)
    output = tmp_path / "water.npz"
    data = str(tmp_path / "water.h5")
    assert main(["export", data, "--format", "md17", "--output", str(output)]) == 0
    with np.load(output) as exported:
        np.testing.assert_array_equal(exported["R"], xtb_burst.positions)


def test_density_functional_forces_are_the_gradient() -> None:
    pytest.importorskip("pyscf")
    from training.engines.dft import DensityFunctional

    atoms = ase_molecule("H2")
    atoms.calc = DensityFunctional("pbe", "sto-3g", grid_level=1)
    atoms.set_distance(0, 1, 0.8, fix=0)
    force = atoms.get_forces()[1]
    energies = []
    for step in (1e-3, -1e-3):
        moved = atoms.copy()
        moved.positions[1] += step * np.array([0.0, 0.0, 1.0])
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    assert -(energies[0] - energies[1]) / 2e-3 == pytest.approx(force[2], abs=1e-3)
    assert abs(force[2]) > 0.5
