"""Units against ASE's and OpenMM's own."""

import numpy as np
import openmm.unit
import pytest
from ase import Atoms
from ase import units as ase_units

from ase_atom import units


def test_velocity_round_trip_and_size():
    # An atom at 1 Å/fs moves 1 Å in one of ASE's femtoseconds.
    v = np.array([1.0, -2.0, 0.5])
    ase_velocity = units.velocities_to_ase(v)
    np.testing.assert_allclose(ase_velocity * ase_units.fs, v, rtol=1e-15)
    np.testing.assert_allclose(units.velocities_from_ase(ase_velocity), v, rtol=1e-15)


def test_energy_unit_against_ase():
    atoms = Atoms("O", positions=[[0, 0, 0]])
    atoms.set_velocities(units.velocities_to_ase(np.array([[0.003, 0.0, -0.004]])))
    mass = atoms.get_masses()[0]
    expected = 0.5 * mass * 0.005**2 * units.AMU_A2_FS2_IN_EV
    assert atoms.get_kinetic_energy() == pytest.approx(expected, rel=1e-12)


def test_energy_unit_against_openmm():
    u = openmm.unit
    energy = 1.0 * u.dalton * u.angstrom**2 / u.femtosecond**2
    per_mole = energy.value_in_unit(u.kilojoule_per_mole)
    electronvolt = 96.48533  # kJ/mol, CODATA
    assert pytest.approx(per_mole / electronvolt, rel=1e-6) == units.AMU_A2_FS2_IN_EV


def test_lengths_and_times_against_openmm():
    u = openmm.unit
    assert units.nm_to_angstrom(0.3) == pytest.approx((0.3 * u.nanometer).value_in_unit(u.angstrom))
    assert units.angstrom_to_nm(3.0) == pytest.approx(0.3)
    assert units.ps_to_fs(0.5) == pytest.approx((0.5 * u.picosecond).value_in_unit(u.femtosecond))
    assert units.fs_to_ps(500.0) == pytest.approx(0.5)


def test_thermal_speed_of_hydrogen():
    # sqrt(k_B T / m) in SI: 1573 m/s for hydrogen at 300 K, and 1 m/s is 1e-5 Å/fs.
    assert units.thermal_speed(1.008, 300.0) == pytest.approx(0.01573, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10ps", 1e4), ("16 fs", 16.0), ("0.5ns", 5e5), ("2us", 2e9), ("8", 8.0), ("1e1fs", 10.0)],
)
def test_times_are_read(text, expected):
    assert units.parse_time(text) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("text", ["", "fs", "ten ps", "nan", "inf", "10 m", "1,5ps"])
def test_times_that_are_none(text):
    with pytest.raises(ValueError, match="fs, ps, ns"):
        units.parse_time(text)


@pytest.mark.parametrize(
    ("value", "text"), [(16.0, "16 fs"), (1e4, "10 ps"), (2.5e6, "2.5 ns"), (0.5, "0.5 fs")]
)
def test_times_are_written(value, text):
    assert units.format_time(value) == text
