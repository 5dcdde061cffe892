"""What OpenMM scripts may say, in which units, and what they are warned of."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import openmm
import pytest
from conftest import ROOT, make_card, make_operator
from openmm import unit
from openmm_systems import FEMTO, LANGEVIN, Springs, bare_system, march, phase, simulate

from ase_atom import ATOMForce, ATOMIntegrator
from ase_atom.errors import ConfigError, CoverageError
from ase_atom.io.topology import openmm_topology
from ase_atom.molecules.coverage import CoverageWarning
from ase_atom.operator import save_operator


@pytest.fixture
def topology(ethanol):
    return openmm_topology(ethanol)


def build(topology, operator, timestep=0.5 * FEMTO, **settings) -> ATOMIntegrator:
    return ATOMIntegrator(bare_system(topology), topology, operator, timestep, **settings)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("temprature", "temperature"),
        ("temperature_K", "temperature"),
        ("fixcm", "fix_com"),
        ("Friction", "friction"),
        ("energy_corection", "energy_correction"),
        ("time_step", "timestep"),
    ],
)
def test_unknown_keywords_are_refused_with_the_nearest(topology, tiny_checkpoint, given, nearest):
    system = bare_system(topology)
    with pytest.raises(ConfigError, match=f"ATOMIntegrator takes no '{given}'.*{nearest!r}"):
        ATOMIntegrator(system, topology, tiny_checkpoint, timestep=0.0005, **{given: 300})
    assert system.getNumForces() == 0
    with pytest.raises(ConfigError, match=r"ATOMForce takes no 'precison'.*'precision'"):
        ATOMForce(tiny_checkpoint, topology, precison="double")


@pytest.mark.filterwarnings("ignore")  # of other potentials, as openmmml loads them all
def test_openmmml_refuses_unknown_keywords_with_the_nearest(topology):
    openmmml = pytest.importorskip("openmmml")
    with pytest.raises(ConfigError, match=r"operater.*'operator'"):
        openmmml.MLPotential("ase-atom", operator="ethanol-gfn2", operater="x")
    potential = openmmml.MLPotential("ase-atom", operator="ethanol-gfn2")
    with pytest.raises(ConfigError, match=r"precison.*'precision'"):
        potential.createSystem(topology, precison="double")


@pytest.mark.parametrize(
    ("timestep", "settings", "message"),
    [
        (5e-16, {}, "check its unit; numbers without a unit are in ps"),
        (1e-6 * FEMTO, {}, "check its unit"),
        (0.5, {}, "500 fs is longer than the stride .* numbers without a unit are in ps"),
        (-0.5 * FEMTO, {}, "must be above 0 fs"),
        (float("nan"), {}, "must be above 0 fs"),
        ("0.5 fs", {}, "timestep is a number in picosecond .* '0.5 fs' cannot"),
        (True, {}, "timestep is a number in picosecond"),
        (None, {}, "timestep is a number in picosecond"),
        ([0.5] * FEMTO, {}, "timestep is a number in picosecond"),
        (0.0005, {"stride": 16}, "a stride of 16 ps means leaps, .* at most 32 fs"),
        (0.0005, {"stride": 1.6e-14}, "check its unit"),
        (0.0005, {"temperature": 300 * unit.kilojoule_per_mole, "friction": 1}, "in kelvin"),
        (0.0005, {"temperature": "300 K", "friction": 1}, "temperature is a number in kelvin"),
        (0.0005, {"temperature": 300, "friction": 1 * unit.picosecond}, "friction is a number"),
        (0.0005, {"temperature": 300, "friction": 1e8}, "check its unit"),
        (0.0005, {"temperature": 300, "taut": 1e-13}, "check its unit"),
        (0.0005, {"temperature": 300, "friction": 0}, "friction must be above 0"),
    ],
)
def test_numbers_that_cannot_be_meant(topology, tiny_checkpoint, timestep, settings, message):
    system = bare_system(topology)
    with pytest.raises(ValueError, match=message):
        ATOMIntegrator(system, topology, tiny_checkpoint, timestep, **settings)
    assert system.getNumForces() == 0


def test_quantities_of_any_unit_and_plain_numbers_mean_the_same(topology, tiny_checkpoint):
    texts = {
        openmm.XmlSerializer.serialize(
            build(topology, tiny_checkpoint, timestep, temperature=kelvin, friction=friction)
        )
        for timestep, kelvin, friction in (
            (0.0005, 300, 10),
            (np.float64(0.0005), np.int64(300), np.float32(10)),
            (5e-16 * unit.second, 300 * unit.kelvin, 0.01 / unit.femtosecond),
        )
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    "settings", [{"fix_com": "yes"}, {"energy_correction": None}, {"reversible": 1}]
)
def test_flags_are_true_or_false(topology, tiny_checkpoint, settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{name} is True or False, not"):
        build(topology, tiny_checkpoint, temperature=300, friction=1, **settings)


def test_arguments_in_another_order(topology, tiny_checkpoint):
    with pytest.raises(ConfigError, match="system is an OpenMM System, not a Topology"):
        ATOMIntegrator(topology, bare_system(topology), tiny_checkpoint, 0.0005)
    with pytest.raises(ConfigError, match="NoneType is no operator"):
        build(topology, None)


def test_a_force_field_that_is_not_there_cannot_report(topology, tiny_checkpoint):
    with pytest.raises(ConfigError, match="this one has no forces"):
        build(topology, tiny_checkpoint, system_forces="report")


def test_a_charge_is_that_of_the_topology_or_the_force(ethanol, topology, tmp_path):
    operator = make_operator(strength=0.003)
    operator.card = make_card(charges=[0, 1])
    neutral = build(topology, operator)
    assert neutral._callback.molecule.charge == 0
    next(topology.atoms()).formalCharge = 1
    assert build(topology, operator)._callback.molecule.charge == 1
    next(topology.atoms()).formalCharge = -1
    with pytest.raises(CoverageError, match=r"formal charges add up to -1"):
        build(topology, operator)
    with pytest.raises(CoverageError, match=r"molecule's charge is set to \+2"):
        ATOMForce(operator, openmm_topology(ethanol), charge=2)


# -- warnings --------------------------------------------------------------------------------------


def caught(work, *arguments) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        work(*arguments)
    return found


def general_operator(tmp_path):
    """Return the file of an operator for molecules in general that never saw ethanol."""
    operator = make_operator(strength=0.003)
    operator.card = make_card(largest_molecule=20, smiles=["CO"])
    return save_operator(operator, tmp_path / "general.safetensors")


def test_a_molecule_that_was_never_seen_warns_once_at_the_users_line(ethanol, tmp_path):
    simulation = simulate(
        ethanol, general_operator(tmp_path), stride=16.0, energy_correction=False, **LANGEVIN
    )
    simulation.context.setVelocities(1e-4 * ethanol.positions)
    found = caught(lambda: simulation.step(40))
    (said,) = (each for each in found if "is not among the" in str(each.message))
    assert "CCO (C2H6O) is not among the 1 molecules" in str(said.message)
    assert issubclass(said.category, CoverageWarning)
    assert said.filename == __file__
    assert caught(lambda: simulation.context.getState(energy=True)) == []


def test_the_force_warns_of_such_a_molecule_once_at_the_users_line(ethanol, topology, tmp_path):
    system = bare_system(topology)
    system.addForce(ATOMForce(general_operator(tmp_path), topology))
    integrator = openmm.VerletIntegrator(0.0005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(ethanol.positions * unit.angstrom)
    (said,) = caught(lambda: context.getState(energy=True))
    assert "is not among the 1 molecules" in str(said.message)
    assert said.filename == __file__
    assert caught(integrator.step, 3) == []


@pytest.mark.parametrize("settings", [{}, LANGEVIN])
def test_velocities_that_are_too_hot_warn_once_at_the_users_line(
    ethanol, tiny_checkpoint, settings
):
    simulation = simulate(
        ethanol, tiny_checkpoint, stride=16.0, energy_correction=False, **settings
    )
    simulation.context.setVelocitiesToTemperature(300, 1)
    assert caught(simulation.step, 1) == []  # within the card's range
    simulation.context.setPositions(ethanol.positions * unit.angstrom)
    simulation.context.setVelocitiesToTemperature(3000, 1)
    (said,) = caught(simulation.step, 1)
    assert "starts with velocities of" in str(said.message)
    assert said.filename == __file__
    simulation.context.setPositions(ethanol.positions * unit.angstrom)
    simulation.context.setVelocitiesToTemperature(3000, 2)
    assert caught(simulation.step, 1) == []


def test_temperatures_warn_at_the_users_line(topology, tiny_checkpoint):
    (said,) = caught(lambda: build(topology, tiny_checkpoint, temperature=900, friction=1))
    assert "900 K is outside the range 1 to 500 K" in str(said.message)
    assert said.filename == __file__
    integrator = build(topology, tiny_checkpoint, **LANGEVIN)
    (said,) = caught(integrator.setTemperature, 600)
    assert "600 K is outside the range" in str(said.message)
    assert said.filename == __file__


def test_the_example_warns_of_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", SCRIPT],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


SCRIPT = """
from openmm import *
from openmm.app import *
from openmm.unit import *
from ase_atom import ATOMIntegrator
pdb = PDBFile("examples/ethanol.pdb")
system = System()
for atom in pdb.topology.atoms():
    system.addParticle(atom.element.mass)
