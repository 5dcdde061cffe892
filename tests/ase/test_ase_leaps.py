"""Leaps in ASE scripts."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.io import read
from leaping import leaping_ethanol

from ase_atom import ATOMPropagator, equilibrate, propagate_replicas
from ase_atom.errors import ConfigError

PS = 1000 * units.fs


@pytest.fixture(scope="module")
def operator():
    return leaping_ethanol()


@pytest.fixture(scope="module")
def thermal(operator):
    atoms = molecule("CH3CH2OH")
    equilibrate(atoms, temperature_K=300, operator=operator, duration=500 * units.fs, seed=1)
    return atoms


def leaping(atoms, operator, timestep=PS, **settings):
    given = {"stride": PS, "temperature_K": 300, "friction": 0.01 / units.fs, "seed": 1}
    return ATOMPropagator(atoms, timestep, operator=operator, **{**given, **settings})


def test_observers_fire_at_leaps(operator, thermal, tmp_path):
    atoms = thermal.copy()
    dyn = leaping(atoms, operator, trajectory=str(tmp_path / "a.traj"))
    seen = []
    dyn.attach(lambda: seen.append(dyn.nsteps), 2)
    dyn.run(4)
    assert seen == [0, 2, 4]
    assert dyn.get_time() == pytest.approx(4 * PS)
    frames = read(tmp_path / "a.traj", ":")
    assert len(frames) == 5
    assert np.array_equal(frames[-1].positions, atoms.positions)
    assert np.abs(frames[1].positions - frames[2].positions).max() > 0.1


def test_the_run_does_not_depend_on_how_it_is_cut(operator, thermal):
    one, other, steps = thermal.copy(), thermal.copy(), thermal.copy()
    leaping(one, operator).run(3)
    dyn, single = leaping(other, operator), leaping(steps, operator)
    for _ in range(3):
        dyn.run(1)
        single.step()
    assert np.array_equal(one.positions, other.positions)
    assert np.array_equal(one.get_momenta(), steps.get_momenta())


def test_a_script_that_is_started_again_goes_on(operator, thermal, tmp_path):
    whole = thermal.copy()
    leaping(whole, operator).run(4)
    for _ in range(2):
        atoms = thermal.copy()
        dyn = leaping(atoms, operator, restart=tmp_path / "a.restart", restart_interval=1)
        dyn.run(2)
    assert np.array_equal(atoms.positions, whole.positions)


def test_replicas_leap_in_a_batch(operator, thermal, tmp_path):
    replicas = [thermal.copy() for _ in range(3)]
    run = propagate_replicas(
        replicas, PS, 4, stride=PS, operator=operator, temperature_K=300,
        friction=0.01 / units.fs, seed=2, trajectory=tmp_path / "a.xtc", interval=2,
    )  # fmt: skip
    assert run.frames == [3, 3, 3]
    assert not run.broken


def test_a_temperature_that_leaps_are_not_for_is_refused(operator, thermal):
    dyn = leaping(thermal.copy(), operator)
    with pytest.warns(UserWarning, match="900 K"):
        dyn.set_temperature(900)
    with pytest.raises(ConfigError, match="300 to 500 K"):
        dyn.run(1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature_K": None, "friction": None, "seed": None}, "Langevin"),
        ({"friction": None, "taut": 100 * units.fs}, "Langevin"),
        ({"friction": 0.02 / units.fs}, "10 per ps, not 20"),
        ({"timestep": units.fs}, "a timestep of 1 ps fits"),
        ({"stride": 1.5 * PS, "timestep": PS}, "multiple of the time step"),
    ],
)
def test_what_leaps_are_not_for_is_refused(operator, thermal, settings, named):
    with pytest.raises(ConfigError, match=named):
        leaping(thermal.copy(), operator, **settings)


def test_replicas_between_leaps_are_refused(operator, thermal):
    with pytest.raises(ConfigError, match="a timestep of 1 ps fits"):
        propagate_replicas(
            [thermal.copy()], units.fs, 1500, stride=PS, operator=operator, temperature_K=300,
            friction=0.01 / units.fs,
        )  # fmt: skip
