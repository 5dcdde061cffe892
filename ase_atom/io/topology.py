"""Topology for formats that hold positions only: OpenMM's, and as a PDB file beside."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses
from openmm import unit
from openmm.app import Element, PDBFile, Topology
from scipy.spatial import KDTree

from ase_atom.errors import TrajectoryError
from ase_atom.errors.keywords import known_keywords
from ase_atom.files import replacing
from ase_atom.io.guard import check_file, reading
from ase_atom.io.labels import HEAVY_HYDROGEN
from ase_atom.io.structure import read_structure
from ase_atom.molecules.atoms import atom_names, stated_charge
from ase_atom.molecules.lewis import lewis_structure
from ase_atom.molecules.topology import BOND_FACTOR, perceive_bonds, radii

_MASS_ROUNDING = 0.06  # amu, between what force fields and IUPAC take for one element
_FURTHEST = 999_999  # Å, for eight characters with a sign
_SMALL = 200  # up to so many atoms all pairs are looked at


@known_keywords()
def openmm_topology(atoms: Atoms, bonds: bool = True) -> Topology:
    """Return a topology of one residue, ``MOL``, with bonds perceived from the positions.

    Atoms are named as `ase_atom.molecules.atoms.atom_names` has them. Periodic atoms give the
    cell too, and an ion formal charges.
    """
    topology = Topology()
    residue = topology.addResidue("MOL", topology.addChain("A"))
    pairs = find_bonds(atoms) if bonds else []
    each = zip(
        atom_names(atoms), atoms.get_chemical_symbols(), _formal_charges(atoms, pairs), strict=True
    )
    for name, symbol, charge in each:
        topology.addAtom(name, Element.getBySymbol(symbol), residue, formalCharge=charge or None)
    members = list(topology.atoms())
    for i, j in pairs:
        topology.addBond(members[i], members[j])
    if atoms.pbc.any():
        standard, _ = atoms.cell.standard_form()
        topology.setPeriodicBoxVectors(np.tril(standard.array) * unit.angstrom)
    return topology


def _formal_charges(atoms: Atoms, bonds: Sequence[tuple[int, int]]) -> list[int]:
    """Return the atoms' own charges if they are whole numbers, else those of the Lewis structure.

    Of an ion that has none, zeros.
    """
    charge = stated_charge(atoms)
    own = atoms.get_initial_charges()
    if np.array_equal(own, own.round()) and own.sum() == (charge or 0):
        return [round(one) for one in own]
    if not charge or not bonds:
        return [0] * len(atoms)
    try:
        _, charges = lewis_structure(atoms.numbers.tolist(), bonds, charge)
    except ValueError:
        return [0] * len(atoms)
    return [int(one) for one in charges]


def find_bonds(atoms: Atoms) -> list[tuple[int, int]]:
    """Return bonded pairs (i < j) by distance, through periodic boundaries too."""
    if len(atoms) <= _SMALL and not atoms.pbc.any():
        return perceive_bonds(atoms.numbers, atoms.positions)
    limits = BOND_FACTOR * radii(atoms.numbers)
    positions = atoms.get_positions(wrap=bool(atoms.pbc.any()))
    here = KDTree(positions)
    found = []
    for shift in product(*((-1, 0, 1) if repeats else (0,) for repeats in atoms.pbc)):
        there = KDTree(positions + np.array(shift) @ atoms.cell.array)
        near = here.sparse_distance_matrix(there, 2 * limits.max(), output_type="ndarray")
        i, j = near["i"], near["j"]
        bonded = (i < j) & (near["v"] < limits[i] + limits[j])
        found.append(np.stack([i[bonded], j[bonded]], axis=1))
    return [(int(i), int(j)) for i, j in np.unique(np.concatenate(found), axis=0)]


@known_keywords()
def write_pdb(path: Path, atoms: Atoms) -> None:
    """Write a PDB file with CONECT records, so that VMD and others draw the bonds at once.

    Raises
    ------
    TrajectoryError
        If a PDB file cannot hold the positions.
    OSError
        If it cannot be written.
    """
    furthest = np.abs(atoms.positions).max()
    if not furthest < _FURTHEST:
        raise TrajectoryError(
            f"cannot write {path}: a PDB file cannot hold a position of {furthest:g} Å"
        )
    with replacing(path) as scratch, scratch.open("w") as file:
        PDBFile.writeFile(openmm_topology(atoms), atoms.positions * unit.angstrom, file)


def pdb_fits(path: Path, atoms: Atoms) -> bool:
    """Return whether a PDB file has the same elements, bonds and charge as the atoms."""
    try:
        there = read_structure(path)
    except TrajectoryError:
        return False
    bonds = find_bonds(atoms)
    same = np.array_equal(there.numbers, atoms.numbers) and find_bonds(there) == bonds
    return same and (stated_charge(there) or 0) == sum(_formal_charges(atoms, bonds))


def names_beside(path: Path, atoms: Atoms) -> list[str]:
    """Return the atoms' names in the PDB file beside a trajectory, or as one would be written."""
    beside = path.with_suffix(".pdb")
    if beside != path and beside.is_file() and pdb_fits(beside, atoms):
        return atom_names(read_structure(beside))
    return atom_names(atoms)


