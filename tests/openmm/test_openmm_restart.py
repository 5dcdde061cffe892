"""Restarts in OpenMM: a simulation goes on, by the settings of the integrator that goes on."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from conftest import make_operator
from openmm import unit
from openmm.app import Simulation
from openmm_systems import FEMTO, Springs, bare_system, march, phase, simulate

from ase_atom import NVE, Bussi, Langevin, PhaseState
from ase_atom.errors import StateError
from ase_atom.io.topology import openmm_topology
from ase_atom.openmm.jumps import KeyedNoise
from ase_atom.openmm.program import SEED
from ase_atom.operator import save_operator
from ase_atom.propagation import Step, advance

LANGEVIN = {"temperature": 300, "friction": 10}
BUSSI = {"temperature": 300, "taut": 20 * FEMTO}


@pytest.fixture
def springs(ethanol) -> Springs:
    return Springs(ethanol)


@pytest.fixture(params=["state", "checkpoint"])
def carry(request, tmp_path):
    """Return what brings one Simulation's state to another by a file."""

    def bring(source: Simulation, target: Simulation) -> None:
        name = str(tmp_path / "file")
        if request.param == "state":
            source.saveState(name)
            target.loadState(name)
        else:
            source.saveCheckpoint(name)
            target.loadCheckpoint(name)

    return bring


def warnings_of(simulation: Simulation, steps: int) -> list[str]:
    """March, and return the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        simulation.step(steps)
    return [str(each.message) for each in caught]


CHANGES = {
    "friction": (
        {**LANGEVIN, "friction": 2},
        Langevin(300, 0.002, energy_correction=False),
        "friction 2/ps, not 10/ps",
    ),
    "stride": (
        {**LANGEVIN, "stride": 8.0},
        Langevin(300, 0.01, energy_correction=False),
        "stride 8 fs, not 4 fs",
    ),
    "timestep": (
        {**LANGEVIN, "timestep": 1.0},
        Langevin(300, 0.01, energy_correction=False),
        "timestep 1 fs, not 0.5 fs",
    ),
    "ensemble": (BUSSI, Bussi(300, 20.0, energy_correction=False), "Bussi, not Langevin"),
    "no thermostat": ({}, NVE(False, True), "NVE, not Langevin"),
    "centre of mass": (
        {**LANGEVIN, "fix_com": False},
        Langevin(300, 0.01, fix_com=False, energy_correction=False),
        "fix_com=False, not True",
    ),
    "reversible": (
        {**LANGEVIN, "reversible": True},
        Langevin(300, 0.01, energy_correction=False, reversible=True),
        "reversible=True, not None",
    ),
    "several": (
        {"temperature": 500, "friction": 2, "stride": 8.0},
        Langevin(500, 0.002, energy_correction=False),
        "temperature 500 K, not 300 K; friction 2/ps, not 10/ps; stride 8 fs, not 4 fs",
    ),
}


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("what", CHANGES)
def test_the_settings_of_the_new_integrator_hold(ethanol, springs, carry, what, platform):
    settings, ensemble, message = CHANGES[what]
    first = simulate(ethanol, springs, platform, energy_correction=False, **LANGEVIN)
    first.step(5)  # inside a stride
    second = simulate(ethanol, Springs(ethanol), platform, energy_correction=False, **settings)
    carry(first, second)
    if "temperature" in settings:
        assert second.integrator.getTemperature()._value == settings["temperature"]
    positions, velocities = phase(first)
    assert np.array_equal(phase(second)[0], positions)
    assert second.currentStep == 5

    # The next step begins a stride of the new integrator's.
    timestep, stride = settings.get("timestep", 0.5), settings.get("stride", 4.0)
    steps = round(stride / timestep)
    (said,) = warnings_of(second, 1)
    assert f"this integrator uses its own: {message}" in said
    found = [phase(second), *march(second, steps - 1)]
    noise = KeyedNoise().of(int(second.context.getParameters()[SEED]))
    state = PhaseState.from_atoms(ethanol).replace(
        positions=torch.from_numpy(positions)[None], velocities=torch.from_numpy(velocities)[None]
    )
    offsets = torch.arange(1, steps + 1, dtype=torch.float64) * timestep
    step = Step(stride, noise, springs.energy)
    expected = advance(springs, ensemble, ensemble.prepare(state), offsets, step)
    assert np.abs(np.stack(found) - torch.stack(expected, dim=2)[0].numpy()).max() < 1e-11
    assert warnings_of(second, 2 * steps) == []


def test_another_temperature_alone_holds_from_the_next_jump_on(ethanol, springs, carry):
    first = simulate(ethanol, springs, **LANGEVIN)
    first.step(5)
    second = simulate(ethanol, Springs(ethanol), temperature=500, friction=10)
    carry(first, second)
    (said,) = warnings_of(second, 1)
    assert said.endswith("uses its own: temperature 500 K, not 300 K")
    assert np.array_equal([phase(second), *march(second, 2)], march(first, 3))
    assert second.integrator.getTemperature()._value == 500
    assert warnings_of(second, 10) == []
    assert second.context.getParameters()["atom_temperature"] == 500


@pytest.mark.parametrize("settings", [{}, LANGEVIN, BUSSI])
def test_equal_settings_go_on_without_a_word(ethanol, springs, carry, settings):
    first = simulate(ethanol, springs, **settings)
    first.step(5)
    second = simulate(ethanol, Springs(ethanol), **settings)
    carry(first, second)
    assert warnings_of(second, 3) == []
    assert np.array_equal(phase(second), march(first, 3)[-1])


def test_jumps_of_several_passes_go_on_in_their_order(ethanol, carry):
    """In every other stride the second half is the network's own: the state knows in which."""
    first = simulate(ethanol, "organic-wb97m", stride=16.0)
    first.step(37)  # inside the second stride
    second = simulate(ethanol, "organic-wb97m", stride=16.0)
    carry(first, second)
    assert np.array_equal(march(second, 60), march(first, 60))


