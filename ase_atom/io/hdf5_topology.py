"""The topology inside mdtraj's HDF5 files: JSON in an array of one text."""

from __future__ import annotations

import json
from operator import itemgetter

import h5py
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ase_atom.io.plain_hdf5 import dataset, read_whole
from ase_atom.io.topology import openmm_topology

_HEAD, _ATOM = 2**16, 2**12  # bytes of text, and of text for an atom, at most
_VIRTUAL = ("", "VS")  # how mdtraj calls sites without an element


def topology_text(atoms: Atoms) -> bytes:
    """Return the topology of a molecule as mdtraj has it, of one chain and residue with bonds."""
    topology = openmm_topology(atoms)
    chains = [
        {
            "index": chain.index,
            "residues": [
                {
                    "index": residue.index,
                    "name": residue.name,
                    "resSeq": residue.index + 1,
                    "segmentID": "",
                    "atoms": [
                        {"index": atom.index, "name": atom.name, "element": atom.element.symbol}
                        for atom in residue.atoms()
                    ],
                }
                for residue in chain.residues()
            ],
        }
        for chain in topology.chains()
    ]
    bonds = [[bond[0].index, bond[1].index] for bond in topology.bonds()]
    return json.dumps({"chains": chains, "bonds": bonds}).encode()


def read_numbers(file: h5py.File, atom_count: int) -> np.ndarray:
    """Return atomic numbers, ``[N]``, zero for virtual sites.

    Raises
    ------
    ValueError
        If the topology is longer than one of so many atoms, or is one of another number.
    """
    text = file["topology"].dtype
    if h5py.check_string_dtype(text) is not None and text.kind == "O":
        raise ValueError("its topology is a text of no fixed length, which mdtraj does not write")
    array = dataset(file, "topology", (1,))
    if array.dtype.itemsize > _HEAD + _ATOM * atom_count:
        raise ValueError(
            f"its topology is a text of {array.dtype.itemsize} bytes, for {atom_count} atoms"
        )
    topology = json.loads(read_whole(array)[0])
    found = [
        atom["element"]
        for chain in sorted(topology["chains"], key=itemgetter("index"))
        for residue in sorted(chain["residues"], key=itemgetter("index"))
        for atom in sorted(residue["atoms"], key=itemgetter("index"))
    ]
    if len(found) != atom_count:
        raise ValueError(f"its topology is of {len(found)} atoms, its frames of {atom_count}")
    strange = [name for name in found if name not in atomic_numbers and name not in _VIRTUAL]
    if strange:
        raise ValueError(f"its topology holds the element {strange[0]!r}, which there is not")
    return np.array([atomic_numbers.get(name, 0) for name in found])
