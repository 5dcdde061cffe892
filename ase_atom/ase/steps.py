"""Jumps by the forces of an ASE calculator, which settle leaps learned from a trajectory."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_atom.errors.keywords import known_keywords
from ase_atom.molecules.atoms import set_charge, total_charge
from ase_atom.operator.protocol import Leap
from ase_atom.propagation.stepwise import Array, OneByOne


class CalculatorSteps(OneByOne):
    """An ASE calculator as an operator: velocity Verlet by its forces.

    Parameters
    ----------
    calculator
        Gives energies and forces of one isolated molecule.
    timestep
        fs.
    leaps
        Draws states at later times, such as `ase_atom.load_leaps` returns.

    Raises
    ------
    ConfigError
        For a time step that is not above 0, or longer than a jump of 16 fs.
    """

    @known_keywords()
    def __init__(
        self, calculator: Calculator, timestep: float = 0.5, leaps: Leap | None = None
    ) -> None:
        super().__init__(timestep, leaps)
        self.calculator = calculator
        self._atoms: Atoms | None = None

    @property
    def engine(self) -> str:  # type: ignore[override]
        """Name of the calculator."""
        return type(self.calculator).__name__

    @property
    def fingerprint(self) -> str:
        """The calculator's name and settings, and the time step."""
        settings = getattr(self.calculator, "parameters", {})
        return f"{super().fingerprint} {self.engine} {dict(settings)!r} {self.timestep}"

    def evaluate(self, numbers: NDArray[np.int64], charge: int, x: Array) -> tuple[float, Array]:
        """Return energy in eV and forces in eV/Å, ``[N, 3]``, of one molecule."""
        atoms = self._atoms
        same = atoms is not None and np.array_equal(atoms.numbers, numbers)
        if atoms is None or not same or total_charge(atoms) != charge:
            atoms = self._atoms = Atoms(numbers, x)
            atoms.calc = self.calculator
            if charge:
                set_charge(atoms, charge)
        atoms.positions = x
        forces = atoms.get_forces()
        return float(atoms.get_potential_energy()), forces.astype(float)
