"""Whether a trajectory is of one molecule, whole in every frame, whose bonds stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_atom.errors import CoverageError, DataError
from ase_atom.molecules.atoms import total_charge
from ase_atom.molecules.handedness import Handedness
from ase_atom.molecules.structure import check_elements, check_one
from ase_atom.molecules.topology import atom_label, perceive_bonds, perceive_smiles, radii
from training.importing.checking import check_lengths

BROKEN, BONDED = 1.6, 1.15
"""Distances over the sum of radii: of a bond that is none any more, of a pair that is one now."""


def check_molecule(path: Path, atoms: Atoms, x: NDArray, periodic: bool) -> str:
    """Check that a trajectory is of one whole molecule with its hydrogens, which stays what it is.

    Parameters
    ----------
    path
        For messages.
    atoms
        The first frame, and its cell if there is one.
    x
        Å, ``[T, N, 3]``.
    periodic
        Whether any frame has a cell.

    Returns
    -------
    SMILES without stereochemistry.

    Raises
    ------
    DataError
        Naming the frame and atoms at fault.
    """
    finite = np.isfinite(x).all((1, 2))
    if not finite.all():
        raise DataError(f"{path}: a position in frame {int(np.argmin(finite))} is not finite")
    name, numbers = str(path), atoms.numbers
    try:
        check_elements(numbers)
        if periodic:
            _check_whole(path, numbers, x[0], atoms.cell.array)
        check_lengths(name, numbers, x[:1])
        check_one(numbers, x[0])
        charge = total_charge(atoms)
        _, smiles = perceive_smiles(numbers, x[0], charge)
    except CoverageError as error:
        bare = "" if (numbers == 1).any() else " (it has no hydrogens, and leaps need all atoms)"
        raise DataError(f"{path}, frame 0: {error}{bare}") from error
    _check_bonds(path, numbers, x, periodic)
    hands = Handedness.of(numbers, x[0], charge)
    kept = hands.kept(x)
    if not kept.all():
        raise DataError(
            f"{path}: in frame {int(np.argmin(kept))} a stereocentre or a double bond is not as in "
            "frame 0, or like atoms have changed places: leaps keep both"
        )
    return smiles


def _check_whole(path: Path, numbers: NDArray, x: NDArray, cell: NDArray) -> None:
    """Check that no bond of the first frame goes through the wall of the periodic box."""
    if not cell.any():
        return
    radius = radii(numbers)
    vectors = x[:, None] - x[None]
    fractions = vectors @ np.linalg.pinv(cell)
    nearest = np.linalg.norm(vectors - np.rint(fractions) @ cell, axis=-1)
    limit = BONDED * (radius[:, None] + radius)
    split = np.argwhere((nearest < limit) & (np.linalg.norm(vectors, axis=-1) > 2 * limit))
    if len(split):
        raise _split(path, numbers, 0, split[0])


def _check_bonds(path: Path, numbers: NDArray, x: NDArray, periodic: bool) -> None:
    """Check in all frames that bonds are those of the first."""
    first, second = np.triu_indices(len(numbers), 1)
    radius = radii(numbers)
    sums = (radius[first] + radius[second]).astype(np.float32)
    bonds = set(perceive_bonds(numbers, x[0]))
    bonded = np.array([pair in bonds for pair in zip(first.tolist(), second.tolist(), strict=True)])
    size = max(1, 2**22 // len(sums))
    for begin in range(0, len(x), size):
        part = x[begin : begin + size]
        ratio = np.linalg.norm(part[:, first] - part[:, second], axis=-1) / sums
        wrong = np.where(bonded, ratio > BROKEN, ratio < BONDED)
        if not wrong.any():
            continue
        frame, pair = np.argwhere(wrong)[0]
        ends = first[pair], second[pair]
        frame, much = int(frame) + begin, ratio[frame, pair]
        if bonded[pair] and periodic and much > 2 * BROKEN:
            raise _split(path, numbers, frame, ends)
        between = _between(numbers, ends)
        if bonded[pair]:
            raise DataError(
                f"{path}: in frame {frame} the bond {between} is {much:.2f} times its length: it "
                "broke, or the molecule is not whole"
            )
        raise DataError(
            f"{path}: in frame {frame} the atoms {between} are as near as if they were bonded, and "
            "in frame 0 they are not: a reaction"
        )


def _between(numbers: NDArray, pair: Sequence[int] | NDArray) -> str:
    return "-".join(atom_label(numbers, int(atom)) for atom in pair)


def _split(path: Path, numbers: NDArray, frame: int, pair: Sequence[int] | NDArray) -> DataError:
    return DataError(
        f"{path}: in frame {frame} the molecule is split across its periodic box, between "
        f"{_between(numbers, pair)}: make it whole (such as gmx trjconv -pbc whole, or mdtraj's "
        "make_molecules_whole)"
    )


def check_alike(path: Path, numbers: NDArray, x: NDArray, first: Atoms, of: Path) -> None:
    """Check that a file is of the molecule of the first file, its atoms in the same order.

    Parameters
    ----------
    path, numbers, x
        The file, its atomic numbers ``[N]`` and its first frame in Å, ``[N, 3]``.
    first, of
        First frame of the first file.

    Raises
    ------
    DataError
        If it is not.
    """
    if not np.array_equal(numbers, first.numbers):
        raise DataError(f"{path} holds other atoms than {of}, or in another order")
    if set(perceive_bonds(numbers, x)) != set(perceive_bonds(numbers, first.positions)):
        raise DataError(f"{path} holds other bonds than {of}: another molecule, or another order")
    if not Handedness.of(numbers, first.positions).kept(x[None]).all():
        raise DataError(f"{path} holds another stereoisomer than {of}, or another order of atoms")
