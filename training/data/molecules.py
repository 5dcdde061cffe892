"""The molecules that reference data is made for: what they are, and where a burst starts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from ase_atom.ase import conformer
from ase_atom.errors import CoverageError, DataError
from ase_atom.molecules.atoms import check_isolated, set_charge, total_charge
from ase_atom.molecules.topology import perceive_bonds, perceive_smiles


@dataclass(frozen=True)
class Molecule:
    """A molecule to simulate.

    Attributes
    ----------
    name
        Names its files and keys.
    smiles
        Canonical SMILES.
    structures
        Starting structures in turn for the bursts; if None, each burst gets a conformer of its own.
    charge
        Total charge in e.
    """

    name: str
    smiles: str
    structures: tuple[Atoms, ...] | None = None
    charge: int = 0

    def numbers(self) -> np.ndarray:
        """Return the atomic numbers ``[N]``, in the order of the atoms of `start`."""
        if self.structures is not None:
            return self.structures[0].numbers
        return np.array([atom.GetAtomicNum() for atom in _hydrogenated(self.smiles).GetAtoms()])

    def start(self, index: int, seed: int) -> Atoms:
        """Return the starting structure of a burst, unrelaxed and at rest.

        Conformers come from RDKit's ETKDG version 3 (Wang, Witek, Landrum and Riniker 2020).

        Raises
        ------
        DataError
            If no conformer can be embedded.
        """
        if self.structures is not None:
            atoms = self.structures[index % len(self.structures)]
            return Atoms(atoms.numbers, atoms.positions)
        return embed(self.smiles, seed)

    def structures_checksum(self) -> str:
        """Return the SHA-256 of the starting structures."""
        digest = hashlib.sha256()
        for atoms in self.structures or ():
            digest.update(atoms.numbers.astype("<i8").tobytes())
            digest.update(atoms.positions.astype("<f8").tobytes())
        return digest.hexdigest()

    def bonds(self) -> np.ndarray:
        """Return the bonded pairs ``[M, 2]``, in the order of the atoms of `start`."""
        if self.structures is not None:
            first = self.structures[0]
            return np.array(perceive_bonds(first.numbers, first.positions)).reshape(-1, 2)
        molecule = _hydrogenated(self.smiles)
        pairs = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
        return np.array(pairs, dtype=int).reshape(-1, 2)


def from_smiles(smiles: str, name: str | None = None, charges: Sequence[int] = (0,)) -> Molecule:
    """Make a molecule from SMILES.

    Parameters
    ----------
    smiles
        One closed-shell molecule of ordinary isotopes.
    name
        By default its formula.
    charges
        Total charges that it may have.

    Raises
    ------
    DataError
        If it cannot be read or is none of that.
    """
    from rdkit import Chem, RDLogger
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    RDLogger.DisableLog("rdApp.*")
    parsed = Chem.MolFromSmiles(smiles)
    if parsed is None or parsed.GetNumAtoms() == 0:
        raise DataError(f"{smiles!r} is not a SMILES string that RDKit can read")
    fragments = len(Chem.GetMolFrags(parsed))
    charge = Chem.GetFormalCharge(parsed)
    if fragments > 1:
        raise DataError(f"{smiles!r} holds {fragments} molecules or ions; give one molecule")
    if charge not in charges:
        raise DataError(f"{smiles!r} has a total charge of {charge:+d}; {_only(charges)}")
    for atom in parsed.GetAtoms():
        if atom.GetNumRadicalElectrons():
            raise DataError(f"{smiles!r} has unpaired electrons; only closed-shell molecules")
        if atom.GetIsotope():
            raise DataError(
                f"{smiles!r} names the isotope {atom.GetIsotope()}{atom.GetSymbol()}; bursts are "
                "run with standard atomic masses"
            )
        if atom.GetAtomicNum() == 0:
            raise DataError(f"{smiles!r} has an atom of no element (*)")
    canonical = Chem.MolToSmiles(parsed)
    return Molecule(checked_name(name or CalcMolFormula(parsed)), canonical, charge=charge)


def from_structure(path: Path, name: str | None = None, charges: Sequence[int] = (0,)) -> Molecule:
    """Make a molecule from a structure file of any kind that ASE reads; its frames are starts.

    Parameters
    ----------
    name
        By default the file's.
    charges
        Total charges that it may state, see `ase_atom.molecules.atoms.total_charge`.

    Raises
    ------
    DataError
        If the file cannot be read, or is not one closed-shell molecule, of one of the charges, in
        each frame.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        frames = read(path, index=":")
    except Exception as error:
        raise DataError(f"{path}: is no structure that ASE can read: {error}") from error
    if not frames:
        raise DataError(f"{path}: holds no structure")
    names, charge = [], 0
    for number, atoms in enumerate(frames):
        try:
            check_isolated(atoms)
            charge = total_charge(atoms)
            if charge not in charges:
                raise CoverageError(f"total charge of {charge:+d}; {_only(charges)}")
            names.append(perceive_smiles(atoms.numbers, atoms.positions, charge)[1])
        except CoverageError as error:
            raise DataError(f"{path}, frame {number}: {error}") from error
        if names[-1] != names[0] or (atoms.numbers != frames[0].numbers).any():
            raise DataError(
                f"{path}: frame {number} is {names[-1]} and frame 0 {names[0]}, or their atoms are "
                "in another order; one file is for one molecule"
            )
    return Molecule(checked_name(name or path.stem), names[0], tuple(frames), charge)


def embed(smiles: str, seed: int) -> Atoms:
    """Return a random conformer of a molecule with all its hydrogens, and its charge.

    Raises
    ------
    DataError
        If RDKit finds none.
    """
    molecule = _hydrogenated(smiles)
    if not conformer.embed(molecule, seed):
        raise DataError(f"no conformer of {smiles} could be embedded")
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    atoms = Atoms(numbers, molecule.GetConformer().GetPositions())
    if charge := sum(atom.GetFormalCharge() for atom in molecule.GetAtoms()):
        set_charge(atoms, charge)
    return atoms


def checked_name(name: str) -> str:
    """Return a name if it can name a file and an HDF5 group.

    Raises
    ------
    DataError
        If it cannot.
    """
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>| '):
        raise DataError(f"{name!r} cannot name a file; use letters, digits, - and _")
    return name


def _only(charges: Sequence[int]) -> str:
    if tuple(charges) == (0,):
        return "only neutral molecules"
    return f"only {', '.join(f'{charge:+d}' if charge else '0' for charge in charges)}"


def _hydrogenated(smiles: str):
    from rdkit import Chem

    return Chem.AddHs(Chem.MolFromSmiles(smiles))
