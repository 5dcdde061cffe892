"""Fingerprints of frames, by which an operator's card tells the data that it has learned from."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike

_GRID = 1e-3
"""Å: much coarser than formats round, XTC's 0.01 Å excepted, and finer than two thermal frames are
alike, those of two or three atoms that do not rotate excepted."""
_LENGTH = (
    16  # hexadecimal digits: among 10⁹ pairs of fingerprints two are alike by chance once in 10¹⁰
)


def frame_fingerprints(numbers: ArrayLike, positions: ArrayLike) -> list[str]:
    """Return each frame's fingerprint, the same in almost any format and any place.

    A coordinate next to a boundary of the grid may be rounded across it, so that several frames
    should be looked for. Another orientation or order of the atoms gives another fingerprint.

    Parameters
    ----------
    numbers
        Atomic numbers ``[N]``.
    positions
        ``[T, N, 3]`` in Å.
    """
    kind = np.asarray(numbers, dtype="<i4").tobytes()
    positions = np.asarray(positions, dtype=np.float64)
    centred = positions - positions.mean(axis=1, keepdims=True)
    cells = np.rint(centred / _GRID).astype("<i4")
    return [hashlib.sha256(kind + frame.tobytes()).hexdigest()[:_LENGTH] for frame in cells]
