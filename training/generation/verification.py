"""What a burst must satisfy: its total energy is conserved, its bonds are those it started with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from ase_atom.errors import DataError
from training.data.burst import Burst

BROKEN_STRETCH = 1.5
"""A bond longer than this multiple of its relaxed length is lost, as in rollouts."""

FORMED_CONTACT = 1.2
"""Atoms nearer than this multiple of their covalent radii's sum are bonded ..."""

RELAXED_CONTACT = 1.1
"""Atoms that are relaxed nearer than this multiple are bonded."""

FORMED_APPROACH = 0.75
"""... if they are also nearer than this multiple of their relaxed distance: small rings are."""


@dataclass(frozen=True)
class Connectivity:
    """The bonds of a relaxed molecule.

    Attributes
    ----------
    numbers
        Atomic numbers ``[N]``.
    pairs
        All pairs of atoms, ``[P, 2]``.
    bonded
        Which of them are bonds, ``[P]``.
    relaxed
        Their relaxed distances in Å, ``[P]``.
    """

    numbers: np.ndarray
    pairs: np.ndarray
    bonded: np.ndarray
    relaxed: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray, positions: np.ndarray, bonds: np.ndarray) -> Connectivity:
        """Note the distances of a relaxed structure ``[N, 3]`` with its bonds ``[M, 2]``."""
        pairs = np.stack(np.triu_indices(len(numbers), 1), axis=1)
        known = {tuple(sorted(bond)) for bond in bonds.tolist()}
        bonded = np.array([tuple(pair) in known for pair in pairs.tolist()], dtype=bool)
        return cls(numbers, pairs, bonded, _distances(positions, pairs))

    def check_relaxed(self) -> None:
        """Check that a relaxed structure has the bonds that it should, and no others.

        Raises
        ------
        DataError
            Naming the bonds that are gone or new: it is another molecule, or several.
        """
        radii = covalent_radii[self.numbers][self.pairs].sum(1)
        gone = self.bonded & ~(self.relaxed < BROKEN_STRETCH * radii)
        new = ~self.bonded & (self.relaxed < RELAXED_CONTACT * radii)
        found = [
            f"{self._label(pair)} is {what} ({self.relaxed[pair]:.2f} Å)"
            for what, which in (("gone", gone), ("new", new))
            for pair in np.flatnonzero(which)
        ]
        if found:
            raise DataError(f"relaxed, it is another molecule: {', '.join(found)}")

    def changes(self, positions: np.ndarray) -> str:
        """Say which bonds broke and formed in any of the frames ``[T, N, 3]``; empty if none did.

        Atoms are counted from zero: ``O3-H10 broke (1.72 of its length), O5-H10 formed (1.02 Å)``.
        """
        if not len(self.pairs):
            return ""
        distances = _distances(positions, self.pairs)
        longest, shortest = distances.max(0), distances.min(0)
        broken = self.bonded & (longest > BROKEN_STRETCH * self.relaxed)
        contact = FORMED_CONTACT * covalent_radii[self.numbers][self.pairs].sum(1)
        formed = ~self.bonded & (shortest < np.minimum(contact, FORMED_APPROACH * self.relaxed))
        found = [
            f"{self._label(pair)} broke ({longest[pair] / self.relaxed[pair]:.2f} of its length)"
            for pair in np.flatnonzero(broken)
        ]
        found += [
            f"{self._label(pair)} formed ({shortest[pair]:.2f} Å)"
            for pair in np.flatnonzero(formed)
        ]
        return ", ".join(found)

    def _label(self, pair: int) -> str:
        return "-".join(f"{chemical_symbols[self.numbers[i]]}{i}" for i in self.pairs[pair])


def energy_conservation(burst: Burst, limit: float) -> dict[str, float]:
    """Return the largest departure of the total energy (eV) and its drift (eV/ps).

    Parameters
    ----------
    limit
        Largest departure allowed, eV per atom.

    Raises
    ------
    DataError
        If it is exceeded.
    """
    total = burst.total_energies()
    error = float(np.abs(total - total[0]).max())
    allowed = limit * len(burst.numbers)
    if not error <= allowed:
        raise DataError(
            f"its total energy strays by {error:.3g} eV, more than the {allowed:.3g} eV allowed: "
            "a shorter time step, or a tighter engine?"
        )
    slope = float(np.polyfit(burst.times, total, 1)[0]) if len(total) > 1 else 0.0
    return {"energy_error_eV": error, "energy_drift_eV_per_ps": 1000 * slope}


def _distances(positions: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[..., pairs[:, 0], :] - positions[..., pairs[:, 1], :], axis=-1)
