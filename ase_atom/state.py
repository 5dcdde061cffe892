"""The phase-space state that operators and integrators act on: a padded batch of molecules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ase_atom.errors import StateError
from ase_atom.errors.keywords import known_fields
from ase_atom.molecules.atoms import total_charge
from ase_atom.sending import Sendable
from ase_atom.units import AMU_A2_FS2_IN_EV, KB, velocities_from_ase, velocities_to_ase


@known_fields
@dataclass(frozen=True, eq=False)
class PhaseState(Sendable):
    """Positions and velocities of a batch of molecules, padded to the largest one.

    Parameters
    ----------
    numbers
        Atomic numbers, int64 ``[B, N]``; 0 marks padding, which follows the real atoms.
    masses
        Masses in amu, ``[B, N]``; 0 on padding.
    positions
        Positions in Å, ``[B, N, 3]``; 0 on padding.
    velocities
        Velocities in Å/fs, ``[B, N, 3]``; 0 on padding.
    charge
        Total charge of each molecule in e, int64 ``[B]``; 0 by default.

    Raises
    ------
    StateError
        If shapes, types or devices disagree.
    """

    numbers: Tensor
    masses: Tensor
    positions: Tensor
    velocities: Tensor
    charge: Tensor = None  # type: ignore[assignment]  # zeros of the batch's size

    def __post_init__(self) -> None:
        if self.numbers.ndim != 2:
            raise StateError(f"numbers must be [batch, atoms], not {list(self.numbers.shape)}")
        if self.numbers.dtype != torch.int64:
            raise StateError(f"numbers must be int64, not {self.numbers.dtype}")
        shape = self.numbers.shape
        if self.charge is None:
            object.__setattr__(self, "charge", self.numbers.new_zeros(shape[0]))
        if self.charge.dtype != torch.int64 or self.charge.shape != shape[:1]:
            raise StateError(
                f"charge must be int64 {list(shape[:1])}, not {self.charge.dtype} "
                f"{list(self.charge.shape)}"
            )
        for name, expected in (
            ("masses", shape),
            ("positions", (*shape, 3)),
            ("velocities", (*shape, 3)),
        ):
            value: Tensor = getattr(self, name)
            if value.shape != expected:
                raise StateError(f"{name} must be {list(expected)}, not {list(value.shape)}")
            if not value.dtype.is_floating_point or value.dtype != self.positions.dtype:
                raise StateError(
                    f"{name} must have the positions' floating-point type, not {value.dtype}"
                )
            if value.device != self.numbers.device:
                raise StateError(f"{name} must be on {self.numbers.device}, not {value.device}")
        if self.charge.device != self.numbers.device:
            raise StateError(f"charge must be on {self.numbers.device}, not {self.charge.device}")

    # -- conversions ---------------------------------------------------------------------------

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms | Sequence[Atoms],
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> PhaseState:
        """Build a state from one `ase.Atoms` (a batch of one) or several (padded).

        Masses are those of the atoms: ASE's standard atomic masses unless a caller set others,
        which operators refuse (see `ase_atom.molecules.coverage`). Charges are those that
        `ase_atom.molecules.atoms.total_charge` finds. Cell, constraints and calculators are not
        carried.

        Raises
        ------
        StateError
            If there are no atoms, or an atomic number is not that of an element.
        CoverageError
            If a total charge is no whole number.
        """
        batch = [atoms] if isinstance(atoms, Atoms) else list(atoms)
        if not batch or any(len(molecule) == 0 for molecule in batch):
            raise StateError("a state needs at least one molecule, and each at least one atom")
        size = max(len(molecule) for molecule in batch)
        numbers = np.zeros((len(batch), size), dtype=np.int64)
        masses = np.zeros((len(batch), size))
        positions = np.zeros((len(batch), size, 3))
        velocities = np.zeros((len(batch), size, 3))
        for row, molecule in enumerate(batch):
            n = len(molecule)
            if (molecule.numbers < 1).any():
                bad = int(np.flatnonzero(molecule.numbers < 1)[0])
                raise StateError(
                    f"atom {bad} has atomic number {molecule.numbers[bad]}; elements start at 1"
                )
            numbers[row, :n] = molecule.numbers
            masses[row, :n] = molecule.get_masses()
            positions[row, :n] = molecule.positions
            velocities[row, :n] = velocities_from_ase(molecule.get_velocities())
        return cls(
            torch.as_tensor(numbers, device=device),
            torch.as_tensor(masses, device=device, dtype=dtype),
            torch.as_tensor(positions, device=device, dtype=dtype),
            torch.as_tensor(velocities, device=device, dtype=dtype),
            torch.tensor([total_charge(molecule) for molecule in batch], device=device),
        )

    def to_atoms(self) -> list[Atoms]:
        """Return one `ase.Atoms` per molecule, with velocities in ASE's unit and no padding.

        A charge other than 0 is in ``info["charge"]``.
        """
        molecules = []
        charges = self.charge.tolist()
        rows = [t.detach().cpu() for t in (self.masses, self.positions, self.velocities)]
        for row, n in enumerate(self.num_atoms.tolist()):
            masses, positions, velocities = (t[row, :n].double().numpy() for t in rows)
            atoms = Atoms(self.numbers[row, :n].cpu().numpy(), positions=positions)
            if not np.allclose(masses, atoms.get_masses(), rtol=1e-6):
                atoms.set_masses(masses)
            atoms.set_velocities(velocities_to_ase(velocities))
            if charges[row]:
                atoms.info["charge"] = charges[row]
            molecules.append(atoms)
        return molecules

    def to(self, target: torch.dtype | torch.device | str) -> PhaseState:
        """Return the state with its floating-point fields in a type, or all on a device."""
        if isinstance(target, torch.dtype):
            return self.replace(
                masses=self.masses.to(target),
                positions=self.positions.to(target),
                velocities=self.velocities.to(target),
            )
        return PhaseState(
            self.numbers.to(target),
            self.masses.to(target),
            self.positions.to(target),
            self.velocities.to(target),
            self.charge.to(target),
        )

    def replace(self, **fields: Any) -> PhaseState:
        """Return a copy with the named fields replaced."""
        shape, dtype, on_cpu = self.positions.shape, self.masses.dtype, self.numbers.is_cpu
        for name, value in fields.items():
            # In plain comparisons, as this happens many times a jump.
            if not (
                (name == "positions" or name == "velocities")
                and value.shape == shape
                and value.dtype is dtype
                and (value.is_cpu if on_cpu else value.device == self.numbers.device)
            ):
                return replace(self, **fields)
        # The atoms are the same, and so is what is known of them.
        state = object.__new__(type(self))
        self.__dict__.setdefault("_known", {})
        state.__dict__.update(self.__dict__, **fields)
        return state

    def repeat(self, n: int) -> PhaseState:
        """Return the batch `n` times over, as independent replicas: ``[n·B, N]``."""
        return PhaseState.cat([self] * n)

    def select(self, rows: Tensor) -> PhaseState:
        """Return the molecules chosen by an index or boolean tensor over the batch."""
        return PhaseState(
            self.numbers[rows],
            self.masses[rows],
            self.positions[rows],
            self.velocities[rows],
            self.charge[rows],
        )

    @staticmethod
    def cat(states: Iterable[PhaseState]) -> PhaseState:
        """Join states along the batch, padding them to the largest.

        Raises
        ------
        StateError
            If there is nothing to join.
        """
        states = list(states)
        if not states:
            raise StateError("there is no state to join")
        size = max(state.numbers.shape[1] for state in states)

        def join(name: str) -> Tensor:
            padded = []
            for state in states:
                value: Tensor = getattr(state, name)
                missing = size - value.shape[1]
                if missing:
                    filler = value.new_zeros((value.shape[0], missing, *value.shape[2:]))
                    value = torch.cat([value, filler], dim=1)
                padded.append(value)
            return torch.cat(padded)

        fields = {name: join(name) for name in ("numbers", "masses", "positions", "velocities")}
        return PhaseState(**fields, charge=torch.cat([state.charge for state in states]))

    def without_drift(self) -> PhaseState:
        """Return the state with its centre of mass at rest; positions stay."""
        drift = self.linear_momentum() / self.masses.sum(dim=1, keepdim=True)
        moving = self.velocities - drift.unsqueeze(1)
        return self.replace(velocities=moving * self.mask.unsqueeze(-1))

    # -- sizes ---------------------------------------------------------------------------------

    @property
    def mask(self) -> Tensor:
        """True where there is an atom, ``[B, N]``."""
        return self.once("_mask", lambda: self.numbers > 0)

    @property
    def mass_fractions(self) -> Tensor:
        """Mass of each atom over that of its molecule, ``[B, N, 1]``."""
        return self.once(
            "_mass_fractions",
            lambda: (self.masses / self.masses.sum(dim=1, keepdim=True)).unsqueeze(-1),
        )

    @property
    def batch_size(self) -> int:
        """Number of molecules B."""
        return self.numbers.shape[0]

    @property
    def num_atoms(self) -> Tensor:
        """Atoms of each molecule, int64 ``[B]``."""
        return self.once("_num_atoms", lambda: self.mask.sum(dim=1))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of masses, positions and velocities."""
        return self.positions.dtype

    @property
    def device(self) -> torch.device:
        """Device of all fields."""
        return self.numbers.device

    @property
    def known(self) -> dict[str, Any]:
        """What was worked out of the atoms, shared by all states of them."""
        shared: dict[str, Any] = self.__dict__.setdefault("_known", {})
        return shared

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Return what depends on the atoms alone, worked out once for all their states by name."""
        found: Tensor | None = self.known.get(name)
        if found is None:
            found = make()
            if not found.is_inference():  # which would be of no use outside that mode
                self.known[name] = found
        return found

    # -- observables ---------------------------------------------------------------------------

    def center_of_mass(self) -> tuple[Tensor, Tensor]:
        """Return position in Å and velocity in Å/fs of the centre of mass, both ``[B, 3]``."""
        weights = self.mass_fractions
        return (weights * self.positions).sum(dim=1), (weights * self.velocities).sum(dim=1)

    def about_center(self) -> Tensor:
        """Return positions about the centre of mass in Å, ``[B, N, 3]``; arbitrary on padding."""
        weighted = (self.masses.unsqueeze(-1) * self.positions).sum(dim=1, keepdim=True)
        return self.positions - weighted / self.masses.sum(dim=1)[:, None, None]

    def kinetic_energy(self) -> Tensor:
        """Return the kinetic energy in eV, ``[B]``."""
        twice = (self.masses.unsqueeze(-1) * self.velocities**2).sum(dim=(1, 2))
        return 0.5 * AMU_A2_FS2_IN_EV * twice

    def temperature(self, dof: float | Tensor) -> Tensor:
        """Return the kinetic temperature ``2 E_kin / (dof k_B)`` in K, ``[B]``.

        Parameters
        ----------
        dof
            Number of thermal degrees of freedom, one for all or ``[B]``: 3N with a free centre of
            mass, 3N - 3 with a fixed one.
        """
        kinetic = self.kinetic_energy()
        dof = torch.as_tensor(dof, dtype=kinetic.dtype, device=kinetic.device)
        return 2.0 * kinetic / (dof * KB)

    def linear_momentum(self) -> Tensor:
        """Return the total momentum in amu Å/fs, ``[B, 3]``."""
        return (self.masses.unsqueeze(-1) * self.velocities).sum(dim=1)

    def angular_momentum(self) -> Tensor:
        """Return the angular momentum about the centre of mass in amu Å²/fs, ``[B, 3]``."""
        # The centre's own velocity drops out, as Σ m x about the centre is zero.
        arms = self.masses.unsqueeze(-1) * self.about_center()
        momentum: Tensor = torch.linalg.cross(arms, self.velocities).sum(dim=1)
        return momentum
