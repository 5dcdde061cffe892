"""Structures from SMILES: RDKit's conformers."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from ase_atom.errors import CoverageError
from ase_atom.molecules.topology import formula

MOST_ATOMS = 200
"""Larger molecules are embedded slowly, and no operator is for them."""


def from_smiles(smiles: str, seed: int = 0) -> Atoms:
    """Return a conformer of a molecule with all its hydrogens, at rest.

    ETKDG version 3 (Wang, Witek, Landrum and Riniker 2020), relaxed with MMFF94s (Halgren 1999)
    where that knows the atoms. Whether an operator is for the molecule is not looked at.

    Parameters
    ----------
    smiles
        One molecule. Its total charge is in ``atoms.info["charge"]``.
    seed
        Which conformer.

    Raises
    ------
    CoverageError
        If RDKit cannot read the SMILES, or it holds several molecules, an atom of no element or too
        many atoms; or if it cannot be embedded.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdForceFieldHelpers

    parsed = _parsed(smiles)
    with rdBase.BlockLogs():
        molecule = Chem.AddHs(parsed)
        _check(smiles, molecule)
        if not embed(molecule, seed, 50):
            raise CoverageError(
                f"{smiles!r} cannot be embedded: RDKit finds no conformer with these bonds and "
                "stereocentres; give a structure file"
            )
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, mmffVariant="MMFF94s")
    atoms = Atoms(
        [atom.GetAtomicNum() for atom in molecule.GetAtoms()],
        np.array(molecule.GetConformer().GetPositions()),
    )
    _take_over(molecule, atoms)
    return atoms


def embed(molecule: Any, seed: int, iterations: int = 0) -> bool:
    """Give one of RDKit's molecules, with all its hydrogens, a conformer; say whether it has one.

    By ETKDG version 3 with its usual start, then from random coordinates, then without what it
    knows of groups that are straight or flat: in small rings, such as cyclooctyne's, they are not.

    Parameters
    ----------
    molecule
        That gets the conformer.
    seed
        Which one.
    iterations
        Tries in each way; 0 leaves their number to RDKit.
    """
    from rdkit.Chem import rdDistGeom

    for way in ({}, {"useRandomCoords": True}, {"useBasicKnowledge": False}):
        parameters: Any = rdDistGeom.ETKDGv3()
        parameters.randomSeed, parameters.maxIterations = seed % 2**31, iterations
        for name, value in way.items():
            setattr(parameters, name, value)
        if rdDistGeom.EmbedMolecule(molecule, parameters) == 0:
            return True
    return False


def formula_of(smiles: str) -> str:
    """Return the formula in Hill's order, without a charge.

    Raises
    ------
    CoverageError
        If RDKit cannot read the SMILES.
    """
    from rdkit import Chem

    numbers = [atom.GetAtomicNum() for atom in Chem.AddHs(_parsed(smiles)).GetAtoms()]
    return formula(np.array(numbers))


def _parsed(smiles: str) -> Any:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        parsed = Chem.MolFromSmiles(smiles)
    if parsed is None or parsed.GetNumAtoms() == 0:
        raise CoverageError(f"{smiles!r} is no SMILES that RDKit can read, such as CCO for ethanol")
    return parsed


def _check(smiles: str, molecule: Any) -> None:
    from rdkit import Chem

    parts = len(Chem.GetMolFrags(molecule))
    if parts > 1:
        raise CoverageError(
            f"{smiles!r} holds {parts} molecules or ions; operators move one molecule at a time"
        )
    if molecule.GetNumAtoms() > MOST_ATOMS:
        raise CoverageError(
            f"{smiles!r} has {molecule.GetNumAtoms()} atoms: a structure file is needed for more "
            f"than {MOST_ATOMS}"
        )
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        raise CoverageError(f"{smiles!r} has an atom of no element (*)")


def _take_over(molecule: Any, atoms: Atoms) -> None:
    """Give the atoms what the SMILES says beside elements: isotopes, charge, unpaired electrons."""
    members = list(molecule.GetAtoms())
    if any(one.GetIsotope() for one in members):
        own = zip(members, atoms.get_masses(), strict=True)
        atoms.set_masses([one.GetMass() if one.GetIsotope() else mass for one, mass in own])
    charge = sum(one.GetFormalCharge() for one in members)
    if charge:
        atoms.info["charge"] = charge
    unpaired = sum(one.GetNumRadicalElectrons() for one in members)
    if unpaired:
        atoms.info["multiplicity"] = unpaired + 1
