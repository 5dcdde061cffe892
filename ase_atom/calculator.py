"""The operator as an ASE calculator: energies and forces, and whole paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ase_atom.catalogue import operator_for
from ase_atom.coverage import check_atoms, fixes_centre_of_mass
from ase_atom.errors import ConfigError
from ase_atom.operator import Operator, load_operator
from ase_atom.propagation import Guard, jump
from ase_atom.state import PhaseState
from ase_atom.threads import torch_threads
from ase_atom.units import FS, velocities_to_ase


class ATOMCalculator(Calculator):
    """Energy and forces from an operator's energy head, like any other ASE calculator.

    The energy head was trained on thermal geometries of the molecules on the operator's card and
    knows nothing beyond their basins: not bonds that break, not other minima. Where bonds or
    distances leave the limits of the guard, the molecule must still be one of the card's, or it is
    refused. Forces are the exact gradient of the energy.

    Masses and velocities do not matter to the energy and are not looked at; `propagate` checks
    them.

    Parameters
    ----------
    operator
        A shipped operator's name, a checkpoint file, or an `ase_atom.operator.Operator`; by
        default the shipped one for the first molecule that is computed.
    precision
        Of the energy head. In single precision, the faster, energies are smooth to about a µeV.
    threads
        Torch's threads while the operator computes; None leaves torch's own setting.

    Raises
    ------
    CheckpointError
        If there is no such operator, or its file is damaged.
    ConfigError
        For another precision.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]
    # What does not change the energy need not be computed again for.
    ignored_changes: ClassVar[set[str]] = {"initial_magmoms", "cell"}

    def __init__(
        self,
        operator: str | Path | Operator | None = None,
        precision: Literal["single", "double"] = "single",
        threads: int | None = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if precision not in ("single", "double"):
            raise ConfigError(f"precision is 'single' or 'double', not {precision!r}")
        self.precision = precision
        self.threads = threads
        self._operator = operator
        if operator is not None and not isinstance(operator, Operator):
            self._operator = load_operator(operator)
        self._head: Operator | None = None
        self._checked: Atoms | None = None
        self._limits: Guard | None = None

    @property
    def operator(self) -> Operator | None:
        """The operator; None until the first molecule if none was given."""
        return self._operator

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute ``energy`` and ``free_energy`` in eV and, if asked for, ``forces`` in eV/Å.

        Raises
        ------
        CoverageError
            For a molecule, charge or cell that the operator was not trained for.
        """
        super().calculate(atoms, properties, system_changes)
        bare = Atoms(self.atoms.numbers, self.atoms.positions, pbc=self.atoms.pbc)
        bare.set_initial_charges(self.atoms.get_initial_charges())
        bare.set_initial_magnetic_moments(self.atoms.get_initial_magnetic_moments())
        bare.info = {key: value for key, value in self.atoms.info.items() if key == "charge"}
        state = PhaseState.from_atoms(bare)
        self._admit(bare, state)
        head = self._energy_head()
        with torch_threads(self.threads):
            if "forces" in properties:
                energy, forces = head.energy_and_forces(state)
                self.results["forces"] = forces[0].numpy()
            else:
                with torch.no_grad():
                    energy = head.energy(state)
        self.results["energy"] = self.results["free_energy"] = float(energy[0])

    def propagate(self, atoms: Atoms, times: Iterable[float]) -> list[Atoms]:
        """Return the molecule at later times, all decoded from one forward pass.

        Parameters
        ----------
        atoms
            The molecule with its momenta; without constraints but for ``FixCom``, which takes away
            the motion of its centre of mass.
        times
            In ASE's unit, ``16 * units.fs``, each from 0 to the operator's horizon.

        Returns
        -------
        Copies of the atoms, without calculator, with positions and momenta of each time.

        Raises
        ------
        CoverageError
            For a molecule, element, mass, charge, cell or constraint that the operator was not
            trained for.
        HorizonError
            For a time below 0 or past the horizon.
        """
        fixed = fixes_centre_of_mass(atoms)
        free = atoms.copy()
        free.set_constraint()
        self._operator = operator_for(free, self._operator)
        state = PhaseState.from_atoms(atoms)
        instants = torch.as_tensor(np.fromiter(times, dtype=float) / FS)
        with torch_threads(self.threads):
            positions, velocities = jump(
                self._operator, state.without_drift() if fixed else state, instants
            )
        frames = []
        for x, v in zip(positions[0].numpy(), velocities[0].numpy(), strict=True):
            frame = atoms.copy()
            frame.positions = x
            frame.set_velocities(velocities_to_ase(v))
            frames.append(frame)
        return frames

    def _admit(self, bare: Atoms, state: PhaseState) -> None:
        """Check a molecule when it comes first, and again when it is none any more.

        Between, geometries are not perceived: those of a trajectory need have no SMILES.
        """
        known = self._checked
        if known is not None and _same_molecule(known, bare):
            still = self._limits.first_broken(state.positions[:, None], state.velocities[:, None])
            if int(still[0]):
                return
        if self._operator is None:
            self._operator = operator_for(bare)
        elif getattr(self._operator, "card", None) is not None:
            check_atoms(bare, self._operator.card)
        self._checked, self._limits = bare, Guard.watch(state)

    def _energy_head(self) -> Operator:
        if self._head is None:
            self._head = self._operator
            if self.precision == "double":
                self._head = self._operator.in_double_precision()
        return self._head


def _same_molecule(one: Atoms, other: Atoms) -> bool:
    return (
        np.array_equal(one.numbers, other.numbers)
        and np.array_equal(one.pbc, other.pbc)
        and one.info == other.info
        and np.array_equal(one.get_initial_charges(), other.get_initial_charges())
        and np.array_equal(one.get_initial_magnetic_moments(), other.get_initial_magnetic_moments())
    )
