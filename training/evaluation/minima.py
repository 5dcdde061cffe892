"""Relaxed structures of a molecule, and its vibrational spectrum by two engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_atom.analysis.molecule.harmonic import HarmonicGuess
from ase_atom.analysis.molecule.minima import HeadCalculator, find_minima, modes_at, relax
from ase_atom.molecules.atoms import set_charge
from ase_atom.operator import Operator
from training.data.burst import Burst


def minima_of(
    bursts: Sequence[Burst], calculator: Calculator, samples: int = 12
) -> HarmonicGuess | None:
    """Relax frames spread over one molecule's bursts; see `find_minima`.

    Parameters
    ----------
    bursts
        Of one molecule.
    calculator
        Reference engine.
    samples
        Number of frames to relax.
    """
    picks = np.unique(np.linspace(0, len(bursts) - 1, samples).astype(int))
    structures = []
    for index in range(samples):
        burst = bursts[picks[index % len(picks)]]
        frame = (index // len(picks)) * len(burst.positions) // (samples // len(picks) + 1)
        structures.append(_atoms(np.asarray(burst.numbers), burst.positions[frame], burst.charge))
    return find_minima(structures, calculator)


def _atoms(numbers: NDArray, positions: NDArray, charge: int) -> Atoms:
    atoms = Atoms(numbers, positions=positions)
    if charge:
        set_charge(atoms, charge)
    return atoms


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


def compare_spectra(
    operator: Operator, numbers: NDArray, guess: HarmonicGuess, charge: int = 0
) -> list[Spectrum]:
    """Relax each reference minimum with the operator's own energy and compare wavenumbers.

    A minimum from which the operator's energy does not relax is left out of the list.
    """
    calculator = HeadCalculator(operator)
    spectra = []
    for minimum in guess.minima:
        relaxed = relax(_atoms(numbers, minimum.positions, charge), calculator)
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
