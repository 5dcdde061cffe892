"""What tests of the ASE integrators share: warm atoms, counted forces, the course of a run."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from springs import SpringOperator

from ase_atom import ATOMPropagator, PhaseState

FS = units.fs


class Counting(Calculator):
    """Springs, as in `SpringOperator`, that count how often they are evaluated."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as ASE has it

    def __init__(self, springs: SpringOperator) -> None:
        super().__init__()
        self.springs = springs
        self.count = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.count += 1
        u = self.atoms.positions - self.springs.reference.numpy()
        forces = -self.springs.stiffness * (len(u) * u - u.sum(axis=0))
        energy = float(self.springs.energy(PhaseState.from_atoms(self.atoms))[0])
        self.results = {"energy": energy, "forces": forces}


def thermal(atoms: Atoms, seed: int = 0) -> Atoms:
    masses = atoms.get_masses()[:, None]
    noise = np.random.default_rng(seed).standard_normal((len(atoms), 3))
    atoms.set_momenta(noise * np.sqrt(masses * units.kB * 300))
    return atoms


def record(dynamics: ATOMPropagator) -> list[tuple[int, np.ndarray, np.ndarray]]:
    seen = []

    def look() -> None:
        atoms = dynamics.atoms
        seen.append((dynamics.nsteps, atoms.get_positions(), atoms.get_momenta()))

    dynamics.attach(look, interval=1)
    return seen