integrator = ATOMIntegrator(system, pdb.topology, "ethanol-gfn2", 0.5 * femtoseconds,
                            temperature=300 * kelvin, friction=1 / picosecond)
simulation = Simulation(pdb.topology, system, integrator, Platform.getPlatform("Reference"))
simulation.context.setPositions(pdb.positions)
simulation.context.setVelocitiesToTemperature(300, 1)
simulation.step(33)
"""


# -- what is changed between steps -----------------------------------------------------------------


def test_time_count_and_box_are_the_users(ethanol):
    quiet, changed = (simulate(ethanol, Springs(ethanol)) for _ in range(2))
    quiet.step(3)
    changed.step(3)
    changed.context.setTime(7.0)
    changed.context.setStepCount(1000)
    changed.context.setPeriodicBoxVectors(*(3 * np.eye(3)))
    assert np.array_equal(march(changed, 9), march(quiet, 9))
    assert changed.context.getTime()._value == pytest.approx(7.0 + 9 * 0.0005)
    assert changed.context.getStepCount() == 1009


def test_velocities_of_another_temperature_are_where_the_next_step_starts(ethanol):
    simulation = simulate(ethanol, Springs(ethanol), energy_correction=False)
    simulation.step(8)
    simulation.context.setVelocitiesToTemperature(100, 3)
    positions, velocities = phase(simulation)
    fresh = simulate(ethanol, Springs(ethanol), energy_correction=False)
    fresh.context.setPositions(positions * unit.angstrom)
    fresh.context.setVelocities(velocities * unit.angstrom / FEMTO)
    assert np.abs(march(simulation, 8) - march(fresh, 8)).max() < 1e-12
