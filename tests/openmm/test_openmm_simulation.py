"""The OpenMM integrator under stock reporters, checkpoint files and serialisation."""

from __future__ import annotations

import csv
from copy import deepcopy
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from conftest import make_operator
from openmm import unit
from openmm.app import CheckpointReporter, DCDReporter, Simulation, StateDataReporter, XTCReporter
from openmm_systems import FEMTO, LANGEVIN, Springs, bare_system, march, phase, simulate

from ase_atom import ATOMIntegrator, PhaseState
from ase_atom.errors import StateError
from ase_atom.io.topology import openmm_topology
from ase_atom.operator import save_operator
from ase_atom.units import KJ_MOL


@pytest.fixture
def springs(ethanol) -> Springs:
    return Springs(ethanol)


def rows(path: Path) -> list[dict[str, float]]:
    lines = csv.DictReader(path.read_text().removeprefix("#").splitlines())
    return [{key: float(value) for key, value in row.items()} for row in lines]


def test_reporters_see_every_frame(ethanol, springs, tmp_path):
    expected = march(simulate(ethanol, springs), 24)[:, 0]
    simulation = simulate(ethanol, springs)
    names = {"t.dcd": DCDReporter, "t.xtc": XTCReporter}
    for name, reporter in names.items():
        simulation.reporters.append(reporter(str(tmp_path / name), 3))
    simulation.step(10)
    simulation.step(14)
    simulation.reporters.clear()  # which closes the files
    topology = mdtraj.Topology.from_openmm(simulation.topology)
    for name in names:
        found = mdtraj.load(tmp_path / name, top=topology)
        assert len(found) == 8
        tolerance = 0.006 if name == "t.xtc" else 1e-5  # Å
        assert np.abs(10 * found.xyz - expected[2::3]).max() < tolerance
    assert np.allclose(found.time, 0.0015 * np.arange(1, 9))


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_state_data_are_those_of_the_molecule(ethanol, springs, tmp_path, platform):
    simulation = simulate(ethanol, springs, platform, **LANGEVIN)
    simulation.reporters.append(
        StateDataReporter(
            str(tmp_path / "log.csv"), 5, step=True, time=True, potentialEnergy=True,
            totalEnergy=True, temperature=True,
        )
    )  # fmt: skip
    frames = []
    for _ in range(4):
        simulation.step(5)
        frames.append(phase(simulation))
    found = rows(tmp_path / "log.csv")
    assert [row["Step"] for row in found] == [5, 10, 15, 20]
    assert found[-1]["Time (ps)"] == pytest.approx(0.01)
    ethanol.positions, ethanol.calc = frames[-1][0], None
    state = PhaseState.from_atoms(ethanol)
    energy = float(springs.energy(state)) / KJ_MOL
    assert found[-1]["Potential Energy (kJ/mole)"] == pytest.approx(energy, rel=1e-6)
    # With a fixed centre of mass the reporter counts 3N - 3 degrees of freedom, as we do.
    state = state.replace(velocities=state.velocities.new_tensor(frames[-1][1])[None])
    assert found[-1]["Temperature (K)"] == pytest.approx(float(state.temperature(24)), rel=1e-4)


@pytest.mark.parametrize("free", [True, False])
def test_the_centre_of_mass_moves_unless_a_remover_holds_it(ethanol, springs, free):
    system = bare_system(openmm_topology(ethanol))
    if not free:
        system.addForce(openmm.CMMotionRemover())
    simulation = simulate(ethanol, springs, system=system, velocities=np.full((9, 3), 0.002))
    simulation.step(16)
    moved = phase(simulation)[0] - ethanol.positions
    assert np.allclose(moved, 0.002 * 8.0 if free else 0.0, atol=1e-10)
    removers = [f for f in system.getForces() if type(f) is openmm.CMMotionRemover]
    assert len(removers) == (0 if free else 1)
    assert system.getNumForces() == (2 if free else 3)  # jumps and bonds of zero strength


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_checkpoint_file_continues_an_interrupted_simulation(
    ethanol, springs, tmp_path, platform
):
    def begin(name: str) -> Simulation:
        simulation = simulate(ethanol, springs, platform, **LANGEVIN)
        simulation.reporters.append(
            StateDataReporter(str(tmp_path / name), 5, step=True, potentialEnergy=True)
        )
        simulation.reporters.append(CheckpointReporter(str(tmp_path / f"{name}.chk"), 10))
        return simulation

    whole = begin("whole.csv")
    whole.step(60)
    begin("first.csv").step(37)  # killed here; the last checkpoint is of step 30, inside a jump
    second = begin("second.csv")
    second.loadCheckpoint(str(tmp_path / "first.csv.chk"))
    assert second.currentStep == 30
    second.step(30)
    assert np.array_equal(phase(whole), phase(second))
    later = [row for row in rows(tmp_path / "whole.csv") if row["Step"] > 30]
    assert rows(tmp_path / "second.csv") == later


