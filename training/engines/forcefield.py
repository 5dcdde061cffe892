"""MMFF94 and UFF through RDKit: cheap forces that shake a conformer before an engine takes over."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes

from ase_atom.errors import DataError

EV = units.kcal / units.mol
"""One kcal/mol in eV."""


class ForceField(Calculator):
    """MMFF94 (Halgren 1996), or UFF (Rappé et al. 1992) where MMFF94 lacks parameters.

    Parameters
    ----------
    smiles
        The molecule; the atoms' order is RDKit's with hydrogens added, as `embed` gives it.

    Raises
    ------
    DataError
        If neither knows all its atoms.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, smiles: str) -> None:
        super().__init__()
        from rdkit import Chem
        from rdkit.Chem import rdForceFieldHelpers as helpers

        self._molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        # Force fields are built on a conformer; positions are given to them with each call.
        self._molecule.AddConformer(Chem.Conformer(self._molecule.GetNumAtoms()))
        properties = helpers.MMFFGetMoleculeProperties(self._molecule)
        if properties is not None:
            self.kind = "MMFF94"
            self._field = helpers.MMFFGetMoleculeForceField(self._molecule, properties)
        elif helpers.UFFHasAllMoleculeParams(self._molecule):
            self.kind = "UFF"
            self._field = helpers.UFFGetMoleculeForceField(self._molecule)
        else:
            raise DataError(f"neither MMFF94 nor UFF has parameters for {smiles}")
        self._field.Initialize()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute ``energy`` (eV) and ``forces`` (eV/Å)."""
        positions = atoms.positions.ravel().tolist()
        # The energy comes first: it renews the distances that RDKit's gradient works with.
        energy = self._field.CalcEnergy(positions)
        gradient = np.array(self._field.CalcGrad(positions)).reshape(-1, 3)
        self.results = {"energy": energy * EV, "forces": -gradient * EV}
