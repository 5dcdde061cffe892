"""What the OpenMM integrator refuses, and in what words."""

from __future__ import annotations

import re

import numpy as np
import openmm
import pytest
from ase.build import molecule
from conftest import make_card, make_operator
from openmm import unit
from openmm.app import Element, Topology
from openmm_systems import FEMTO, LANGEVIN, Springs, bare_system, march, phase, simulate

from ase_atom import ATOMForce, ATOMIntegrator
from ase_atom.errors import AtomError, ConfigError, CoverageError, HorizonError, StateError
from ase_atom.io.topology import openmm_topology


def build(operator, topology, system=None, **settings) -> ATOMIntegrator:
    system = bare_system(topology) if system is None else system
    settings = {"timestep": 0.5 * FEMTO, "stride": 16 * FEMTO} | settings
    return ATOMIntegrator(system, topology, operator, **settings)


@pytest.fixture
def topology(ethanol) -> Topology:
    return openmm_topology(ethanol)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"stride": 16.3 * FEMTO}, ConfigError, "near ones are 16 fs or 16.5 fs"),
        ({"stride": 64 * FEMTO}, HorizonError, "beyond the operator's horizon of 32 fs"),
        ({"timestep": 0 * FEMTO}, ConfigError, "the time step must be above 0 fs"),
        ({"timestep": 3 * unit.kelvin}, ConfigError, "3 K cannot be given in picosecond"),
        ({"temperature": 300}, ConfigError, "needs a thermostat: .*friction= .* or taut="),
        ({"friction": 1}, ConfigError, "friction makes a thermostat, which needs a temperature"),
        ({"taut": 1}, ConfigError, "taut makes a thermostat, which needs a temperature"),
        ({"temperature": 300, "friction": 1, "taut": 1}, ConfigError, "give one of them"),
        ({"temperature": -5, "friction": 1}, ConfigError, "above 0 K, not -5"),
        (
            {"tolerance": 0.05},
            ConfigError,
            "takes no .tolerance.: OpenMM saves the start",
        ),
        ({"fallback": 1}, ConfigError, "takes no .fallback.: .* ATOMPropagator and ase-atom run"),
        ({"system_forces": "ignore"}, ConfigError, "'refuse' or 'report', not 'ignore'"),
    ],
)
def test_impossible_settings(tiny_checkpoint, topology, settings, error, message):
    system = bare_system(topology)
    with pytest.raises(error, match=message):
        build(tiny_checkpoint, topology, system, **settings)
    assert system.getNumForces() == 0


def test_operators_that_cannot_do_what_is_asked(ethanol, topology):
    operator = make_operator(strength=0.003)
    operator.has_energy = False
    with pytest.raises(ConfigError, match="no energy head to keep the energy with"):
        build(operator, topology)
    with pytest.raises(ConfigError, match="no energy head, and so no forces"):
        ATOMForce(operator, topology)
    simulation = simulate(ethanol, operator, energy_correction=False)
    simulation.step(3)
    state = simulation.context.getState(energy=True)
    assert state.getPotentialEnergy()._value == 0.0
    assert state.getKineticEnergy()._value > 0.0
    operator.predicts_velocities = False
    with pytest.raises(ConfigError, match="predicts no velocities"):
        build(operator, topology)


def with_constraint(system, topology):
    system.addConstraint(0, 1, 0.15)


def with_site(system, topology):
    system.setVirtualSite(2, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))


def without_mass(system, topology):
    system.setParticleMass(4, 0.0)


def with_heavy_hydrogen(system, topology):
    system.setParticleMass(4, 4.0)


def in_other_order(system, topology):
    carbon, hydrogen = system.getParticleMass(0), system.getParticleMass(4)
    system.setParticleMass(0, hydrogen)
    system.setParticleMass(4, carbon)


def with_one_more(system, topology):
    system.addParticle(1.0)


def in_a_box(system, topology):
    topology.setUnitCellDimensions((2, 2, 2))


def with_periodic_force(system, topology):
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    system.addForce(force)


