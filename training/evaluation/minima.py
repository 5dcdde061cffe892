"""Relaxed structures of a molecule, and its vibrational spectrum by two engines."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS
from numpy.typing import NDArray

from ase_atom.operator import Operator
from ase_atom.state import PhaseState
from ase_atom.topology import perceive_bonds
from training.burst import Burst
from training.evaluation.bonds import automorphisms
from training.evaluation.harmonic import (
    ForceFunction,
    HarmonicGuess,
    NormalModes,
    finite_difference_hessian,
)

_FORCE_LIMIT = 1e-3  # eV/Å, largest left after relaxation
_MOST_STEPS = 500
_SAME = 0.05  # Å, mass-weighted RMS distance below which two minima are one


class HeadCalculator(Calculator):
    """The operator's energy head as an ASE calculator, in double precision."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = copy.deepcopy(operator).double()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results`` with the energy in eV and the forces in eV/Å."""
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.operator.energy_and_forces(PhaseState.from_atoms(self.atoms))
        self.results = {"energy": float(energy[0]), "forces": forces[0].numpy()}

    def many_forces(self, atoms: Atoms, positions: NDArray) -> NDArray:
        """Forces in eV/Å of ``[K, N, 3]`` positions, in one batch."""
        state = PhaseState.from_atoms(atoms).repeat(len(positions))
        moved = state.replace(positions=torch.from_numpy(positions))
        return self.operator.energy_and_forces(moved)[1].numpy()


def force_function(calculator: Calculator, atoms: Atoms) -> ForceFunction:
    """Forces of many structures of one molecule, batched where the calculator can."""
    if isinstance(calculator, HeadCalculator):
        return lambda positions: calculator.many_forces(atoms, positions)

    def one_by_one(positions: NDArray) -> NDArray:
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
    converged = BFGS(relaxed, logfile=None).run(fmax=_FORCE_LIMIT, steps=_MOST_STEPS)
    return relaxed if converged else None


def modes_at(relaxed: Atoms) -> NormalModes:
    """Normal modes of a relaxed molecule by finite differences of its calculator's forces."""
    energy = relaxed.get_potential_energy()
    hessian = finite_difference_hessian(force_function(relaxed.calc, relaxed), relaxed.positions)
    return NormalModes.from_hessian(relaxed.get_masses(), relaxed.positions, hessian, energy)


def find_minima(
    bursts: Sequence[Burst], calculator: Calculator, samples: int = 12
) -> HarmonicGuess | None:
    """Relax frames of one molecule's bursts and keep the different minima, lowest first.

    Minima that a relabelling of equivalent atoms, a rotation or a reflection brings together
    count once.

    Parameters
    ----------
    bursts
        Of one molecule.
    calculator
        Reference engine.
    samples
        Number of frames to relax, spread over the bursts.

    Returns
    -------
    HarmonicGuess or None
        None if no frame relaxed to a minimum.
    """
    picks = np.unique(np.linspace(0, len(bursts) - 1, samples).astype(int))
    relaxed = []
    for index in range(samples):
        burst = bursts[picks[index % len(picks)]]
        frame = (index // len(picks)) * len(burst.positions) // (samples // len(picks) + 1)
        found = relax(Atoms(burst.numbers, positions=burst.positions[frame]), calculator)
        if found is not None:
            relaxed.append((found.get_potential_energy(), found))
    kept: HarmonicGuess | None = None
    for _, structure in sorted(relaxed, key=lambda pair: pair[0]):
        if kept is None:
            relabellings = automorphisms(structure.numbers, perceive_bonds(structure))
            kept = HarmonicGuess([modes_at(structure)], relabellings)
            continue
        centred = structure.positions - structure.get_center_of_mass()
        *_, distance = kept.nearest(centred[None])
        if distance[0] > _SAME:
            modes = modes_at(structure)
            if len(modes.squares) == 0 or modes.squares[0] > 0:
                kept = HarmonicGuess([*kept.minima, modes], kept.relabellings)
    return kept


@dataclass(frozen=True)
class Spectrum:
    """Harmonic wavenumbers of one minimum by the reference and by the operator.

    Attributes
    ----------
    reference, operator
        cm⁻¹, ascending, ``[M]``.
    shift
        Mass-weighted RMS distance between the two relaxed structures, Å.
    energy
        Of the minimum above the lowest one, by the reference, eV.
    """

    reference: NDArray
    operator: NDArray
    shift: float
    energy: float

    @property
    def largest_difference(self) -> float:
        """cm⁻¹, between wavenumbers of equal rank."""
        return float(np.abs(self.operator - self.reference).max())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "reference_per_cm": self.reference.tolist(),
            "operator_per_cm": self.operator.tolist(),
            "largest_difference_per_cm": self.largest_difference,
            "structure_shift_angstrom": self.shift,
            "relative_energy_eV": self.energy,
        }


def compare_spectra(operator: Operator, numbers: NDArray, guess: HarmonicGuess) -> list[Spectrum]:
    """Relax each reference minimum with the operator's own energy and compare wavenumbers.

    A minimum from which the operator's energy does not relax is left out of the list.
    """
    calculator = HeadCalculator(operator)
    spectra = []
    for minimum in guess.minima:
        start = Atoms(numbers, positions=minimum.positions)
        relaxed = relax(start, calculator)
        if relaxed is None:
            continue
        own = modes_at(relaxed)
        *_, distance = HarmonicGuess([minimum], guess.relabellings).nearest(own.positions[None])
        spectra.append(
            Spectrum(
                reference=minimum.wavenumbers,
                operator=own.wavenumbers,
                shift=float(distance[0]),
                energy=minimum.energy - guess.minima[0].energy,
            )
        )
    return spectra
