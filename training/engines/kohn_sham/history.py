"""A first guess of the orbitals from those at earlier places of the same molecule."""

from __future__ import annotations

from collections import deque

import numpy as np

REGULARISATION = 1e-6
"""Relative to the overlap matrices; keeps the coefficients, and with them noise, from growing."""


class History:
    """Extrapolates the occupied space of a molecule in motion.

    The overlap matrix at the present place is written as a combination of the earlier ones by
    regularised least squares, and the same combination of the earlier ``P S`` projects the latest
    orbitals onto the guess. Fitting the place instead of the time (as Polack, Mikhalev, Dusson,
    Stamm and Lipparini, J. Chem. Theory Comput. 17, 6965 (2021), do with Coulomb matrices) needs
    neither a constant time step nor smooth paths; ``P S`` is what VandeVondele et al., Comput.
    Phys. Commun. 167, 103 (2005), extrapolate in time.

    Parameters
    ----------
    length
        Number of earlier places that are remembered.
    """

    def __init__(self, length: int = 8) -> None:
        self._overlaps: deque[np.ndarray] = deque(maxlen=length)
        self._projectors: deque[np.ndarray] = deque(maxlen=length)
        self._latest: np.ndarray | None = None

    def add(self, orbitals: np.ndarray, overlap: np.ndarray) -> None:
        """Remember the occupied orbitals ``[K, O]`` for an overlap matrix ``[K, K]``."""
        self._latest = orbitals
        self._overlaps.append(overlap)
        self._projectors.append(orbitals @ (orbitals.T @ overlap))

    def guess(self, overlap: np.ndarray) -> np.ndarray | None:
        """Return orthonormal orbitals ``[K, O]`` for a new overlap matrix, None without history."""
        if self._latest is None:
            return None
        past = np.stack(list(self._overlaps)).reshape(len(self._overlaps), -1)
        latest = past[-1]
        # The coefficients sum to one: fit the differences from the latest.
        differences = past[:-1] - latest
        matrix = differences @ differences.T
        matrix[np.diag_indices_from(matrix)] += REGULARISATION**2 * (latest @ latest)
        coefficients = np.linalg.solve(matrix, differences @ (overlap.reshape(-1) - latest))
        coefficients = np.append(coefficients, 1 - coefficients.sum())
        orbitals = sum(
            coefficient * (projector @ self._latest)
            for coefficient, projector in zip(coefficients, self._projectors, strict=True)
        )
        metric, rotation = np.linalg.eigh(orbitals.T @ overlap @ orbitals)
        return (orbitals @ (rotation / np.sqrt(metric))) @ rotation.T
