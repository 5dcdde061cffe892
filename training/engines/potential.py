"""What a batched engine offers: energies and forces of many molecules in one evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Evaluation:
    """Energies and forces of a batch of B molecules with room for N atoms each.

    Attributes
    ----------
    energies
        ``[B]`` in eV, double precision.
    forces
        ``[B, N, 3]`` in eV/Å, double precision; zero for padding.
    atomic_charges
        ``[B, N]`` in e; zero for padding. None if the engine knows none.
    """

    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    atomic_charges: NDArray[np.float64] | None = None


class Potential(Protocol):
    """A potential energy surface that is evaluated for many molecules at a time.

    Molecules of fewer atoms than the batch has room for are padded by atoms of number 0, whose
    positions do not matter.
    """

    def __call__(
        self, positions: NDArray, numbers: NDArray[np.int64], charges: NDArray[np.int64]
    ) -> Evaluation:
        """Evaluate positions ``[B, N, 3]`` (Å) of atoms ``[B, N]`` with total charges ``[B]``."""

    def force_spread(
        self, positions: NDArray, numbers: NDArray[np.int64], charges: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        """Return the engine's own uncertainty of the force on each atom, ``[B, N]`` in eV/Å.

        The root of the mean, over the members of an ensemble and the three components, of the
        squared difference from the members' mean. None if the engine has no ensemble.
        """