def charged(system, topology):
    next(topology.atoms()).formalCharge = 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (with_constraint, CoverageError, "1 constraints, the first between C1 and C2.*None"),
        (with_site, CoverageError, "particle 2 is a virtual site"),
        (without_mass, CoverageError, r"particle 4 \(H2\) has no mass"),
        (with_heavy_hydrogen, CoverageError, "particle 4 .* 4.000 amu.* without hydrogenMass"),
        (in_other_order, StateError, "must have the same order of atoms"),
        (with_one_more, StateError, "has 10 particles and the topology 9 atoms"),
        (in_a_box, CoverageError, "the topology has a periodic box"),
        (with_periodic_force, CoverageError, "force field is periodic.*NoCutoff"),
        (charged, CoverageError, r"formal charges add up to \+1"),
    ],
)
def test_systems_that_operators_do_not_know(tiny_checkpoint, topology, change, error, message):
    system = bare_system(topology)
    change(system, topology)
    with pytest.raises(error, match=message):
        build(tiny_checkpoint, topology, system, system_forces="report")


def test_atoms_without_an_element(tiny_checkpoint):
    topology = Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    topology.addAtom("C1", Element.getBySymbol("C"), residue)
    topology.addAtom("EP", None, residue)
    system = openmm.System()
    with pytest.raises(CoverageError, match=r"atom 1 \(EP\) of the topology has no element"):
        build(tiny_checkpoint, topology, system)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CH3OCH3", r"bonds of the topology are not those .* tiny was trained for \(CCO\)"),
        ("CH3SH", "not trained for element S"),
        ("H2O", "bonds of the topology are not those"),
    ],
)
def test_other_molecules_by_their_bonds(tiny_checkpoint, name, message):
    with pytest.raises(CoverageError, match=message):
        build(tiny_checkpoint, openmm_topology(molecule(name)))


def test_a_general_operator_takes_any_molecule_up_to_its_size():
    operator = make_operator(strength=0.003)
    operator.card = make_card(largest_molecule=9)
    assert build(operator, openmm_topology(molecule("CH3OCH3"))).getStepSize() is not None
    with pytest.raises(CoverageError, match=r"topology has 10 atoms, .* of at most 9"):
        build(operator, openmm_topology(molecule("CH3COCH3")))
    far = molecule("H2O")
    far.positions += 10
    with pytest.raises(CoverageError, match="make 2 molecules"):
        build(operator, openmm_topology(molecule("H2O") + far))


def test_several_molecules(tiny_checkpoint, ethanol):
    far = ethanol.copy()
    far.positions += 10
    with pytest.raises(CoverageError, match="make 2 molecules"):
        build(tiny_checkpoint, openmm_topology(ethanol + far))


FORCES = {
    "MonteCarloBarostat": lambda: openmm.MonteCarloBarostat(1, 300),
    "AndersenThermostat": lambda: openmm.AndersenThermostat(300, 1),
    "CustomExternalForce": lambda: openmm.CustomExternalForce("x^2"),
    "CustomBondForce": lambda: openmm.CustomBondForce("r^2"),
    "CustomTorsionForce": lambda: openmm.CustomTorsionForce("theta^2"),
    "CustomCentroidBondForce": lambda: openmm.CustomCentroidBondForce(2, "distance(g1,g2)"),
    "CustomCVForce": lambda: openmm.CustomCVForce("1"),
    "RMSDForce": lambda: openmm.RMSDForce([openmm.Vec3(0, 0, 0)] * 9),
    "PythonForce": lambda: openmm.PythonForce(lambda state: (0, np.zeros((9, 3)))),
}


@pytest.mark.parametrize("name", FORCES)
@pytest.mark.parametrize("system_forces", ["refuse", "report"])
def test_forces_that_would_have_to_act(tiny_checkpoint, topology, name, system_forces):
    system = bare_system(topology)
    system.addForce(openmm.HarmonicBondForce())
    system.addForce(FORCES[name]())
    with pytest.raises(AtomError, match=name):
        build(tiny_checkpoint, topology, system, system_forces=system_forces)
    assert system.getNumForces() == 2


def test_a_force_field_is_refused_unless_it_is_said_to_be_there_for_reporters(
    tiny_checkpoint, topology
):
    system = bare_system(topology)
    for force in (openmm.HarmonicBondForce(), openmm.NonbondedForce(), openmm.CMMotionRemover()):
        system.addForce(force)
    with pytest.raises(ConfigError, match=r'HarmonicBondForce, NonbondedForce.*"report"'):
        build(tiny_checkpoint, topology, system)
    system.addForce(ATOMForce(tiny_checkpoint, topology))
    build(tiny_checkpoint, topology, system, system_forces="report")


