"""Thermostatted dynamics of ethanol in an OpenMM `Simulation` with OpenMM's reporters.

Run from this folder: ``python openmm_langevin.py``, then ``vmd ethanol.pdb openmm.dcd``. The
statement below ``was:`` is the only difference from the script for OpenMM's integrator, which uses
the same potential energy.
"""

from openmm import CMMotionRemover, LangevinMiddleIntegrator, System  # noqa: F401
from openmm.app import DCDReporter, PDBFile, Simulation, StateDataReporter
from openmm.unit import femtoseconds, kelvin, picosecond

from ase_atom import ATOMForce, ATOMIntegrator

pdb = PDBFile("ethanol.pdb")
system = System()
for atom in pdb.topology.atoms():
    system.addParticle(atom.element.mass)
system.addForce(ATOMForce("ethanol-gfn2", pdb.topology))
system.addForce(CMMotionRemover())

# was: integrator = LangevinMiddleIntegrator(300 * kelvin, 10 / picosecond, 0.5 * femtoseconds)
integrator = ATOMIntegrator(
    system,
    pdb.topology,
    "ethanol-gfn2",
    timestep=0.5 * femtoseconds,
    stride=16 * femtoseconds,
    temperature=300 * kelvin,
    friction=10 / picosecond,
    system_forces="report",
)

integrator.setRandomNumberSeed(1)
simulation = Simulation(pdb.topology, system, integrator)
simulation.context.setPositions(pdb.positions)
simulation.minimizeEnergy()
simulation.context.setVelocitiesToTemperature(300 * kelvin, 1)
simulation.reporters.append(DCDReporter("openmm.dcd", 10))
simulation.reporters.append(
    StateDataReporter(
        "openmm.csv", 10, step=True, time=True, potentialEnergy=True, temperature=True
    )
)
simulation.step(2000)
