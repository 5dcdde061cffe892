"""The operator's energy as a force for OpenMM's ordinary integrators, and in openmmml."""

from __future__ import annotations

import numpy as np
import openmm
import pytest
import torch
from openmm import unit
from openmm.app import Element, Topology
from openmm_systems import FEMTO, bare_system

from ase_atom import ATOMForce, PhaseState, load_operator
from ase_atom.errors import ConfigError, CoverageError, StateError
from ase_atom.io.topology import openmm_topology
from ase_atom.openmm.potential import wall_energy_and_forces
from ase_atom.propagation import Guard
from ase_atom.units import KJ_MOL

OPERATOR = "ethanol-gfn2"


def context_of(system, integrator=None, platform="Reference") -> openmm.Context:
    integrator = openmm.VerletIntegrator(0.0005) if integrator is None else integrator
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))


def energy_of(context, positions) -> float:
    context.setPositions(positions * unit.angstrom)
    return context.getState(energy=True).getPotentialEnergy()._value


@pytest.fixture
def topology(ethanol) -> Topology:
    return openmm_topology(ethanol)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_energy_and_forces_are_the_operators(ethanol, topology, platform):
    system = bare_system(topology)
    system.addForce(ATOMForce(OPERATOR, topology))
    context = context_of(system, platform=platform)
    energy, forces = load_operator(OPERATOR, engine="auto").energy_and_forces(
        PhaseState.from_atoms(ethanol)
    )
    assert energy_of(context, ethanol.positions) == pytest.approx(float(energy) / KJ_MOL, rel=1e-12)
    found = context.getState(forces=True).getForces(asNumpy=True)._value
    assert np.allclose(found, forces[0].numpy() * 10 / KJ_MOL, rtol=1e-6, atol=0.01)


def test_forces_are_the_gradient(ethanol, topology):
    ethanol.rattle(0.05, seed=1)
    system = bare_system(topology)
    system.addForce(ATOMForce(OPERATOR, topology, precision="double"))
    context = context_of(system)
    context.setPositions(ethanol.positions * unit.angstrom)
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    h = 1e-3  # Å
    for atom, axis in [(0, 0), (2, 1), (5, 2), (8, 0)]:
        moved = np.zeros((9, 3))
        moved[atom, axis] = h
        plus, minus = (energy_of(context, ethanol.positions + s * moved) for s in (1, -1))
        assert forces[atom, axis] == pytest.approx(-(plus - minus) / (0.2 * h), abs=0.05)


def test_an_ordinary_integrator_keeps_the_energy(ethanol, topology):
    system = bare_system(topology)
    system.addForce(ATOMForce(OPERATOR, topology))
    integrator = openmm.VerletIntegrator(0.5 * FEMTO)
    context = context_of(system, integrator)
    context.setPositions(ethanol.positions * unit.angstrom)
    context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    integrator.step(1)
    totals, kinetic = [], []
    for _ in range(20):
        integrator.step(5)
        state = context.getState(energy=True)
        kinetic.append(state.getKineticEnergy()._value)
        totals.append(kinetic[-1] + state.getPotentialEnergy()._value)
    assert np.ptp(totals) < 0.05 * np.ptp(kinetic)


def test_a_serialised_force_gives_the_same_energy(ethanol, topology):
    system = bare_system(topology)
    system.addForce(ATOMForce(OPERATOR, topology))
    text = openmm.XmlSerializer.serialize(system)
    assert len(text) < 20_000
    copy = openmm.XmlSerializer.deserialize(text)
    one, other = (energy_of(context_of(each), ethanol.positions) for each in (system, copy))
    assert one == other


def test_a_molecule_in_a_larger_system(ethanol, topology):
    residue = topology.addResidue("AR", topology.addChain())
    topology.addAtom("Ar", Element.getBySymbol("Ar"), residue)
    topology.setUnitCellDimensions((3, 3, 3))
    system = bare_system(topology)
    system.addForce(ATOMForce(OPERATOR, topology, atoms=range(9)))
    context = context_of(system)
    positions = np.vstack([ethanol.positions, [9.0, 9.0, 9.0]])
    alone = bare_system(openmm_topology(ethanol))
    alone.addForce(ATOMForce(OPERATOR, openmm_topology(ethanol)))
    assert energy_of(context, positions) == energy_of(context_of(alone), ethanol.positions)
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    assert not forces[9].any()

    with pytest.raises(CoverageError, match="periodic box"):
        ATOMForce(OPERATOR, topology)
    with pytest.raises(StateError, match="the topology has 10 atoms, and atom 10 is asked for"):
        ATOMForce(OPERATOR, topology, atoms=range(2, 11))
    with pytest.raises(CoverageError, match="not trained for element Ar"):
        ATOMForce(OPERATOR, topology, atoms=range(1, 10))


