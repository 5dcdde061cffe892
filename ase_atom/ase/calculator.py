"""The operator as an ASE calculator: energies and forces, and whole paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
    equal,
)

from ase_atom.errors import ConfigError, StateError
from ase_atom.errors.keywords import known_keywords, refuse_unknown
from ase_atom.errors.values import whole_number
from ase_atom.errors.warning import warn
from ase_atom.molecules.atoms import STATED, fixes_centre_of_mass, structure_of
from ase_atom.molecules.catalogue import check_atoms, operator_for
from ase_atom.molecules.coverage import CoverageWarning
from ase_atom.molecules.topology import atom_label
from ase_atom.operator import OperatorLike, check_operator, load_operator
from ase_atom.operator.atomic_charges import dipole_of
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import Guard, jump, reservations
from ase_atom.sending import Sendable
from ase_atom.state import PhaseState
from ase_atom.units import FS, velocities_to_ase

_ALWAYS = "energy", "free_energy", "forces"
_OF_CHARGES = "charges", "dipole"


class ATOMCalculator(Sendable, Calculator):
    """ASE calculator with energy and forces from an operator's energy head.

    The energy head is trained on thermal geometries of the molecules on the operator's card. It is
    accurate only in the basins that they visit. It does not describe bond breaking or other minima.
    If bonds or distances leave the limits of the guard, the molecule is checked against the card
    again, and refused if it is another one. Forces are the exact gradient of the energy.

    The energy does not depend on masses and velocities. Only `propagate` checks them.

    Atomic charges (e) and the dipole about the centre of mass (e Å) are there if the operator has
    learned atomic charges, as ``organic-wb97m`` has.

    Parameters
    ----------
    operator
        A shipped operator's name, an operator file, or an `ase_atom.operator.Operator`. By default
        the shipped operator for the first molecule.
    precision
        Precision of the energy head. ``single`` is faster; energies are then smooth to about 1 µeV.
    threads
        Number of torch threads while the operator computes; None keeps the script's setting.
    atoms
        Atoms that get this calculator, as with other ASE calculators.

    Attributes
    ----------
    said
        Warnings that were given, so that none is repeated.

    Raises
    ------
    CheckpointError
        If there is no such operator, or its file is damaged.
    ConfigError
        For an unknown precision or keyword.
    """

    # As ASE declares them.
    implemented_properties: list[str] = [*_ALWAYS, *_OF_CHARGES]  # noqa: RUF012
    default_parameters: dict[str, Any] = {"precision": "single", "threads": 1}  # noqa: RUF012

    @known_keywords()
    def __init__(
        self,
        operator: str | Path | OperatorLike | None = None,
        precision: Literal["single", "double"] = "single",
        threads: int | None = 1,
        atoms: Atoms | None = None,
    ) -> None:
        self._operator = None if isinstance(operator, str | Path) else operator
        self._head: OperatorLike | None = None
        self._checked: tuple[Atoms, Guard] | None = None
        self.said: set[str] = set()
        self._alone = RLock()
        super().__init__(atoms=atoms)
        if isinstance(operator, str | Path):
            self._operator = load_operator(operator, engine="auto")
        elif operator is not None:
            check_operator(operator)
        if self._operator is not None:
            self._limit_properties(self._operator)
        self.set(precision=precision, threads=threads)
        if operator is not None:
            self.parameters["operator"] = _name_of(operator)

    @property
    def operator(self) -> OperatorLike | None:
        """The operator; None until the first molecule if none was given."""
        return self._operator

    @property
    def precision(self) -> Literal["single", "double"]:
        """Precision of the energy head. A change deletes the present results."""
        precision: Literal["single", "double"] = self.parameters["precision"]
        return precision

    @precision.setter
    def precision(self, value: Literal["single", "double"]) -> None:
        self.set(precision=value)

    @property
    def threads(self) -> int | None:
        """Number of torch threads while the operator computes."""
        threads: int | None = self.parameters["threads"]
        return threads

    @threads.setter
    def threads(self, value: int | None) -> None:
        self.set(threads=value)

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Set ``precision`` or ``threads``, and return what that changed, as ASE has it.

        Raises
        ------
        UnknownKeywordError
            For anything else: another operator needs another calculator.
        ConfigError
            For an impossible value.
        """
        refuse_unknown("ATOMCalculator.set", kwargs, self.default_parameters)
        precision, threads = kwargs.get("precision", "single"), kwargs.get("threads")
        if precision not in ("single", "double"):
            raise ConfigError(f"precision is 'single' or 'double', not {precision!r}")
        if threads is not None:
            whole_number("threads", threads, at_least=1)
        changed: dict[str, Any] = super().set(**kwargs)
        if "precision" in changed:
            self.reset()
            self._head = None
        return changed

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed about the atoms since the last calculation, as ASE names it.

        Also ``"charge"`` and ``"spin"``, where ``atoms.info`` states them.
        """
        changes: list[str] = super().check_state(atoms, tol)
        before = {} if self.atoms is None else self.atoms.info
        return changes + [
            key for key in STATED if not equal(before.get(key), atoms.info.get(key), tol=None)
        ]

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """Return a property of the atoms, as ASE has it; one thread at a time.

        Another thread's atoms would replace results between their computation and their return.
        """
        with self._alone:
            return super().get_property(name, atoms, allow_calculation)

    def __getstate__(self) -> dict[str, Any]:
        # Locks stay in their process.
        return {key: value for key, value in self.__dict__.items() if key != "_alone"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._alone = RLock()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute ``energy`` and ``free_energy`` in eV and, if asked for, ``forces`` in eV/Å.

        ``charges`` in e and the ``dipole`` in e Å, about the centre of mass, are computed if asked
        for, where the operator has them.

        Earlier results are taken away first, so that whatever is there is of these atoms.

        Raises
        ------
        CoverageError
            For a molecule, charge, spin or cell that the operator was not trained for.
        ConfigError
            Without atoms.
        PropertyNotImplementedError
            For charges or a dipole of an operator that has no atomic charges.
        StateError
            For positions at which energy or forces are not finite, as with two atoms at one place.

        Warns
        -----
        CoverageWarning
            Once of each molecule that an operator of molecules in general never saw.
        """
        self.results = {}
        for name in properties:
            if name not in self.implemented_properties:
                raise PropertyNotImplementedError(f"{name} property not implemented")
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise ConfigError("the calculator has seen no atoms yet: give them")
        bare = Atoms(self.atoms.numbers, self.atoms.positions, pbc=self.atoms.pbc)
        bare.set_initial_charges(self.atoms.get_initial_charges())
        bare.set_initial_magnetic_moments(self.atoms.get_initial_magnetic_moments())
        bare.info = {key: self.atoms.info[key] for key in STATED if key in self.atoms.info}
        with own_torch(self.threads), torch.no_grad():
            state = PhaseState.from_atoms(bare)
            operator = self._admit(bare, state)
            results: dict[str, Any] = self._charges(operator, state, properties)
            head = self._energy_head(operator)
            if "forces" in properties:
                energy, forces = head.energy_and_forces(state)
                results["forces"] = forces[0].numpy()
            else:
                energy = head.energy(state)
        results["energy"] = results["free_energy"] = float(energy[0])
        if not all(np.isfinite(values).all() for values in results.values()):
            raise StateError(
                f"the energy or a force is not finite at these positions: {_closest(bare)}"
            )
        self.results = results

    def _limit_properties(self, operator: OperatorLike) -> None:
        """Name the properties that there are by an operator."""
        has = operator.atomic_charges is not None
        self.implemented_properties = [*_ALWAYS, *_OF_CHARGES] if has else [*_ALWAYS]

    def _charges(
        self, operator: OperatorLike, state: PhaseState, properties: Sequence[str]
    ) -> dict[str, Any]:
        """Return charges and dipole, if one of them is wanted."""
        if not set(properties) & set(_OF_CHARGES):
            return {}
        known = operator.atomic_charges
        if known is None:
            raise PropertyNotImplementedError(
                f"{_name_of(operator)} has no atomic charges, and so no dipole"
            )
        charges = known(state)
        found = {"charges": charges, "dipole": dipole_of(charges, state)}
        return {name: values[0].numpy() for name, values in found.items()}

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
        self._operator = operator_for(free, self._operator, engine="auto")
        with own_torch(self.threads):
            state = PhaseState.from_atoms(atoms)
            instants = torch.as_tensor(np.fromiter(times, dtype=float) / FS)
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

    def _admit(self, bare: Atoms, state: PhaseState) -> OperatorLike:
        """Return the operator for a molecule, checked when it is first seen.

        And again once its bonds have broken. Between, geometries are not perceived: those of a
        trajectory need have no SMILES.
        """
        operator = self._operator
        if operator is not None and self._checked is not None:
            known, limits = self._checked
            if _same_molecule(known, bare):
                still = limits.first_broken(state.positions[:, None], state.velocities[:, None])
                if int(still[0]):
                    return operator
        if operator is None:
            operator = self._operator = operator_for(bare, engine="auto")
            self._limit_properties(operator)
            self.parameters["operator"] = _name_of(operator)
        elif operator.card is not None:
            check_atoms(bare, operator.card)
        for line in reservations(operator.card, [structure_of(bare)]):
            if line not in self.said:
                self.said.add(line)
                warn(line, CoverageWarning)
        self._checked = bare, Guard.watch(state)
        return operator

    def _energy_head(self, operator: OperatorLike) -> OperatorLike:
        if self._head is None:
            double = self.precision == "double"
            self._head = operator.in_double_precision() if double else operator
        return self._head


def _name_of(operator: str | Path | OperatorLike) -> str:
    """Return what stands for an operator in files that note the calculator."""
    if isinstance(operator, str | Path):
        return str(operator)
    return operator.card.name if operator.card else "unnamed"


def _same_molecule(one: Atoms, other: Atoms) -> bool:
    return (
        np.array_equal(one.numbers, other.numbers)
        and np.array_equal(one.pbc, other.pbc)
        and one.info == other.info
        and np.array_equal(one.get_initial_charges(), other.get_initial_charges())
        and np.array_equal(one.get_initial_magnetic_moments(), other.get_initial_magnetic_moments())
    )


def _closest(atoms: Atoms) -> str:
    """Say which two atoms are the closest."""
    distances = atoms.get_all_distances()
    np.fill_diagonal(distances, np.inf)
    first, second = np.unravel_index(np.argmin(distances), distances.shape)
    labels = [atom_label(atoms.numbers, int(atom)) for atom in (first, second)]
    return f"{labels[0]} and {labels[1]} are {distances[first, second]:.3f} Å apart"
