"""Topology for formats that hold positions only: OpenMM's, and as a PDB file beside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ase import Atoms
from openmm import unit
from openmm.app import Element, PDBFile, Topology

from ase_atom.topology import perceive_bonds


def openmm_topology(atoms: Atoms) -> Topology:
    """Return a topology of one residue, ``MOL``, with bonds perceived from the positions.

    Atoms are named by element and count: C1, C2, O1, H1, …
    """
    topology = Topology()
    residue = topology.addResidue("MOL", topology.addChain("A"))
    counts: Counter[str] = Counter()
    for symbol in atoms.get_chemical_symbols():
        counts[symbol] += 1
        topology.addAtom(f"{symbol}{counts[symbol]}", Element.getBySymbol(symbol), residue)
    members = list(topology.atoms())
    for i, j in perceive_bonds(atoms):
        topology.addBond(members[i], members[j])
    return topology


def write_pdb(path: Path, atoms: Atoms) -> None:
    """Write a PDB file with CONECT records, so that VMD and others draw the bonds at once.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with path.open("w") as file:
        PDBFile.writeFile(openmm_topology(atoms), atoms.positions * unit.angstrom, file)