def topology_beside(path: Path) -> Path | None:
    """Return the PDB or PSF file of the same name, if there is one."""
    for ending in (".pdb", ".psf"):
        beside = path.with_suffix(ending)
        if beside.is_file():
            return beside
    return None


def find_topology(path: Path, given: Atoms | str | Path | None) -> tuple[Atoms, str]:
    """Return atoms with a trajectory's elements, masses and charge as stated, and their source.

    Parameters
    ----------
    path
        The trajectory, beside which a topology is looked for.
    given
        Atoms, or a structure or PSF file; None looks beside.

    Raises
    ------
    TrajectoryError
        If there is none, or it cannot be read.
    """
    if isinstance(given, Atoms):
        return given, "given"
    source = topology_beside(path) if given is None else Path(given)
    if source is None:
        raise TrajectoryError(
            f"{path} does not say which elements its atoms are: put {path.with_suffix('.pdb').name}"
            f" or {path.with_suffix('.psf').name} beside it, or give a topology"
        )
    return _read(source), str(source)


def read_elements(path: Path) -> np.ndarray:
    """Return the atomic numbers of a structure or PSF file.

    Raises
    ------
    TrajectoryError
        If it cannot be read, or an atom has no element.
    """
    numbers: np.ndarray = _read(path).numbers
    return numbers


def _read(path: Path) -> Atoms:
    is_psf = path.suffix.lower() == ".psf"
    atoms = _psf_atoms(path) if is_psf else read_structure(path)
    if not atoms.numbers.all():
        raise TrajectoryError(
            f"atom {int(np.argmin(atoms.numbers)) + 1} of the topology {path} has no element"
        )
    return atoms


def _psf_atoms(path: Path) -> Atoms:
    """Return the atoms of a PSF file, all at the origin, with elements by their masses.

    A PSF file says no elements, but names, types and masses. Masses differ from the standard ones
    by rounding, or are deuterium's; repartitioned ones do not say what an atom is.
    """
    check_file(path, "structure file")
    with reading(path, what="is no PSF file"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines or not lines[0].startswith("PSF"):
            raise ValueError("it does not begin with PSF")
        start = next((n for n, line in enumerate(lines) if "!NATOM" in line), None)
        if start is None:
            raise ValueError("it has no list of atoms")
        rows = [line.split() for line in lines[start + 1 :][: int(lines[start].split()[0])]]
        masses = np.array([float(row[7]) for row in rows])
        if len(masses) != int(lines[start].split()[0]):
            raise ValueError("its list of atoms is cut off")
    # Nearest standard masses; isotopes that have names of their own stand behind.
    known = np.append(atomic_masses[1:], HEAVY_HYDROGEN["D"])
    nearest = np.abs(masses[:, None] - known).argmin(axis=1)
    off = ~(np.abs(masses - known[nearest]) <= _MASS_ROUNDING)
    if off.any():
        atom = int(np.argmax(off))
        raise TrajectoryError(
            f"atom {atom + 1} of {path}, {rows[atom][4]!r}, has a mass of {masses[atom]:g} amu, "
            "that of no element: give a .pdb file with elements as the topology"
        )
    is_heavy = nearest == len(known) - 1
    atoms = Atoms(np.where(is_heavy, 1, nearest + 1))
    if is_heavy.any():
        atoms.set_masses(np.where(is_heavy, HEAVY_HYDROGEN["D"], atoms.get_masses()))
    return atoms