def test_a_system_serves_one_integrator(tiny_checkpoint, topology):
    system = bare_system(topology)
    build(tiny_checkpoint, topology, system)
    with pytest.raises(ConfigError, match="already belongs to an ATOMIntegrator"):
        build(tiny_checkpoint, topology, system, system_forces="report")


def test_a_free_centre_of_mass_and_its_remover(tiny_checkpoint, topology):
    system = bare_system(topology)
    system.addForce(openmm.CMMotionRemover())
    with pytest.raises(ConfigError, match="CMMotionRemover, and fix_com=False"):
        build(tiny_checkpoint, topology, system, fix_com=False, **LANGEVIN)


def test_a_temperature_that_the_operator_does_not_know(tiny_checkpoint, topology):
    with pytest.warns(UserWarning, match="900 K is outside the range 1 to 500 K"):
        build(tiny_checkpoint, topology, temperature=900, friction=1)
    integrator = build(tiny_checkpoint, topology, **LANGEVIN)
    with pytest.warns(UserWarning, match="600 K is outside the range 1 to 500 K"):
        integrator.setTemperature(600 * unit.kelvin)
    assert integrator.getTemperature() == 600 * unit.kelvin


def test_settings_that_cannot_be_changed(tiny_checkpoint, topology):
    integrator = build(tiny_checkpoint, topology)
    with pytest.raises(ConfigError, match=r"time steps of 0.5 fs, not 1 fs"):
        integrator.setStepSize(1 * FEMTO)
    integrator.setStepSize(0.5 * FEMTO)
    with pytest.raises(ConfigError, match="microcanonical"):
        integrator.setTemperature(300)
    thermostatted = build(tiny_checkpoint, topology, **LANGEVIN)
    with pytest.raises(ConfigError, match="above 0 K"):
        thermostatted.setTemperature(0)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("what", ["position", "velocity"])
@pytest.mark.parametrize("steps", [0, 3])
def test_numbers_that_are_none(ethanol, platform, what, steps):
    simulation = simulate(ethanol, Springs(ethanol), platform)
    simulation.step(steps)
    values = phase(simulation)[int(what == "velocity")]
    values[5, 1] = np.nan
    if what == "position":
        simulation.context.setPositions(values * unit.angstrom)
    else:
        simulation.context.setVelocities(values * unit.angstrom / FEMTO)
    with pytest.raises(StateError, match=re.escape(f"the {what} of atom H3 is not finite")):
        simulation.step(1)


def test_positions_of_another_molecule(ethanol, tiny_checkpoint):
    topology = Topology()  # without bonds, only positions tell
    residue = topology.addResidue("MOL", topology.addChain())
    for symbol in ethanol.symbols:
        topology.addAtom(symbol, Element.getBySymbol(symbol), residue)
    system = bare_system(topology)
    integrator = build(tiny_checkpoint, topology, system)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))

    ether = molecule("CH3OCH3")
    assert sorted(ether.numbers) == sorted(ethanol.numbers)
    pools = {symbol: list(ether.symbols.search(symbol)) for symbol in "CHO"}
    rows = [pools[symbol].pop(0) for symbol in ethanol.symbols]
    context.setPositions(ether.positions[rows] * unit.angstrom)
    with pytest.raises(CoverageError, match="tiny was not trained for COC"):
        integrator.step(1)
    with pytest.raises(openmm.OpenMMException, match="tiny was not trained for COC"):
        context.getState(energy=True)
    context.setPositions(ethanol.positions * unit.angstrom)
    integrator.step(1)


def test_a_broken_start(ethanol):
    ethanol.positions[1] = ethanol.positions[0] + [0.1, 0, 0]
    simulation = simulate(ethanol, Springs(ethanol))
    with pytest.raises(StateError, match=r"starts out broken: C1 and C2 are 0\.100 Å apart"):
        march(simulation, 1)


def test_bussi_at_rest(ethanol):
    simulation = simulate(
        ethanol, Springs(ethanol), velocities=np.zeros((9, 3)), temperature=300, taut=0.1
    )
    with pytest.raises(StateError, match="at rest"):
        simulation.step(1)
