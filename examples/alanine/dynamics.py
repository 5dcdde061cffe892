"""Langevin dynamics of alanine dipeptide (Amber ff96, vacuum) in OpenMM, for leaps to learn from.

python examples/alanine/dynamics.py alanine.dcd --ns 40 --temperature 300 --seed 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

from openmm import LangevinMiddleIntegrator, Platform
from openmm.app import (
    AmberInpcrdFile,
    AmberPrmtopFile,
    DCDReporter,
    HBonds,
    NoCutoff,
    PDBFile,
    Simulation,
)
from openmm.unit import femtoseconds, kelvin, picosecond

FILES = Path(__file__).parent / "alanine-dipeptide"
STEP = 2.0
"""fs, with bonds to hydrogen constrained."""
FRAME = 125
"""Steps between frames: 0.25 ps."""


def simulation(kelvins: float, seed: int) -> Simulation:
    """Alanine dipeptide at a minimum, with friction 10 per ps and thermal velocities."""
    amber = AmberPrmtopFile(f"{FILES}.prmtop")
    system = amber.createSystem(nonbondedMethod=NoCutoff, constraints=HBonds)
    integrator = LangevinMiddleIntegrator(kelvins * kelvin, 10 / picosecond, STEP * femtoseconds)
    integrator.setRandomNumberSeed(seed)
    # For so few atoms the Reference platform is the fastest on a CPU, and in double precision.
    made = Simulation(amber.topology, system, integrator, Platform.getPlatformByName("Reference"))
    made.context.setPositions(AmberInpcrdFile(f"{FILES}.crd").positions)
    made.minimizeEnergy()
    made.context.setVelocitiesToTemperature(kelvins * kelvin, seed)
    return made


def main() -> None:
    """Run the dynamics, 100 ps of which are before the first frame, and write a PDB file beside."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="DCD file")
    parser.add_argument("--ns", type=float, default=40.0)
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    made = simulation(asked.temperature, asked.seed)
    made.step(round(100e3 / STEP))
    with Path(asked.output).with_suffix(".pdb").open("w") as beside:
        state = made.context.getState(positions=True)
        PDBFile.writeFile(made.topology, state.getPositions(), beside)
    made.reporters.append(DCDReporter(asked.output, FRAME))
    made.step(round(asked.ns * 1e6 / STEP / FRAME) * FRAME)


if __name__ == "__main__":
    main()
