"""An engine that takes its process down with it for one element."""

from __future__ import annotations

import os

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.morse import MorsePotential


class Crashing(MorsePotential):
    """Morse potential of N₂; ends the process at once if there is oxygen."""

    def __init__(self) -> None:
        super().__init__(epsilon=9.9, r0=1.1, rho0=2.96)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Compute, or die."""
        if 8 in atoms.numbers:
            os._exit(7)
        super().calculate(atoms, list(properties), system_changes)


class Free(Calculator):
    """No forces at all."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Compute nothing."""
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}