def test_a_temperature_that_was_set_is_the_integrators_own(ethanol, springs, carry):
    first = simulate(ethanol, springs, **LANGEVIN)
    first.integrator.setTemperature(500)
    first.step(5)
    second = simulate(ethanol, Springs(ethanol), temperature=400, friction=10)
    second.integrator.setTemperature(500)
    carry(first, second)
    assert warnings_of(second, 3) == []
    assert np.array_equal(phase(second), march(first, 3)[-1])
    third = simulate(ethanol, Springs(ethanol), **LANGEVIN)
    carry(first, third)
    (said,) = warnings_of(third, 20)
    assert said.endswith("uses its own: temperature 300 K, not 500 K")
    assert third.integrator.getTemperature()._value == 300


def test_another_operator_begins_anew(ethanol, carry, tmp_path):
    one, other = (
        save_operator(make_operator(seed=seed, strength=0.003), tmp_path / f"{seed}.safetensors")
        for seed in (0, 1)
    )
    calm = {"velocities": 1e-4 * ethanol.positions, "energy_correction": False}
    first, second = (simulate(ethanol, path, **calm) for path in (one, other))
    first.step(3)
    carry(first, second)
    fresh = simulate(ethanol, other, energy_correction=False)
    fresh.context.setPositions(phase(second)[0] * unit.angstrom)
    fresh.context.setVelocities(phase(second)[1] * unit.angstrom / FEMTO)
    (said,) = (line for line in warnings_of(second, 8) if "settings" in line)
    assert said.endswith("uses its own: another operator")
    fresh.step(8)
    assert np.abs(phase(second) - phase(fresh)).max() < 1e-12


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_checkpoint_of_another_integrator_is_refused_in_one_line(ethanol, springs, platform):
    topology = openmm_topology(ethanol)
    stock = Simulation(
        topology,
        bare_system(topology),
        openmm.LangevinMiddleIntegrator(300, 1, 0.5 * FEMTO),
        openmm.Platform.getPlatformByName(platform),
    )
    stock.context.setPositions(ethanol.positions * unit.angstrom)
    stock.context.setVelocitiesToTemperature(300, 1)
    stock.step(3)
    simulation = simulate(ethanol, springs, platform, **LANGEVIN)
    simulation.step(5)
    simulation.context.loadCheckpoint(stock.context.createCheckpoint())
    with pytest.raises(StateError, match=r"another integrator .* copy positions and velocities"):
        simulation.step(1)
    assert simulation.integrator.getTemperature()._value == 300
    # What is then copied is where it goes on.
    state = stock.context.getState(positions=True, velocities=True)
    simulation.context.setPositions(state.getPositions())
    simulation.context.setVelocities(state.getVelocities())
    assert warnings_of(simulation, 16) == []


