"""Energy of each vibration along a run: ``python -m benchmarks.mode_temperatures OPERATOR O C=O``.

Prints the kinetic temperature of rotation and of each normal mode in K, in quarters of a run from
one Langevin start at 300 K, as the median over replicas and, in brackets, the mean. At constant
energy vibrations of small molecules hardly exchange energy, so each keeps what it has. With
``--timestep`` the same starts go on by velocity Verlet with the operator's own forces.
"""

from __future__ import annotations

import numpy as np
import torch
import typer
from ase import Atoms
from numpy.typing import NDArray

from ase_atom import NVE, Bussi, Langevin, PhaseState, PotentialSteps, Propagator, load_operator
from ase_atom.analysis.molecule.harmonic import NormalModes
from ase_atom.analysis.molecule.minima import HeadCalculator, modes_at, relax
from ase_atom.ase.conformer import from_smiles
from ase_atom.operator import OperatorLike
from ase_atom.propagation import Ensemble, equilibrate, sample_velocities
from ase_atom.superposition import superposing_rotations
from ase_atom.units import AMU_A2_FS2_IN_EV, KB, PS

TEMPERATURE, STRIDE, PARTS = 300.0, 16.0, 4
ENSEMBLES: dict[str, Ensemble] = {
    "nve": NVE(),
    "bussi": Bussi(TEMPERATURE, 100.0),
    "langevin": Langevin(TEMPERATURE, 0.01),
}


def minimum_of(operator: OperatorLike, smiles: str) -> Atoms:
    """The minimum of the operator's potential that a conformer relaxes to, with a calculator."""
    minimum = relax(from_smiles(smiles, 0), HeadCalculator(operator))
    if minimum is None:
        raise typer.BadParameter(f"{smiles} does not relax to a minimum")
    return minimum


def temperatures(modes: NormalModes, state: PhaseState) -> NDArray:
    """Kinetic temperatures of rotation and of each mode in K, ``[B, 1 + M]``."""
    x, v = state.positions.double().numpy(), state.velocities.double().numpy()
    fractions = modes.masses / modes.masses.sum()
    x, v = (side - np.einsum("n,bnd->bd", fractions, side)[:, None] for side in (x, v))
    frame, _ = superposing_rotations(x, modes.positions, modes.masses)
    x, v = x @ frame, v @ frame
    _, internal, spin = modes.in_eckart_frame(x, v)
    speeds = (internal * np.sqrt(modes.masses)[:, None]).reshape(len(x), -1) @ modes.vectors
    turning = (modes.masses[:, None] * np.cross(spin[:, None], x) ** 2).sum((1, 2), keepdims=True)
    freedom = 3 * len(modes.masses) - 3 - len(modes.squares)
    found: NDArray = np.concatenate([turning[:, 0] / freedom, speeds**2], axis=1)
    return found * AMU_A2_FS2_IN_EV / KB


def started(operator: OperatorLike, minimum: Atoms, replicas: int) -> PhaseState:
    """Replicas at 300 K, by Langevin dynamics."""
    state = PhaseState.from_atoms(minimum).repeat(replicas)
    state = sample_velocities(state, TEMPERATURE, torch.Generator().manual_seed(0))
    return equilibrate(operator, state, TEMPERATURE, duration=640.0, seed=1).state


def main(
    operator: str,
    molecules: list[str],
    ensemble: str = typer.Option("nve", help="nve, bussi or langevin."),
    replicas: int = typer.Option(12, help="Molecules that move together."),
    time: float = typer.Option(8.0, help="Length of a run in ps."),
    timestep: float | None = typer.Option(None, help="Steps by forces, fs, in place of jumps."),
) -> None:
    """Print a table for each molecule."""
    torch.set_num_threads(1)
    model = load_operator(operator, engine="auto")
    mover = model if timestep is None else PotentialSteps(model, timestep)
    for smiles in molecules:
        minimum = minimum_of(model, smiles)
        modes, state = modes_at(minimum), started(model, minimum, replicas)
        march = Propagator(mover, state, ENSEMBLES[ensemble], STRIDE, drop_broken=True, seed=2)
        kelvin = [temperatures(modes, march.state) for _ in march.run(time * PS)]
        print(
            f"\n{smiles}, {ensemble}: {replicas - len(march.broken)} of {replicas} unbroken "
            f"after {time:g} ps\n"
        )
        waves = [f"{wave:.0f} 1/cm" for wave in modes.wavenumbers]
        print("| ps | rotation |", " | ".join(waves), "|\n|---|---|" + "---|" * len(waves))
        for place, part in enumerate(np.array_split(np.array(kelvin), PARTS)):
            cells = zip(np.median(part.mean(0), axis=0), part.mean((0, 1)), strict=True)
            until = time * (place + 1) / PARTS
            print(f"| to {until:g} |", " | ".join(f"{a:.0f} ({b:.0f})" for a, b in cells), "|")


if __name__ == "__main__":
    typer.run(main)
