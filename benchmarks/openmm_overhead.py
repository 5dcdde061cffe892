"""What `ATOMIntegrator` costs a step beside the operator: ``python benchmarks/openmm_overhead.py``.

Runs of ethanol at a 0.5 fs time step and a 16 fs stride, one thread, no reporters, and the
operator alone on the same jumps, in turn; the least time of each. And runs with so many
steps a stride that only what each step costs is left, not what each jump does. The same
with a callback that answers zeros at once shows what OpenMM's own part of it is. Times are the
processor's, which other programs disturb less than the clock's. Then many steps in a row, and how
much more memory is resident after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
import typer
from ase.build import molecule
from openmm import unit
from openmm.app import Simulation

from ase_atom import ATOMIntegrator, PhaseState, load_operator
from ase_atom.io.topology import openmm_topology
from ase_atom.openmm.program import Answer
from ase_atom.operator import OperatorLike

STEPS = 32
"""Steps a stride."""

FINE = 50
"""So many times more steps a stride, at which only what each step costs is left."""


def main(
    operator: str = typer.Argument("ethanol-gfn2", help="Name or file of an operator for ethanol."),
    platform: str = typer.Option("Reference", help="Reference or CPU."),
    strides: int = typer.Option(10, help="Jumps in each run."),
    repeats: int = typer.Option(20, help="Runs of each kind."),
    engine: str = typer.Option("auto", help="As for load_operator."),
    steps: int = typer.Option(100_000, help="Steps in a row, for the memory; 0 for none."),
) -> None:
    """Print the time of a step with and without the operator's part, and the growth of memory."""
    torch.set_num_threads(1)
    model = load_operator(operator, engine)
    state = PhaseState.from_atoms(molecule("CH3CH2OH"))
    times = torch.arange(1, STEPS + 1, dtype=torch.float64) * 0.5
    kinds = {
        "NVE": {},
        "Langevin": {"temperature": 300, "friction": 1 / unit.picosecond},
        "Bussi": {"temperature": 300, "taut": 0.1 * unit.picosecond},
    }
    for name, settings in kinds.items():
        integrator, _simulation = _begin(model, platform, STEPS, settings)
        fine, _other = _begin(model, platform, FINE * STEPS, settings)
        bare, _third = _begin(model, platform, FINE * STEPS, settings)
        bare._callback._answer = partial(_zeros, np.zeros(state.positions.shape[1:]))
        whole, alone, handing, own = [], [], [], []
        for _ in range(repeats):
            whole.append(_seconds(integrator.step, strides * STEPS) / strides / STEPS)
            alone.append(_seconds(_jumps, model, state, times, strides) / strides / STEPS)
            handing.append(_seconds(fine.step, FINE * STEPS) / FINE / STEPS)
            own.append(_seconds(bare.step, FINE * STEPS) / FINE / STEPS)
        print(
            f"{platform}, {name}: {1e6 * min(whole):.0f} µs a step, of which the operator "
            f"{1e6 * min(alone):.0f} µs and all else {1e6 * (min(whole) - min(alone)):.0f} µs; "
            f"at {FINE * STEPS} steps a stride {1e6 * min(handing):.0f} µs in all, "
            f"of which {1e6 * min(own):.0f} µs with a callback that does nothing"
        )
    if steps:
        before = _resident()
        integrator.step(steps)
        print(f"{steps} steps: {_resident() - before:+.1f} MiB resident, of {before:.0f} MiB")


def _begin(
    operator: OperatorLike, platform: str, steps: int, settings: dict[str, Any]
) -> tuple[ATOMIntegrator, Simulation]:
    """Return an integrator past its first strides, with so many steps in each of 16 fs."""
    atoms = molecule("CH3CH2OH")
    topology = openmm_topology(atoms)
    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
    integrator = ATOMIntegrator(
        system,
        topology,
        operator,
        timestep=16 / steps * unit.femtosecond,
        stride=16 * unit.femtosecond,
        energy_correction=False,
        reversible=False,  # one pass of the operator a stride, as timed alone
        **settings,
    )
    simulation = Simulation(
        topology, system, integrator, openmm.Platform.getPlatformByName(platform)
    )
    simulation.context.setPositions(0.1 * atoms.positions)
    simulation.context.setVelocitiesToTemperature(300, 1)
    integrator.step(2 * steps)
    return integrator, simulation


@torch.inference_mode()  # as the integrator's jumps
def _jumps(model: OperatorLike, state: PhaseState, times: torch.Tensor, count: int) -> None:
    for _ in range(count):
        model(state, times)


def _zeros(forces: np.ndarray, _: openmm.State) -> tuple[float, np.ndarray]:
    # All frames are good, so that as many are passed over as usual.
    return Answer.READY + FINE * STEPS, forces


def _resident() -> float:
    """Return the resident memory in MiB, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _seconds(work: Callable[..., None], *arguments: Any) -> float:
    begin = time.process_time()
    work(*arguments)
    return time.process_time() - begin


if __name__ == "__main__":
    typer.run(main)
