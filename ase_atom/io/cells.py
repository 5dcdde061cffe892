"""Cells as formats hold them: vectors in a standard position, or lengths and angles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.geometry import cell_to_cellpar, cellpar_to_cell

from ase_atom.errors import TrajectoryError


def check_cells(cells: np.ndarray, path: Path) -> None:
    """Check that cell vectors stand as formats without a place for their orientation want them.

    Raises
    ------
    TrajectoryError
        Unless a lies along x, b in the xy plane, and the volume is not zero.
    """
    scale = np.abs(cells).max(axis=(1, 2))
    upper = np.abs(cells[:, [0, 0, 1], [1, 2, 2]]).max(axis=1)
    if (np.abs(np.linalg.det(cells)) <= 1e-9 * scale**3).any():
        raise TrajectoryError(
            f"the cell of a frame for {path} has no volume: give all three vectors"
        )
    if (upper > 1e-6 * scale).any() or (np.diagonal(cells, axis1=1, axis2=2) <= 0).any():
        raise TrajectoryError(
            f"{path} cannot hold how its cell is turned: the first vector must lie along x and the "
            "second in the xy plane (atoms.cell.standard_form gives the rotation); .xyz, .extxyz "
            "and .traj hold any cell"
        )


def lengths_and_angles(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths in Å and angles α, β, γ in degrees, ``[T, 3]`` each."""
    parameters = np.array([cell_to_cellpar(cell) for cell in cells])
    return parameters[:, :3], parameters[:, 3:]


def cells_from(lengths: np.ndarray, angles: np.ndarray) -> np.ndarray | None:
    """Return cell vectors ``[T, 3, 3]`` from lengths in Å and angles in degrees; None if zero."""
    if not np.asarray(lengths).any():
        return None
    return np.array(
        [cellpar_to_cell([*a, *b]) for a, b in zip(lengths, angles, strict=True)], dtype=np.float64
    )
