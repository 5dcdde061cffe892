"""Leaps in OpenMM scripts: a step is a leap, and reporters count in leaps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from leaping import leaping_ethanol
from openmm import unit
from openmm_systems import march, phase, simulate

from ase_atom.errors import ConfigError

SETTINGS = {"temperature": 300 * unit.kelvin, "friction": 10 / unit.picosecond}


@pytest.fixture(scope="module")
def operator():
    return leaping_ethanol()


def leaping(ethanol, operator, timestep=1000.0, stride=1000.0, **settings):
    return simulate(ethanol, operator, "CPU", 3, timestep, stride, **{**SETTINGS, **settings})


def test_a_step_is_a_leap_and_a_checkpoint_goes_on(ethanol, operator, tmp_path):
    simulation = leaping(ethanol, operator)
    integrator = simulation.integrator
    assert integrator.leaps is None
    with pytest.warns(UserWarning, match="settled for 640 fs before the first leap"):
        simulation.step(1)
    name = str(tmp_path / "file.chk")
    simulation.saveCheckpoint(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what a leap leaves is thermal
        frames = march(simulation, 3)
    assert simulation.context.getTime().value_in_unit(unit.picosecond) == pytest.approx(4.0)
    assert integrator.leaps.kept == 4
    assert np.abs(np.diff(frames[:, 0], axis=0)).max() > 0.1  # it turns
    masses = ethanol.get_masses()
    moved = np.einsum("n,tnx->tx", masses / masses.sum(), frames[:, 0] - frames[0, 0])
    assert np.abs(moved).max() < 1e-4  # the centre of mass is fixed
    other = leaping(ethanol, operator)
    other.loadCheckpoint(name)
    assert np.array_equal(march(other, 3), frames)


def test_positions_set_from_outside_settle_before_the_next_leap(ethanol, operator):
    simulation = leaping(ethanol, operator)
    with pytest.warns(UserWarning, match="settled"):
        simulation.step(1)
    simulation.context.setPositions(ethanol.positions * unit.angstrom)
    with pytest.warns(UserWarning, match="settled"):
        simulation.step(1)
    assert np.isfinite(phase(simulation)).all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"timestep": 500.0}, "a timestep of 1 ps fits"),
        ({"timestep": 0.5}, "reporters and trajectories count in leaps"),
        ({"timestep": 2000.0}, "longer than the stride"),
        ({"friction": 5}, "10 per ps, not 5"),
        ({"temperature": 700}, "300 to 500 K"),
        ({"temperature": None, "friction": None}, "Langevin"),
        ({"timestep": 3e4, "stride": 3e4}, "500 fs to 16 ps"),
    ],
)
def test_leaps_that_were_not_learned_are_refused(ethanol, operator, settings, named):
    with pytest.raises(ConfigError, match=named):
        leaping(ethanol, operator, **settings)


def test_a_temperature_set_later_is_one_that_was_learned(ethanol, operator):
    simulation = leaping(ethanol, operator)
    simulation.integrator.setTemperature(450)
    with pytest.warns(UserWarning, match="not at 450 K"):
        simulation.step(1)
    simulation.integrator.setTemperature(501)
    with pytest.raises(ConfigError, match="300 to 500 K"):
        simulation.step(1)
