"""Cells as formats hold them: vectors in a standard position, or lengths and angles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
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


def is_placeholder(cells: np.ndarray) -> np.ndarray:
    """Return which cells stand for none, ``[T]``: of zeros, or a cube of 1 Å.

    PDB files of single molecules must have a cell, and a cube of 1 Å is the one agreed on (wwPDB
    format 3.3, "CRYST1"); programs hand both on to other formats. No atom has room in either.
    """
    scale = np.abs(cells).max(axis=(1, 2))
    found: np.ndarray = (scale <= 1e-6) | (np.abs(cells - np.eye(3)).max(axis=(1, 2)) <= 1e-3)
    return found


def without_placeholder(atoms: Atoms) -> Atoms:
    """Return the atoms, isolated if their cell stands for none."""
    if atoms.pbc.any() and is_placeholder(atoms.cell.array[None])[0]:
        atoms.pbc = False
        atoms.cell = np.zeros((3, 3))
    return atoms


def cells_from(lengths: np.ndarray, angles: np.ndarray, first: int = 0) -> np.ndarray | None:
    """Return cell vectors in Å, ``[T, 3, 3]``, from lengths and angles; None if no frame has any.

    A frame whose lengths or angles are all zero has no cell: its vectors are zero.

    Parameters
    ----------
    lengths, angles
        Å and degrees, ``[T, 3]`` each.
    first
        Index of the first frame, for messages.

    Raises
    ------
    ValueError
        If there can be no such cell, with the number of the frame.
    """
    cells = np.hstack([lengths, angles]).astype(np.float64)
    cells[~(cells[:, :3].any(axis=1) & cells[:, 3:].any(axis=1))] = 0.0
    return each_cell(cells, vectors_of, first)


def each_cell(
    numbers: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray], first: int = 0
) -> np.ndarray | None:
    """Return cell vectors in Å, ``[T, 3, 3]``, from six numbers a frame; None if no frame has any.

    Parameters
    ----------
    numbers
        As a format has them, ``[T, 6]``.
    vectors
        Makes the vectors of one frame, zero if it has no cell.
    first
        Index of the first frame, for messages.

    Raises
    ------
    ValueError
        If there can be no such cell, with the number of the frame.
    """
    # Most files have one cell, or few.
    unlike, which = np.unique(numbers, axis=0, return_inverse=True)
    which = which.reshape(-1)
    found = np.zeros((len(unlike), 3, 3))
    for index, one in enumerate(unlike):
        try:
            found[index] = vectors(one)
        except ValueError as error:
            frame = first + int((which == index).argmax()) + 1
            raise ValueError(f"frame {frame} has {error}") from error
    return found[which] if found.any() else None


def vectors_of(parameters: np.ndarray) -> np.ndarray:
    """Return cell vectors in Å, ``[3, 3]``, from lengths and angles in degrees; zero for zeros.

    Raises
    ------
    ValueError
        If there can be no such cell.
    """
    if not parameters.any():
        return np.zeros((3, 3))
    a, b, c = np.cos(np.radians(parameters[3:]))
    possible = np.isfinite(parameters).all() and (parameters[:3] >= 0).all()
    turned = ((parameters[3:] > 0) & (parameters[3:] < 180)).all()
    if not (possible and turned and 1 - a * a - b * b - c * c + 2 * a * b * c > 0):
        numbers = " ".join(f"{number:.6g}" for number in parameters)
        raise ValueError(f"an impossible cell: lengths and angles {numbers}")
    vectors: np.ndarray = cellpar_to_cell(parameters)
    return vectors