def test_our_states_say_to_others_what_to_copy(ethanol, springs, tmp_path):
    name = str(tmp_path / "state.xml")
    simulation = simulate(ethanol, springs)
    simulation.step(5)
    simulation.saveState(name)
    topology = openmm_topology(ethanol)
    platform = openmm.Platform.getPlatformByName("Reference")
    stock = Simulation(topology, bare_system(topology), openmm.VerletIntegrator(0.001), platform)
    with pytest.raises(openmm.OpenMMException, match="copy_its_positions_and_velocities"):
        stock.loadState(name)
    state = openmm.XmlSerializer.deserialize(Path(name).read_text())
    stock.context.setPositions(state.getPositions())
    stock.context.setVelocities(state.getVelocities())
    stock.step(1)


def test_states_of_others_leave_their_positions_and_velocities(ethanol, springs, tmp_path):
    name = str(tmp_path / "state.xml")
    topology = openmm_topology(ethanol)
    platform = openmm.Platform.getPlatformByName("Reference")
    stock = Simulation(topology, bare_system(topology), openmm.VerletIntegrator(0.001), platform)
    stock.context.setPositions(1.001 * ethanol.positions * unit.angstrom)
    stock.context.setVelocitiesToTemperature(300, 1)
    stock.saveState(name)
    simulation = simulate(ethanol, springs)
    simulation.step(5)
    with pytest.raises(openmm.OpenMMException, match="IntegratorParameters"):  # OpenMM's own words
        simulation.loadState(name)
    assert np.abs(phase(simulation) - phase(stock)).max() < 1e-12
    assert warnings_of(simulation, 5) == []


@pytest.mark.parametrize("changed", [True, False])
def test_an_integrator_read_from_xml_keeps_its_settings_too(
    ethanol, tiny_checkpoint, carry, changed
):
    calm = {"velocities": 1e-4 * ethanol.positions, "energy_correction": False}
    settings = {"temperature": 20, "friction": 1}
    made = simulate(ethanol, tiny_checkpoint, **calm, **settings)
    loaded = Simulation(
        made.topology,
        openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(made.system)),
        openmm.XmlSerializer.clone(made.integrator),
        openmm.Platform.getPlatformByName("Reference"),
    )
    others = {"temperature": 300, "friction": 1, "stride": 8.0} if changed else settings
    first = simulate(ethanol, tiny_checkpoint, **calm, **others)
    first.step(3)
    carry(first, loaded)
    said = warnings_of(loaded, 1)
    assert len(said) == int(changed)
    assert loaded.integrator.getGlobalVariableByName("temperature") == 20
    assert loaded.integrator.getGlobalVariableByName("frame") == (1 if changed else 4)
    assert loaded.context.getParameters()["atom_temperature"] == 20
    assert warnings_of(loaded, 20) == []


def test_a_context_that_is_made_again_goes_on(ethanol, springs):
    simulation = simulate(ethanol, springs, **LANGEVIN)
    simulation.step(5)
    checkpoint = simulation.context.createCheckpoint()
    expected = march(simulation, 11)
    simulation.context.loadCheckpoint(checkpoint)
    simulation.context.reinitialize(preserveState=True)
    assert np.array_equal(march(simulation, 11), expected)
