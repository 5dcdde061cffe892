"""Infrared absorption: lines where they belong, with the intensity of a harmonic oscillator."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes

from ase_atom.analysis import Trajectory
from ase_atom.analysis.infrared import infrared
from ase_atom.analysis.measures.infrared import with_dipoles
from ase_atom.analysis.measures.spectra import SPEED_OF_LIGHT
from ase_atom.cli import main
from ase_atom.cli.spectrum import TEMPERATURE
from ase_atom.errors import ConfigError, DataError
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

LINE = 1800.0  # cm⁻¹
CHARGE = 0.3  # e
KELVIN = 250.0


class Charges(Calculator):
    """Fixed charges on the two atoms."""

    implemented_properties: ClassVar[list[str]] = ["energy", "dipole"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        apart = self.atoms.positions[0] - self.atoms.positions[1]
        if np.linalg.norm(apart) > 2.0:
            raise RuntimeError("the bond is broken")
        self.results = {"energy": 0.0, "dipole": CHARGE * apart}


class Blind(Calculator):
    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]


def oscillator(interval: float, frames: int, kelvin: float = KELVIN) -> Trajectory:
    """Return CO that vibrates with the mean energy of a classical oscillator at a temperature."""
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])
    first, second = masses = atoms.get_masses()
    reduced = first * second / (first + second)
    omega = 2 * np.pi * SPEED_OF_LIGHT * LINE
    amplitude = np.sqrt(2 * KB * kelvin / (AMU_A2_FS2_IN_EV * reduced)) / omega
    swing = np.zeros((2, 3))
    swing[:, 2] = amplitude * reduced / masses * np.array([-1, 1])
    times = interval * np.arange(frames)
    x = atoms.positions + np.sin(omega * times)[:, None, None] * swing
    v = omega * np.cos(omega * times)[:, None, None] * swing
    return Trajectory.from_arrays(atoms.numbers, x, v, times, name="co")


def intensity() -> float:
    """N_A |∂M/∂Q|² / (12 ε₀ c²) of the fixed charges, km/mol."""
    first, second = Atoms("CO").get_masses() * units._amu
    slope = (CHARGE * units._e) ** 2 * (first + second) / (first * second)  # C²/kg
    return units._Nav * slope / (12 * units._eps0 * units._c**2) / 1000


@pytest.mark.parametrize("interval", [0.5, 2.0, 4.0])
def test_the_area_of_a_line_is_the_intensity_of_its_normal_mode(interval) -> None:
    made = with_dipoles(oscillator(interval, round(8000 / interval)), Charges())
    found = infrared(made, KELVIN)
    peak = found.wavenumbers[found.absorption.argmax()]
    assert peak == pytest.approx(LINE, abs=1.5)
    near = abs(found.wavenumbers - LINE) < 60
    assert found.absorption[near].sum() == pytest.approx(intensity(), rel=0.02)
    above = found.wavenumbers[found.absorption > 0.5 * found.absorption.max()]
    assert np.ptp(above) == pytest.approx(found.resolution, rel=0.1)
    assert [round(band.position) for band in found.bands] == [round(LINE)]


def test_what_has_no_infrared_spectrum() -> None:
    with pytest.raises(DataError, match="holds no dipoles"):
        infrared(oscillator(1.0, 3000), KELVIN)
    with pytest.raises(DataError, match=r"above 1042 cm⁻¹ fold onto"):
        infrared(with_dipoles(oscillator(16.0, 300), Charges()), KELVIN)
    with pytest.raises(ConfigError, match="that of blind has none"):
        with_dipoles(oscillator(1.0, 300), Blind(), "blind")
    with pytest.raises(DataError, match=r"charges failed at frame \d+ of co 0 \(the bond is brok"):
        with_dipoles(oscillator(1.0, 300, 3e6), Charges(), "charges")


def test_absorption_from_the_command_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    run = oscillator(2.0, 2000).segments[0]
    arrays = {"positions": run.positions, "velocities": run.velocities, "times": run.times}
    np.savez("co.npz", numbers=[6, 8], **arrays)
    Path("co.json").write_text('{"ensemble": "Langevin(temperature_K=300, friction=0.01)"}')
    words = ["spectrum", "co.npz", "--dipoles", f"{__name__}:Charges"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "broadens lines by 53 cm⁻¹: --ensemble nve does not" in said.err
    # One mode of three: a third of the frames' own temperature.
    assert f"{KELVIN / 3:.0f} K, of the frames; harmonic quantum correction" in said.out
    assert "1800 cm⁻¹" in said.out
    with open("co-infrared.csv") as file:
        rows = list(csv.DictReader(file))
    values = [float(row["absorption_km_per_mol_per_cm-1"]) for row in rows]
    assert sum(values[1740:1860]) == pytest.approx(3 * intensity(), rel=0.03)
    # Dipoles are kept, so that another window needs no calculator.
    again = ["spectrum", "co-infrared.npz", "--dipoles", "file", "--temperature", str(KELVIN)]
    assert main([*again, "-o", "again.png", "--window", "1ps", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bands_cm-1"] == [pytest.approx(LINE, abs=2)]
    assert (facts["window_fs"], facts["temperature_K"]) == (1000.0, KELVIN)
    assert main(words) == 2
    assert "co-infrared.png" in capsys.readouterr().err
    np.savez("still.npz", numbers=[6, 8], positions=run.positions, times=run.times)
    for kelvin in (TEMPERATURE, 321.0):
        assert main(["spectrum", "still.npz", *words[2:], "--json", "--overwrite"]) == 0
        assert json.loads(capsys.readouterr().out)["temperature_K"] == kelvin
        record = {"molecules": [{"temperature_K": {"mean": 321.0}}]}
        Path("still.json").write_text(json.dumps(record))
    for more, wrong in (
        (["--dipoles", "nothing"], "unknown --dipoles 'nothing'"),
        (["--dipoles", "file"], "holds no dipoles"),
        (["--dipoles", "gfn2", "--temperature", "-1"], "--temperature must be above zero"),
        (["--temperature", "300"], "goes with --dipoles"),
    ):
        assert main(["spectrum", "co.npz", "-o", "new.png", *more]) == 2
        assert wrong in capsys.readouterr().err
        assert not Path("new.png").exists()
