"""Geometries that a sampling has asked a calculator about, as data for the potential."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from ase.io import read

from ase_atom.errors import DataError
from ase_atom.io.guard import reading
from training.data.burst import Burst
from training.data.store import read_bursts
from training.importing.bursts import centred
from training.importing.checking import check_geometry
from training.importing.reading import read_frames


def read_harvest(path: Path, name: str) -> list[Burst]:
    """Read energies and forces of geometries that are no path.

    Parameters
    ----------
    path
        What ``ase-atom sample --harvest`` writes, any other file of geometries with energies and
        forces that ASE reads, or displaced geometries of ``training.generate``.
    name
        Of the molecule.

    Returns
    -------
    list of Burst
        Of the ensemble ``displaced``; velocities are zero.

    Raises
    ------
    DataError
        If it cannot be read, lacks energies or forces, or a molecule is not one, or not the same.
    """
    if path.is_file() and h5py.is_hdf5(path):
        return read_bursts(path)
    frames = centred(read_frames(path))
    smiles = check_geometry(frames)
    with reading(path, DataError):
        said = read(path, index=0).info
    return [
        Burst(
            key=f"{name}/harvest",
            smiles=smiles,
            numbers=frames.numbers,
            masses=frames.masses,
            positions=frames.positions,
            velocities=np.zeros_like(frames.positions),
            energies=frames.energies,
            forces=frames.forces,
            interval=0.0,
            temperature_K=float(said.get("temperature_K", 300.0)),
            seed=0,
            attrs={
                "theory": str(said.get("calculator", "unknown")),
                "ensemble": "displaced",
                "source": path.name,
            },
        )
    ]
