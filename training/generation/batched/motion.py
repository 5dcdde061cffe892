"""Relaxation and dynamics of a batch of molecules, padded to the atoms of the largest.

The state holds positions in Å, velocities in Å/fs, masses in amu, forces in eV/Å. Every molecule
has a random generator of its own, so that its noise does not depend on what is beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import PropertyNotImplementedError
from ase.optimize import BFGS
from numpy.typing import NDArray

from ase_atom.units import AMU_A2_FS2_IN_EV, KB, velocities_from_ase
from training.engines.potential import Evaluation, Potential


@dataclass
class Batch:
    """A batch of B molecules with room for N atoms each.

    Attributes
    ----------
    numbers
        Atomic numbers ``[B, N]``, 0 for padding.
    masses
        ``[B, N]`` in amu, 1 for padding.
    charges
        Total charges ``[B]`` in e.
    positions, velocities
        ``[B, N, 3]`` in Å and Å/fs; padding lies still at the origin.
    """

    numbers: NDArray[np.int64]
    masses: NDArray[np.float64]
    charges: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]

    @classmethod
    def of(cls, molecules: Sequence[Atoms], charges: Sequence[int]) -> Batch:
        """Put molecules, with their velocities, side by side."""
        shape = (len(molecules), max(map(len, molecules), default=0))
        batch = cls(
            np.zeros(shape, dtype=np.int64),
            np.ones(shape),
            np.array(charges, dtype=np.int64),
            np.zeros((*shape, 3)),
            np.zeros((*shape, 3)),
        )
        for row, atoms in enumerate(molecules):
            n = len(atoms)
            batch.numbers[row, :n] = atoms.numbers
            batch.masses[row, :n] = atoms.get_masses()
            batch.positions[row, :n] = atoms.positions
            batch.velocities[row, :n] = velocities_from_ase(atoms.get_velocities())
        return batch

    def take(self, rows: Sequence[int]) -> Batch:
        """Return a batch of some of the molecules."""
        return Batch(*(getattr(self, field.name)[list(rows)] for field in fields(self)))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of atoms of each molecule ``[B]``."""
        return (self.numbers > 0).sum(1)

    def evaluate(self, potential: Potential) -> Evaluation:
        """Evaluate the potential where the atoms are."""
        return potential(self.positions, self.numbers, self.charges)

    def thermal_velocities(
        self, temperatures: NDArray[np.float64], generators: Sequence[np.random.Generator]
    ) -> NDArray[np.float64]:
        """Draw Maxwell-Boltzmann velocities ``[B, N, 3]`` in Å/fs at temperatures ``[B]`` in K."""
        noise = np.zeros_like(self.positions)
        for row, (size, generator) in enumerate(zip(self.sizes, generators, strict=True)):
            noise[row, :size] = generator.standard_normal((size, 3))
        widths = np.sqrt(KB * temperatures[:, None] / (self.masses * AMU_A2_FS2_IN_EV))
        return noise * widths[..., None]

    def stop_centres_of_mass(self) -> None:
        """Put each centre of mass at the origin and at rest; rotation and shape stay."""
        weights = np.where(self.numbers > 0, self.masses, 0.0)[..., None]
        weights /= weights.sum(1, keepdims=True)
        there = (self.numbers > 0)[..., None]
        self.positions -= there * (weights * self.positions).sum(1, keepdims=True)
        self.velocities -= there * (weights * self.velocities).sum(1, keepdims=True)


class _Known(GetPropertiesMixin):
    """Forces that were computed elsewhere, for an optimiser of ASE."""

    forces: NDArray[np.float64]

    def get_property(self, name: str, *_: object) -> NDArray[np.float64]:
        if name != "forces":
            raise PropertyNotImplementedError(name)
        return self.forces


def relax(batch: Batch, potential: Potential, steps: int, fmax: float = 0.05) -> None:
    """Take up to so many steps downhill by ASE's `BFGS`, each molecule with a Hessian of its own.

    Parameters
    ----------
    fmax
        A molecule is left alone once no atom feels a force above this, eV/Å.
    """
    molecules = [
        Atoms(numbers[:size], positions[:size])
        for numbers, positions, size in zip(
            batch.numbers, batch.positions, batch.sizes, strict=True
        )
    ]
    for atoms in molecules:
        atoms.calc = _Known()
    optimisers = [BFGS(atoms, logfile=None) for atoms in molecules]
    moving = set(range(len(molecules)))
    for _ in range(steps):
        forces = batch.evaluate(potential).forces
        largest = np.linalg.norm(forces, axis=-1).max(1)
        # Not a number: a molecule that is lost, which the checks of its burst will say.
        moving = {row for row in moving if largest[row] > fmax}
        if not moving:
            return
        for row in moving:
            size = len(molecules[row])
            molecules[row].calc.forces = forces[row, :size]
            optimisers[row].step()
            batch.positions[row, :size] = molecules[row].positions


def velocity_verlet(
    batch: Batch, potential: Potential, now: Evaluation, timestep: float, steps: int
) -> Evaluation:
    """Move by velocity Verlet (Swope et al. 1982) and return the evaluation at the end.

    Parameters
    ----------
    now
        Evaluation at the batch's positions.
    timestep
        fs.
    """
    half = 0.5 * timestep / (batch.masses * AMU_A2_FS2_IN_EV)[..., None]
    for _ in range(steps):
        batch.velocities += half * now.forces
        batch.positions += timestep * batch.velocities
        now = batch.evaluate(potential)
        batch.velocities += half * now.forces
    return now


def langevin(
    batch: Batch,
    potential: Potential,
    now: Evaluation,
    timestep: float,
    steps: int,
    temperatures: NDArray[np.float64],
    friction: float,
    generators: Sequence[np.random.Generator],
) -> Evaluation:
    """Move by Langevin dynamics, splitting BAOAB (Leimkuhler and Matthews 2013).

    Every degree of freedom has its temperature, the centre of mass and rotation among them.

    Parameters
    ----------
    temperatures
        ``[B]`` in K.
    friction
        1/fs.
    """
    half = 0.5 * timestep / (batch.masses * AMU_A2_FS2_IN_EV)[..., None]
    kept = np.exp(-friction * timestep)
    renewed = np.sqrt(1.0 - kept**2)
    for _ in range(steps):
        batch.velocities += half * now.forces
        batch.positions += 0.5 * timestep * batch.velocities
        batch.velocities *= kept
        batch.velocities += renewed * batch.thermal_velocities(temperatures, generators)
        batch.positions += 0.5 * timestep * batch.velocities
        now = batch.evaluate(potential)
        batch.velocities += half * now.forces
    return now
