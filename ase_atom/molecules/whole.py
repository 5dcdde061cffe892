"""Molecules that a periodic cell has cut, put together again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ase_atom.molecules.topology import fragments

_MOST = 300  # atoms, up to which a refusal looks for a cut: far more than operators move


def made_whole(
    positions: NDArray[np.floating], cells: ArrayLike, pbc: ArrayLike = True
) -> NDArray[np.float64]:
    """Put the parts of a molecule together and follow it through the walls of its cell.

    In the first frame each atom is joined to the nearest that is already placed (Prim's tree), and
    in the others along the same pairs. The first atom moves by the shortest way from frame to
    frame. Pairs must be closer than half the distance of opposite walls.

    Parameters
    ----------
    positions
        Å, ``[T, N, 3]``.
    cells
        Cell vectors as rows in Å, ``[T, 3, 3]`` or of all frames ``[3, 3]``; zeros where a frame
        has none.
    pbc
        Along which vectors frames repeat, ``[T, 3]``, ``[3]`` or one for all.

    Returns
    -------
    Positions in Å, ``[T, N, 3]``.
    """
    x = np.array(positions, dtype=np.float64)
    frames, count, _ = x.shape
    rows = np.broadcast_to(np.asarray(cells, dtype=np.float64), (frames, 3, 3))
    if not (frames and count and rows.any()):
        return x
    repeats = np.broadcast_to(np.asarray(pbc, dtype=bool), (frames, 3)).astype(np.float64)
    inverse = np.linalg.pinv(rows)

    def shortest(vectors: NDArray[Any], of: slice) -> NDArray[Any]:  # [T, M, 3]
        turns = np.rint(vectors @ inverse[of]) * repeats[of, None]
        found: NDArray[Any] = vectors - turns @ rows[of]
        return found

    whole = x.copy()
    steps = shortest(np.diff(x[:, :1], axis=0), slice(1, None))
    whole[1:, 0] = x[0, 0] + np.cumsum(steps[:, 0], axis=0)
    between = shortest((x[0, None] - x[0, :, None]).reshape(1, -1, 3), slice(1))
    for placed, atom in _tree(np.linalg.norm(between, axis=-1).reshape(count, count)):
        bond = shortest(x[:, [atom]] - x[:, [placed]], slice(None))
        whole[:, atom] = whole[:, placed] + bond[:, 0]
    return whole


def _tree(apart: NDArray[Any]) -> list[tuple[int, int]]:
    """Return pairs that join all points, each of one placed before and a new one, the nearest."""
    nearest, best = np.zeros(len(apart), dtype=int), apart[0].copy()
    best[0] = np.inf
    pairs = []
    for _ in range(len(apart) - 1):
        new = int(np.argmin(best))
        pairs.append((int(nearest[new]), new))
        closer = (apart[new] < best) & np.isfinite(best)
        nearest[closer], best[closer] = new, apart[new][closer]
        best[new] = np.inf
    return pairs


def is_cut(
    numbers: NDArray[np.integer], positions: NDArray[np.floating], cell: NDArray[np.floating]
) -> bool:
    """Say whether atoms are parts of one molecule that a cell has cut, whatever ``pbc`` says.

    Parameters
    ----------
    numbers, positions
        Atomic numbers, ``[N]``, and positions in Å, ``[N, 3]``.
    cell
        Cell vectors as rows in Å, ``[3, 3]``; zeros for none.
    """
    if not cell.any() or len(numbers) > _MOST or len(fragments(numbers, positions)) == 1:
        return False
    return len(fragments(numbers, made_whole(positions[None], cell)[0])) == 1
