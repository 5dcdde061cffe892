"""What `ATOMIntegrator` costs a step beside the operator: ``python benchmarks/openmm_overhead.py``.

Runs of ethanol at a 0.5 fs time step and a 16 fs stride, one thread, no reporters, and the
operator alone on the same jumps, in turn; the median of their differences.
"""

from __future__ import annotations

import statistics
import time

import openmm
import torch
import typer
from ase.build import molecule
from openmm import unit
from openmm.app import Simulation

from ase_atom import ATOMIntegrator, PhaseState, load_operator
from ase_atom.io.topology import openmm_topology

STEPS = 32
"""Steps a stride."""


def main(
    operator: str = typer.Argument("ethanol-gfn2", help="Name or file of an operator for ethanol."),
    platform: str = typer.Option("Reference", help="Reference or CPU."),
    strides: int = typer.Option(10, help="Jumps in each run."),
    repeats: int = typer.Option(20, help="Runs of each kind."),
) -> None:
    """Print the time of a step with and without the operator's part."""
    torch.set_num_threads(1)
    model = load_operator(operator)
    atoms = molecule("CH3CH2OH")
    topology = openmm_topology(atoms)
    state = PhaseState.from_atoms(atoms)
    times = torch.arange(1, STEPS + 1, dtype=torch.float64) * 0.5
    kinds = {
        "NVE": {},
        "Langevin": {"temperature": 300, "friction": 1 / unit.picosecond},
        "Bussi": {"temperature": 300, "taut": 0.1 * unit.picosecond},
    }
    for name, settings in kinds.items():
        system = openmm.System()
        for atom in topology.atoms():
            system.addParticle(atom.element.mass)
        integrator = ATOMIntegrator(
            system,
            topology,
            operator,
            timestep=0.5 * unit.femtosecond,
            stride=16 * unit.femtosecond,
            energy_correction=False,
            **settings,
        )
        simulation = Simulation(
            topology, system, integrator, openmm.Platform.getPlatformByName(platform)
        )
        simulation.context.setPositions(0.1 * atoms.positions)
        simulation.context.setVelocitiesToTemperature(300, 1)
        integrator.step(2 * STEPS)
        whole, alone = [], []
        for _ in range(repeats):
            whole.append(_seconds(lambda: integrator.step(strides * STEPS)) / strides / STEPS)
            alone.append(_seconds(lambda: _jumps(model, state, times, strides)) / strides / STEPS)
        beside = statistics.median(a - b for a, b in zip(whole, alone, strict=True))
        print(
            f"{platform}, {name}: {1e6 * statistics.median(whole):.0f} µs a step, of which the "
            f"operator {1e6 * statistics.median(alone):.0f} µs and all else {1e6 * beside:.0f} µs"
        )


@torch.no_grad()
def _jumps(model, state: PhaseState, times: torch.Tensor, count: int) -> None:
    for _ in range(count):
        model(state, times)


def _seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    typer.run(main)
