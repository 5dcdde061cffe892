"""The layouts of MD17 and rMD17, as they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import units
from numpy.typing import NDArray

EV_IN_KCAL_PER_MOL = units.mol / units.kcal


def save_arrays(arrays: Mapping[str, NDArray], path: Path) -> None:
    """Write NumPy's archive to just that name, to which NumPy would add an ending of its own."""
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def fingerprint(contents: Mapping[str, NDArray]) -> str:
    """MD5 over ``z``, ``R``, ``E`` and ``F`` as the sGDML files of MD17 and MD22 carry it."""
    digest = hashlib.md5()
    for name in ("z", "R", "E", "F"):
        digest.update(hashlib.md5(np.ascontiguousarray(contents[name]).tobytes()).digest())
    return digest.hexdigest()


def write_md17(
    path: Path, numbers: NDArray, arrays: Mapping[str, NDArray], name: str, theory: str
) -> None:
    """Write MD17's layout: ``R`` Å, ``z``, ``E [T, 1]`` kcal/mol, ``F`` kcal/mol/Å, and names.

    Parameters
    ----------
    numbers
        Atomic numbers, ``[N]``.
    arrays
        ``R [T, N, 3]`` in Å, ``E [T]`` in eV and ``F [T, N, 3]`` in eV/Å.
    """
    contents = {
        "z": numbers.astype(np.uint8),
        "R": arrays["R"],
        "E": arrays["E"][:, None] * EV_IN_KCAL_PER_MOL,
        "F": arrays["F"] * EV_IN_KCAL_PER_MOL,
    }
    names = {"type": "d", "name": name, "theory": theory, "r_unit": "Ang", "e_unit": "kcal/mol"}
    with open(path, "wb") as file:
        np.savez(file, **contents, **names, md5=fingerprint(contents))


def write_rmd17(
    path: Path, numbers: NDArray, arrays: Mapping[str, NDArray], order: NDArray
) -> None:
    """Write rMD17's layout, frames in the order given; arguments as for `write_md17`.

    ``coords``, ``nuclear_charges``, ``energies [T]``, ``forces``, with ``old_energies`` and
    ``old_forces`` the same and ``old_indices`` each frame's place in time.
    """
    energies = arrays["E"][order] * EV_IN_KCAL_PER_MOL
    forces = arrays["F"][order] * EV_IN_KCAL_PER_MOL
    with open(path, "wb") as file:
        np.savez(
            file,
            nuclear_charges=numbers.astype(np.int64),
            coords=arrays["R"][order],
            energies=energies,
            forces=forces,
            old_indices=order,
            old_energies=energies,
            old_forces=forces,
        )
