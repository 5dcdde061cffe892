"""OpenMM knows which atoms are one molecule, and keeps them together in its periodic box."""

from __future__ import annotations

from copy import deepcopy

import mdtraj
import numpy as np
import openmm
import pytest
from openmm import unit
from openmm.app import DCDReporter, Element, PDBReporter, Simulation, Topology, XTCReporter
from openmm_systems import FEMTO, Springs, bare_system, march, phase, simulate

from ase_atom import ATOMForce, load_operator
from ase_atom.errors import ConfigError
from ase_atom.io.topology import openmm_topology

OPERATOR = "ethanol-gfn2"
BOX = 2.5
"""nm, the edge of the box."""


def copy_of(topology: Topology, bonds: bool, argon: bool) -> Topology:
    """Return a copy of a topology, with or without its bonds, and an atom more in a box."""
    copy = Topology()
    chain = copy.addChain()
    residue = copy.addResidue("MOL", chain)
    atoms = [copy.addAtom(atom.name, atom.element, residue) for atom in topology.atoms()]
    if bonds:
        for first, second in topology.bonds():
            copy.addBond(atoms[first.index], atoms[second.index])
    if argon:
        copy.addAtom("AR", Element.getBySymbol("Ar"), copy.addResidue("AR", chain))
        copy.setPeriodicBoxVectors(BOX * np.eye(3) * unit.nanometer)
    return copy


def boxed_system(topology: Topology) -> openmm.System:
    """Return a periodic System of a molecule and an argon, with the force field of the latter."""
    system = bare_system(topology)
    system.setDefaultPeriodicBoxVectors(*(BOX * np.eye(3)))
    nonbonded = openmm.NonbondedForce()
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    for _ in range(9):
        nonbonded.addParticle(0.0, 0.3, 0.0)
    nonbonded.addParticle(0.0, 0.3, 0.1)
    system.addForce(nonbonded)
    return system


def with_force(topology: Topology) -> openmm.System:
    system = boxed_system(topology)
    system.addForce(ATOMForce(OPERATOR, topology, atoms=range(9)))
    return system


def with_operator_in_memory(topology: Topology) -> openmm.System:
    system = boxed_system(topology)
    system.addForce(ATOMForce(load_operator(OPERATOR), topology, atoms=range(9)))
    return deepcopy(system)


def serialised(topology: Topology) -> openmm.System:
    text = openmm.XmlSerializer.serialize(with_force(topology))
    return openmm.XmlSerializer.deserialize(text)


def mixed(topology: Topology, **settings: object) -> openmm.System:
    openmmml = pytest.importorskip("openmmml")
    potential = openmmml.MLPotential("ase-atom", operator=OPERATOR)
    return potential.createMixedSystem(topology, boxed_system(topology), list(range(9)), **settings)


def interpolated(topology: Topology) -> openmm.System:
    return mixed(topology, interpolate=True)


def longest_bond(positions: np.ndarray, bonds: list[tuple[int, int]]) -> float:
    """Return the length of the longest of some bonds, in any frame, in the positions' unit."""
    first, second = np.transpose(bonds)
    return np.linalg.norm(positions[..., first, :] - positions[..., second, :], axis=-1).max()


