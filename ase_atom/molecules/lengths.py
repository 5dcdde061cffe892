"""Whether lengths are in Å, judged by how far apart nearest neighbours are."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

_UNITS = (  # nearest neighbours in units of the sum of covalent radii, and what then is wrong
    (0.085, 0.125, "nm read as Å: multiply them by 10"),
    (0.45, 0.62, "Å taken for bohr and converted once too often: divide them by 0.529"),
    (1.6, 2.2, "bohr read as Å: multiply them by 0.529"),
    (8.5, 12.5, "nm taken for Å and converted once too often: divide them by 10"),
    (85.0, 125.0, "pm read as Å: divide them by 100"),
)


def neighbour_ratio(numbers: NDArray[np.integer], positions: NDArray[np.floating]) -> float:
    """Return the median distance to the nearest neighbour over the sum of both covalent radii.

    Parameters
    ----------
    numbers, positions
        Atomic numbers, ``[N]``, and positions in Å, ``[N, 3]`` or of several frames,
        ``[frames, N, 3]``. Of a single atom it is 1.
    """
    count = len(numbers)
    if count < 2:
        return 1.0
    radii = covalent_radii[numbers]
    apart = np.linalg.norm(positions[..., :, None, :] - positions[..., None, :, :], axis=-1)
    apart /= radii[:, None] + radii
    apart[..., np.arange(count), np.arange(count)] = np.inf
    return float(np.median(apart.min(-1)))


def other_unit(ratio: float) -> str | None:
    """Return in which unit positions seem to be, and what puts them right; None for Å.

    Parameters
    ----------
    ratio
        See `neighbour_ratio`.
    """
    return next((what for low, high, what in _UNITS if low <= ratio <= high), None)