def test_bad_input_to_the_force(ethanol, topology):
    with pytest.raises(ConfigError, match="precision is 'single' or 'double', not 'half'"):
        ATOMForce(OPERATOR, topology, precision="half")
    system = bare_system(topology)
    system.addForce(ATOMForce(OPERATOR, topology))
    context = context_of(system)
    ethanol.positions[3, 1] = np.nan
    with pytest.raises(openmm.OpenMMException, match="the position of atom H1 is not finite"):
        energy_of(context, ethanol.positions)


@pytest.mark.filterwarnings("ignore")  # of other potentials, as openmmml loads them all
def test_openmmml_finds_the_potential(ethanol, topology):
    openmmml = pytest.importorskip("openmmml")
    potential = openmmml.MLPotential("ase-atom", operator=OPERATOR)
    system = potential.createSystem(topology)
    energy, _ = load_operator(OPERATOR, engine="auto").energy_and_forces(
        PhaseState.from_atoms(ethanol)
    )
    found = energy_of(context_of(system), ethanol.positions)
    assert found == pytest.approx(float(energy) / KJ_MOL, rel=1e-12)
    with pytest.raises(ConfigError, match="takes no modelPath"):
        potential.createSystem(topology, modelPath="x")
    with pytest.raises(CoverageError, match="charge"):
        potential.createSystem(topology, charge=1)
    with pytest.raises(ConfigError, match="operator="):
        openmmml.MLPotential("ase-atom")


@pytest.mark.filterwarnings("ignore")
def test_openmmml_embeds_the_molecule(ethanol, topology):
    openmmml = pytest.importorskip("openmmml")
    residue = topology.addResidue("AR", topology.addChain())
    topology.addAtom("Ar", Element.getBySymbol("Ar"), residue)
    mechanical = bare_system(topology)
    nonbonded = openmm.NonbondedForce()
    for _ in range(9):
        nonbonded.addParticle(0.0, 0.3, 0.0)
    nonbonded.addParticle(0.0, 0.3, 1.0)
    mechanical.addForce(nonbonded)
    potential = openmmml.MLPotential("ase-atom", operator=OPERATOR)
    system = potential.createMixedSystem(topology, mechanical, list(range(9)))
    energy, _ = load_operator(OPERATOR, engine="auto").energy_and_forces(
        PhaseState.from_atoms(ethanol)
    )
    positions = np.vstack([ethanol.positions, [9.0, 9.0, 9.0]])
    found = energy_of(context_of(system), positions)
    assert found == pytest.approx(float(energy) / KJ_MOL, rel=1e-9)


@pytest.mark.parametrize("kelvin", [0, 500])
def test_minimisation_ends_in_the_basin(ethanol, topology, kelvin):
    system = bare_system(topology)
    system.addForce(ATOMForce(OPERATOR, topology))
    integrator = openmm.LangevinMiddleIntegrator(kelvin, 50, 0.5 * FEMTO)
    integrator.setRandomNumberSeed(1)
    context = context_of(system, integrator)
    context.setPositions(ethanol.positions * unit.angstrom)
    relaxed = context.getState(energy=True).getPotentialEnergy()._value
    integrator.step(100 if kelvin else 0)
    openmm.LocalEnergyMinimizer.minimize(context)
    found = context.getState(energy=True).getPotentialEnergy()._value
    assert found == pytest.approx(relaxed, abs=0.05)  # kJ/mol, of ethanol's relaxed structure


def test_the_wall_is_where_molecules_break_and_has_its_gradient(ethanol):
    state = PhaseState.from_atoms(ethanol)
    limits = Guard.watch(state)
    energy, forces = wall_energy_and_forces(limits, state.positions)
    assert not energy.any()
    assert not forces.any()
    broken = state.positions.clone()
    broken[0, 8] += torch.tensor([0.9, 0.3, -0.5])
    broken[0, 1] = broken[0, 0] + torch.tensor([0.4, 0.2, 0.1])
    broken.requires_grad_(True)
    energy, forces = wall_energy_and_forces(limits, broken)
    (gradient,) = torch.autograd.grad(energy.sum(), broken)
    assert energy.item() > 10.0
    torch.testing.assert_close(forces.detach(), -gradient)
