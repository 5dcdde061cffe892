"""OpenMM Systems, and operators cheap enough to march many steps through them."""

from __future__ import annotations

import numpy as np
import openmm
from ase import Atoms
from openmm import unit
from openmm.app import Simulation, Topology
from springs import SpringOperator

from ase_atom import ATOMIntegrator
from ase_atom.io.topology import openmm_topology

FEMTO = unit.femtosecond
Springs = SpringOperator
LANGEVIN = {"temperature": 300 * unit.kelvin, "friction": 10 / unit.picosecond}


def bare_system(topology: Topology) -> openmm.System:
    """Return a System of a topology's atoms without forces."""
    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
    return system


def simulate(
    atoms: Atoms,
    operator: object,
    platform: str = "Reference",
    seed: int = 1,
    timestep: float = 0.5,
    stride: float = 4.0,
    system: openmm.System | None = None,
    velocities: np.ndarray | None = None,
    **settings: object,
) -> Simulation:
    """Return a Simulation of a molecule at thermal velocities, or at given ones in Å/fs."""
    topology = openmm_topology(atoms)
    system = bare_system(topology) if system is None else system
    integrator = ATOMIntegrator(
        system, topology, operator, timestep * FEMTO, stride * FEMTO, **settings
    )
    integrator.setRandomNumberSeed(seed)
    properties = {"Threads": "1"} if platform == "CPU" else {}
    simulation = Simulation(
        topology, system, integrator, openmm.Platform.getPlatformByName(platform), properties
    )
    simulation.context.setPositions(atoms.positions * unit.angstrom)
    if velocities is None:
        simulation.context.setVelocitiesToTemperature(300 * unit.kelvin, seed)
    else:
        simulation.context.setVelocities(velocities * unit.angstrom / FEMTO)
    return simulation


def phase(simulation: Simulation) -> np.ndarray:
    """Return positions in Å and velocities in Å/fs, ``[2, N, 3]``."""
    state = simulation.context.getState(positions=True, velocities=True)
    return np.stack(
        [
            state.getPositions(asNumpy=True).value_in_unit(unit.angstrom),
            state.getVelocities(asNumpy=True).value_in_unit(unit.angstrom / FEMTO),
        ]
    )


def march(simulation: Simulation, steps: int) -> np.ndarray:
    """Return the positions and velocities after each of some steps, ``[T, 2, N, 3]``."""
    frames = []
    for _ in range(steps):
        simulation.step(1)
        frames.append(phase(simulation))
    return np.stack(frames)
