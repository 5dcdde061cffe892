"""Ensembles name themselves: a new one is one class, and front ends find it by its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from ase_atom.errors import ConfigError
from ase_atom.propagation import NVE, Bussi, Langevin, Propagator, sample_velocities
from ase_atom.propagation.ensembles import (
    Parameter,
    Thermostat,
    ensembles,
    find_ensemble,
    register,
    registry,
)
from ase_atom.propagation.settings import Settings
from ase_atom.state import PhaseState
from ase_atom.units import thermal_speed


@pytest.fixture
def sudden(monkeypatch):
    """A thermostat that redraws all velocities of some atoms now and then."""
    monkeypatch.setattr(registry, "_KNOWN", ensembles())

    @register
    @dataclass(frozen=True)
    class Sudden(Thermostat):
        name: ClassVar[str] = "sudden"
        title: ClassVar[str] = "Sudden"
        parameters: ClassVar[Mapping[str, Parameter]] = {
            "collisions": Parameter("1/fs", "rate of collisions", "0.001 to 0.1", most=1000.0)
        }
        reversible_by_default: ClassVar[bool] = False

        temperature_K: float = 300.0
        collisions: float = 0.01
        fix_com: bool = True
        energy_correction: bool = True
        reversible: bool = False

        @property
        def relaxation_time(self):
            return 1.0 / self.collisions

        def thermalise(self, state, duration, noise):
            hit = torch.special.ndtr(noise(state.numbers.shape)) < self.collisions * duration
            speed = thermal_speed(state.masses, self.temperature_K)[..., None]
            drawn = speed * noise(state.velocities.shape)
            velocities = torch.where(hit[..., None], drawn, state.velocities)
            return state.replace(velocities=velocities)

    return Sudden


def test_a_new_thermostat_is_found_by_its_name_and_its_setting(sudden):
    by_setting = Settings(temperature=310.0, own={"collisions": 0.02, "friction": None}).ensemble()
    assert by_setting == sudden(310.0, 0.02)
    assert Settings(temperature=310.0, kind="sudden").ensemble() == sudden(310.0)


def test_a_new_thermostat_moves_molecules(sudden, springs, ethanol):
    state = sample_velocities(
        PhaseState.from_atoms(ethanol).repeat(64), 300.0, torch.Generator().manual_seed(0)
    )
    ensemble = sudden(300.0, 0.05, fix_com=False, energy_correction=False)
    propagator = Propagator(springs, state, ensemble, 16.0)
    kelvin = [ensemble.temperature(frames.flat()).mean() for frames in propagator.run(3200.0)]
    assert torch.stack(kelvin)[50:].mean() == pytest.approx(300.0, abs=10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "langvin", "temperature": 300}, "did you mean langevin"),
        (
            {"kind": "bussi", "temperature": 300, "own": {"friction": 0.01}},
            "friction is a setting of Langevin, not Bussi",
        ),
        ({"own": {"friction": 0.01, "taut": 10.0}, "temperature": 300}, "give one of them"),
        (
            {"own": {"frictoin": 0.01}, "temperature": 300},
            "no ensemble has a setting 'frictoin': did you mean 'friction'",
        ),
        ({"kind": "nve", "temperature": 300}, "needs a thermostat, and NVE has none"),
        ({"kind": "langevin"}, "the ensemble langevin makes a thermostat, which needs temperature"),
        ({"own": {"friction": 1e4}, "temperature": 300}, "friction cannot be 10000 1/fs"),
        ({"own": {"taut": 1e-6}, "temperature": 300}, "taut cannot be 1e-06 fs"),
        ({"own": {"taut": -1.0}, "temperature": 300}, "taut must be above 0 fs"),
    ],
)
def test_settings_that_make_no_ensemble_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**settings).ensemble()


def test_two_ensembles_share_no_name_and_no_setting(sudden):
    for name, own in (("langevin", {}), ("other", Langevin.parameters)):
        with pytest.raises(ConfigError, match="already"):
            register(type("Other", (sudden,), {"name": name, "parameters": own}))
    with pytest.raises(ConfigError, match="there are andersen, bussi, langevin, nve"):
        find_ensemble("canonical")


def test_bare_ensembles_have_the_corrections_of_a_run(springs, ethanol):
    assert Settings().ensemble() == NVE()
    assert Settings(temperature=300.0, kind="langevin").ensemble() == Langevin()
    assert Settings(temperature=300.0, kind="bussi").ensemble() == Bussi()
    state = PhaseState.from_atoms(ethanol)
    assert Propagator(springs, state).ensemble == NVE(energy_correction=True, reversible=True)
