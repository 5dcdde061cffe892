"""GFN-xTB through tblite with no more than energy and forces fetched from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, all_changes
from ase.units import Bohr, Hartree
from tblite.ase import TBLite


class EnergyAndForces(TBLite):
    """`TBLite` for dynamics: the same energies and forces bit by bit, at less cost around them.

    `TBLite` copies the atoms at every step and fetches charges, dipole and bond orders as well,
    which for ethanol takes a quarter of a step.
    """

    implemented_properties = ("energy", "free_energy", "forces")

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute ``energy`` (eV; ``free_energy`` is the same) and ``forces`` (eV/Å).

        Raises
        ------
        CalculationFailed
            If the charges do not converge.
        """
        if atoms is None or self._xtb is None or list(system_changes) != ["positions"]:
            super().calculate(atoms, list(properties or ["energy"]), list(system_changes))
            return
        if self.atoms is not None:
            self.atoms.positions[:] = atoms.positions
        try:
            self._xtb.update(positions=np.divide(atoms.positions, Bohr))
            self._res = self._xtb.singlepoint(self._res)
        except RuntimeError as error:
            raise CalculationFailed(str(error)) from error
        energy = self._res["energy"] * Hartree
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": -self._res["gradient"] * Hartree / Bohr,
        }