@pytest.mark.filterwarnings("ignore")  # of other potentials, as openmmml loads them all
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("bonds", [True, False], ids=["bonds", "no bonds"])
@pytest.mark.parametrize(
    "build", [with_force, with_operator_in_memory, serialised, mixed, interpolated]
)
def test_the_operators_molecule_stays_whole_in_a_box(ethanol, tmp_path, build, bonds, platform):
    known = [(a.index, b.index) for a, b in openmm_topology(ethanol).bonds()]
    topology = copy_of(openmm_topology(ethanol), bonds, argon=True)
    simulation = Simulation(
        topology,
        build(topology),
        openmm.LangevinMiddleIntegrator(300, 1, 0.5 * FEMTO),
        openmm.Platform.getPlatformByName(platform),
    )
    context = simulation.context
    centred = ethanol.positions - ethanol.positions.mean(axis=0)
    centred[:, 0] += 10 * BOX - 0.1  # over the edge
    context.setPositions(np.vstack([centred, [12.0, 12.0, 22.0]]) * unit.angstrom)
    context.setVelocitiesToTemperature(300, 1)
    assert sorted(len(part) for part in context.getMolecules()) == [1, 9]

    names = {"default.dcd": DCDReporter, "wrapped.dcd": DCDReporter, "t.xtc": XTCReporter}
    for name, kind in (names | {"t.pdb": PDBReporter}).items():
        wrap = {"enforcePeriodicBox": True} if name == "wrapped.dcd" else {}
        simulation.reporters.append(kind(str(tmp_path / name), 2, **wrap))
    simulation.step(4)
    simulation.reporters.clear()
    structure = mdtraj.Topology.from_openmm(topology)
    for name in names:
        frames = mdtraj.load(tmp_path / name, top=structure)
        assert len(frames) == 2
        assert longest_bond(frames.xyz, known) < 0.17  # nm
    assert longest_bond(mdtraj.load(tmp_path / "t.pdb").xyz, known) < 0.17

    whole = context.getState(positions=True, energy=True)
    wrapped = context.getState(positions=True, enforcePeriodicBox=True).getPositions(asNumpy=True)
    moved = (wrapped - whole.getPositions(asNumpy=True))._value[:9] / BOX
    assert np.abs(moved - np.round(moved[0])).max() < 1e-9
    context.setPositions(wrapped)
    again = context.getState(energy=True).getPotentialEnergy()._value
    assert again == pytest.approx(whole.getPotentialEnergy()._value, abs=0.05)  # kJ/mol


def test_a_barostat_scales_the_box_and_not_the_molecule(ethanol):
    topology = copy_of(openmm_topology(ethanol), bonds=False, argon=True)
    system = with_force(topology)
    system.addForce(openmm.MonteCarloBarostat(1.0, 300, 1))
    integrator = openmm.VerletIntegrator(1e-7)  # ps: nothing else moves
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    start = np.vstack([ethanol.positions, [12.0, 12.0, 12.0]])
    context.setPositions(start * unit.angstrom)
    integrator.step(20)
    found = context.getState(positions=True)
    assert found.getPeriodicBoxVolume()._value != pytest.approx(BOX**3, rel=1e-6)
    positions = found.getPositions(asNumpy=True).value_in_unit(unit.angstrom)[:9]
    shift = positions - ethanol.positions
    assert np.abs(shift - shift[0]).max() < 1e-4


@pytest.mark.parametrize("bonds", [True, False], ids=["bonds", "no bonds"])
def test_jumps_are_reported_whole(ethanol, tmp_path, bonds):
    known = [(a.index, b.index) for a, b in openmm_topology(ethanol).bonds()]
    ethanol.positions += [19.9, 0.0, 0.0]  # over the edge of the box that every System has
    free, watched = (simulate(ethanol, Springs(ethanol)) for _ in range(2))
    watched.topology = copy_of(watched.topology, bonds, argon=False)
    assert [len(part) for part in watched.context.getMolecules()] == [9]
    for wrap in (True, None):
        name = str(tmp_path / f"{wrap}.dcd")
        watched.reporters.append(DCDReporter(name, 3, enforcePeriodicBox=wrap))
    expected = march(free, 24)[:, 0]
    watched.step(24)
    watched.reporters.clear()
    assert np.array_equal(phase(watched), phase(free))  # reporters change nothing
    structure = mdtraj.Topology.from_openmm(free.topology)
    wrapped, plain = (mdtraj.load(tmp_path / f"{wrap}.dcd", top=structure) for wrap in (True, None))
    assert longest_bond(wrapped.xyz, known) < 0.2
    assert np.abs(10 * plain.xyz - expected[2::3]).max() < 1e-5  # Å
    moved = (wrapped.xyz - plain.xyz) / 2.0
    assert np.abs(moved - np.round(moved[:, :1])).max() < 1e-6
    assert moved.any()


def test_the_bonds_have_no_strength(ethanol):
    simulation = simulate(ethanol, Springs(ethanol))
    (bonds,) = (f for f in simulation.system.getForces() if type(f) is openmm.HarmonicBondForce)
    group = bonds.getForceGroup()
    found = simulation.context.getState(energy=True, forces=True, groups={group})
    assert found.getPotentialEnergy()._value == 0.0
    assert not found.getForces(asNumpy=True)._value.any()


def test_a_system_gets_the_bonds_once(ethanol):
    simulation = simulate(ethanol, Springs(ethanol))
    count = simulation.system.getNumForces()
    with pytest.raises(ConfigError, match="already belongs to an ATOMIntegrator"):
        simulate(ethanol, Springs(ethanol), system=simulation.system)
    assert simulation.system.getNumForces() == count