def calm(operator: object, ethanol) -> Simulation:
    velocities = 1e-4 * ethanol.positions
    return simulate(ethanol, operator, velocities=velocities, energy_correction=False)


def test_serialised_systems_and_integrators_run_as_before(ethanol, tiny_checkpoint):
    simulation = calm(tiny_checkpoint, ethanol)
    system = openmm.XmlSerializer.serialize(simulation.system)
    integrator = openmm.XmlSerializer.serialize(simulation.integrator)
    assert len(system) < 20_000  # a name, not weights
    expected = march(simulation, 12)

    loaded = Simulation(
        simulation.topology,
        openmm.XmlSerializer.deserialize(system),
        openmm.XmlSerializer.deserialize(integrator),
        openmm.Platform.getPlatformByName("Reference"),
    )
    loaded.context.setPositions(ethanol.positions * unit.angstrom)
    loaded.context.setVelocities(1e-4 * ethanol.positions * unit.angstrom / FEMTO)
    assert np.array_equal(march(loaded, 12), expected)
    # An ordinary integrator's error is as clear.
    loaded.context.setPositions(np.full((9, 3), np.nan))
    with pytest.raises(openmm.OpenMMException, match="the position of atom C1 is not finite"):
        loaded.step(1)


@pytest.mark.parametrize("found", ["another", "none"])
def test_a_serialised_system_wants_its_own_operator(ethanol, tmp_path, found):
    path = save_operator(make_operator(strength=0.003), tmp_path / "mine.safetensors")
    simulation = calm(path, ethanol)
    system = openmm.XmlSerializer.serialize(simulation.system)
    integrator = openmm.XmlSerializer.clone(simulation.integrator)
    if found == "another":
        save_operator(make_operator(seed=1, strength=0.003), path)
        message = "mine.safetensors' here is not the one that this System was written with"
    else:
        path.unlink()
        message = "no operator named '.*mine.safetensors' and no such file"
    context = openmm.Context(
        openmm.XmlSerializer.deserialize(system),
        integrator,
        openmm.Platform.getPlatformByName("Reference"),
    )
    context.setPositions(ethanol.positions * unit.angstrom)
    with pytest.raises(openmm.OpenMMException, match=message):
        integrator.step(1)


def test_a_copied_integrator_serves_another_context(ethanol, springs):
    simulation = simulate(ethanol, springs)
    simulation.step(5)
    copied = deepcopy(simulation.integrator)
    context = openmm.Context(
        simulation.system, copied, openmm.Platform.getPlatformByName("Reference")
    )
    context.setState(
        simulation.context.getState(
            positions=True, velocities=True, parameters=True, integratorParameters=True
        )
    )
    expected = march(simulation, 9)[-1, 0]
    copied.step(9)
    assert np.array_equal(10 * context.getState(positions=True).getPositions(True)._value, expected)
    context.setPositions(np.full((9, 3), np.inf))
    with pytest.raises(StateError, match="the position of atom C1 is not finite"):
        copied.step(1)


def test_an_operator_in_memory_cannot_be_serialised(ethanol, springs):
    simulation = simulate(ethanol, springs)
    with pytest.raises(openmm.OpenMMException, match="could not be pickled"):
        openmm.XmlSerializer.serialize(simulation.system)


def test_plain_numbers_are_in_openmms_units(ethanol, springs):
    topology = openmm_topology(ethanol)
    one, other = (
        ATOMIntegrator(
            bare_system(topology), topology, springs, timestep, stride, temperature, friction
        )
        for timestep, stride, temperature, friction in (
            (0.0005, 0.004, 300, 10),
            (0.5 * FEMTO, 4 * FEMTO, 300 * unit.kelvin, 10 / unit.picosecond),
        )
    )
    assert openmm.XmlSerializer.serialize(one) == openmm.XmlSerializer.serialize(other)
    assert one.getStepSize() == 0.5 * FEMTO
