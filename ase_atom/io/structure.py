"""Reading a molecule from whatever ASE reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, open_with_compression

from ase_atom.errors import FileFormatError
from ase_atom.errors.keywords import known_keywords
from ase_atom.io.bounds import Budget
from ase_atom.io.cells import without_placeholder
from ase_atom.io.guard import check_file, reading, refusal
from ase_atom.io.labels import element_of_name, with_masses
from ase_atom.io.pdb import PDBReader
from ase_atom.io.text import NotReadError, TextReader
from ase_atom.io.xyz import XYZImages
from ase_atom.molecules.topology import is_element

_ADVICE = "an .xyz, .extxyz, .pdb, .sdf or .traj file would do"


class _PDBStructure(PDBReader):
    """Formal charges stay with the atoms."""

    def _report_left_out(self, names: Sequence[str]) -> None:
        super()._report_left_out([name for name in names if "charges" not in name])


_OWN: dict[str, type[TextReader]] = {
    "xyz": XYZImages,
    "extxyz": XYZImages,
    "proteindatabank": _PDBStructure,
}
"""Readers in the place of ASE's, by ASE's names of formats."""


@known_keywords()
def read_structure(path: str | Path) -> Atoms:
    """Read one molecule; of a file with several frames the last, as ASE does.

    Elements, units and cells are as in trajectories of the same format; a placeholder is no cell.

    Raises
    ------
    TrajectoryError
        If there is no such file, or the operating system does not give it.
    FileFormatError
        If ASE finds no structure in it, or it does not say which elements its atoms are.
    """
    path = Path(path)
    check_file(path, "structure file")
    with reading(path, what="is no structure that ASE can read", advice=_ADVICE):
        try:
            return _read(path)
        except UnknownFileTypeError as error:
            raise FileFormatError(
                f"{path} is no structure that ASE can read: it is in no format that ASE knows; "
                f"{_ADVICE}"
            ) from error


def _read(path: Path) -> Atoms:
    is_packed = path.suffix.lower() in (".gz", ".bz2", ".xz")
    if is_packed:
        _check_unpacked_size(path)
    kind = "proteindatabank" if path.suffix.lower() == ".ent" else filetype(str(path))
    if kind in _OWN and not is_packed:
        atoms = _last(_OWN[kind], path)
    elif kind in ("sdf", "mol") and not is_packed:
        atoms = _of_molfile(path)
    else:
        found = ase.io.read(path, do_not_split_by_at_sign=True)
        atoms = found if isinstance(found, Atoms) else Atoms()
    if len(atoms) == 0:
        raise FileFormatError(f"{path} holds no atoms")
    _check_elements(path, kind, atoms)
    periodic = atoms.pbc.any()
    atoms = without_placeholder(atoms)
    if kind == "cif" and periodic and not atoms.pbc.any():
        raise refusal(path, f"ASE wraps its atoms into a placeholder cell of 1 Å; {_ADVICE}")
    return atoms


def _check_unpacked_size(path: Path) -> None:
    """Raise ValueError for a packed file that is far longer than a packed structure can be."""
    budget = Budget(path.stat().st_size)
    with open_with_compression(str(path), "rb") as file:
        while part := file.read(2**20):
            budget.take(len(part), "what is packed in it")


def _of_molfile(path: Path) -> Atoms:
    """Return the first molecule of an SDF or mol file, with isotopes and formal charges.

    RDKit reads them; ASE leaves the lines of properties out.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromMolFile(str(path), sanitize=False, removeHs=False)
    if molecule is None:
        raise ValueError("RDKit finds no molecule in it")
    members = list(molecule.GetAtoms())
    atoms = Atoms([one.GetAtomicNum() for one in members], molecule.GetConformer().GetPositions())
    if any(one.GetIsotope() for one in members):
        masses = atoms.get_masses()
        for index, one in enumerate(members):
            if one.GetIsotope():
                masses[index] = one.GetMass()
        atoms.set_masses(masses)
    charges = [one.GetFormalCharge() for one in members]
    if any(charges):
        atoms.set_initial_charges(charges)
    return atoms


def _last(reader_class: type[TextReader], path: Path) -> Atoms:
    """Return the last frame of a file of text."""
    try:
        with reader_class(path) as reader:
            return reader.last_atoms()
    except FileFormatError as error:
        if isinstance(error.__cause__, NotReadError):  # which says what is right
            raise
        reason = str(error).removeprefix(f"{path} cannot be read: ")
        raise ValueError(reason) from error


def _check_elements(path: Path, kind: str, atoms: Atoms) -> None:
    """Put right, or refuse, elements that ASE guessed.

    Raises
    ------
    FileFormatError
        If the file does not say them.
    """
    if kind == "gromacs":
        _take_names(path, atoms)
    with path.open("rb") as file:
        head = file.read(2**16)
    guessed = (
        (kind == "proteindatabank" and path.suffix.lower() in (".gz", ".bz2", ".xz"))
        or kind == "gromos"
        or (kind == "lammps-dump-text" and b" element" not in head)
        or (kind == "lammps-data" and b"Masses" not in head)
    )
    if guessed:
        raise refusal(path, f"ASE would guess its elements; {_ADVICE}")
    if not is_element(atoms.numbers).all():
        strange = int(np.argmin(is_element(atoms.numbers)))
        what = "is a dummy or ghost atom: take it out of the file"
        if number := int(atoms.numbers[strange]):
            what = f"has the atomic number {number}"
        raise refusal(path, f"atom {strange + 1} {what}")


def _take_names(path: Path, atoms: Atoms) -> None:
    """Take elements from the names and residues of a GRO file."""
    arrays = ("atomtypes", "residuenames", "residuenumbers")
    members = list(zip(*(atoms.arrays[name].tolist() for name in arrays), strict=True))
    names = defaultdict(set)
    for name, *residue in members:
        names[tuple(residue)].add(name)
    symbols = []
    for index, (name, residue, number) in enumerate(members):
        alone = len(names[residue, number]) == 1
        try:
            symbols.append(element_of_name(f"{name:4}", residue, alone, aligned=False))
        except ValueError as error:
            raise refusal(
                path,
                f"atom {index + 1}, {name!r} of residue {residue!r}, {error}: "
                f"a GRO file does not say elements; {_ADVICE}",
            ) from error
    plain, masses = with_masses(symbols)
    momenta = atoms.get_velocities() if atoms.has("momenta") else None
    atoms.set_chemical_symbols(plain)
    if masses is not None:
        atoms.set_masses(masses)
    if momenta is not None:
        atoms.set_velocities(momenta)
