"""Relaxed structures of a molecule and their normal modes, by any ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS

from ase_atom.analysis.molecule.harmonic import (
    ForceFunction,
    HarmonicGuess,
    NormalModes,
    finite_difference_hessian,
)
from ase_atom.analysis.molecule.symmetry import automorphisms
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import OperatorLike
from ase_atom.state import PhaseState

_FORCE_LIMIT = 1e-3  # eV/Å, largest left after relaxation
_MOST_STEPS = 500
_SAME = 0.05  # Å, mass-weighted RMS distance below which two minima are one


class HeadCalculator(Calculator):
    """The operator's energy head as an ASE calculator, in double precision."""

    implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012 - as ASE has it

    def __init__(self, operator: OperatorLike) -> None:
        super().__init__()
        self.operator = operator.in_double_precision()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results`` with the energy in eV and the forces in eV/Å."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # ASE has just set them
        energy, forces = self.operator.energy_and_forces(PhaseState.from_atoms(self.atoms))
        self.results = {"energy": float(energy[0]), "forces": forces[0].numpy()}

    def many_forces(self, atoms: Atoms, positions: np.ndarray) -> np.ndarray:
        """Forces in eV/Å of ``[K, N, 3]`` positions, in one batch."""
        state = PhaseState.from_atoms(atoms).repeat(len(positions))
        moved = state.replace(positions=torch.from_numpy(positions))
        return self.operator.energy_and_forces(moved)[1].numpy()


def force_function(calculator: Calculator, atoms: Atoms) -> ForceFunction:
    """Forces of many structures of one molecule, batched where the calculator can."""
    if isinstance(calculator, HeadCalculator):
        return lambda positions: calculator.many_forces(atoms, positions)

    def one_by_one(positions: np.ndarray) -> np.ndarray:
        probe = atoms.copy()
        probe.calc = calculator
        forces = []
        for structure in positions:
            probe.positions = structure
            forces.append(probe.get_forces())
        return np.stack(forces)

    return one_by_one


def relax(atoms: Atoms, calculator: Calculator) -> Atoms | None:
    """A relaxed copy of the molecule with its calculator, or None if it would not converge."""
    relaxed = atoms.copy()
    relaxed.calc = calculator
    try:
        converged = BFGS(relaxed, logfile=None).run(fmax=_FORCE_LIMIT, steps=_MOST_STEPS)
    except np.linalg.LinAlgError:  # of a Hessian that ran away
        return None
    return relaxed if converged else None


def modes_at(relaxed: Atoms) -> NormalModes:
    """Normal modes of a relaxed molecule by finite differences of its calculator's forces."""
    energy = relaxed.get_potential_energy()
    hessian = finite_difference_hessian(force_function(relaxed.calc, relaxed), relaxed.positions)
    return NormalModes.from_hessian(relaxed.get_masses(), relaxed.positions, hessian, energy)


def find_minima(structures: Sequence[Atoms], calculator: Calculator) -> HarmonicGuess | None:
    """Relax structures of one molecule and keep the different minima, lowest first.

    Minima that a relabelling of equivalent atoms, a rotation or a reflection brings together
    count once.

    Parameters
    ----------
    structures
        Of one molecule, atoms in one order.
    calculator
        Energies and forces.

    Returns
    -------
    HarmonicGuess or None
        None if no structure relaxed to a minimum.
    """
    relaxed = [found for atoms in structures if (found := relax(atoms, calculator)) is not None]
    kept: HarmonicGuess | None = None
    for structure in sorted(relaxed, key=lambda atoms: atoms.get_potential_energy()):
        if kept is None:
            bonds = perceive_bonds(structure.numbers, structure.positions)
            relabellings = automorphisms(structure.numbers, bonds)
            kept = HarmonicGuess([modes_at(structure)], relabellings)
            continue
        centred = structure.positions - structure.get_center_of_mass()
        *_, distance = kept.nearest(centred[None])
        if distance[0] > _SAME:
            modes = modes_at(structure)
            if len(modes.squares) == 0 or modes.squares[0] > 0:
                kept = HarmonicGuess([*kept.minima, modes], kept.relabellings)
    return kept
