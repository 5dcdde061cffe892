"""What moves a state: the interface that propagation, adapters and analysis rely on."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self, cast

import torch
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.operator.torch_settings import own_torch
from ase_atom.operator.trust import estimate_error
from ase_atom.sending import Sendable
from ase_atom.state import PhaseState

if TYPE_CHECKING:
    from ase_atom.operator.card import OperatorCard
    from ase_atom.operator.leap.card import LeapCard

ErrorEstimate = Callable[[PhaseState, float], Tensor]
"""From states and a stride in fs to the expected error of a jump, ``[B]``.

That is the RMS error of the positions at its end over their RMS displacement."""


class Leap(Protocol):
    """Draws states at later times, of which there are no frames between."""

    @property
    def card(self) -> LeapCard:
        """Lags, temperatures and friction that it is for, and how its samples are settled."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells one from another, the same in every process."""
        ...

    def __call__(
        self,
        state: PhaseState,
        lag: float,
        temperature: float,
        noise: Callable[[torch.Size], Tensor],
    ) -> PhaseState:
        """Return one sample of the states after a lag in fs at a temperature in K.

        ``noise`` gives standard normal numbers. Lags and temperatures that it is not for are
        refused.
        """
        ...

    def draw(
        self,
        state: PhaseState,
        lag: float,
        temperature: float,
        noise: Callable[[torch.Size], Tensor],
    ) -> PhaseState:
        """Do the same, unchecked, as for what is left of a lag beside its settling."""
        ...


class Charges(Protocol):
    """Finds charges of atoms, and the dipole that follows."""

    def __call__(self, state: PhaseState) -> Tensor:
        """Return charges of atoms in e, ``[B, N]``."""
        ...

    def dipole(self, state: PhaseState) -> Tensor:
        """Return dipoles about the centre of mass in e Å, ``[B, 3]``."""
        ...


class OperatorLike(Protocol):
    """Maps a state to later times, and knows energies if it has an energy head.

    `ase_atom.operator.Operator` is one that is a network, with its weights in torch; an engine is
    one that evaluates such a network elsewhere. Derive others from `OperatorBase`, which supplies
    all but the call.
    """

    @property
    def horizon(self) -> float:
        """Longest time that one call may ask for, fs."""
        ...

    @property
    def piece(self) -> float:
        """Longest time that one pass of the network covers, fs; a call chains passes."""
        ...

    @property
    def card(self) -> OperatorCard | None:
        """What the operator was trained for; None where it is its maker's to know."""
        ...

    @property
    def has_energy(self) -> bool:
        """Whether `energy` and `energy_and_forces` answer."""
        ...

    @property
    def predicts_velocities(self) -> bool:
        """Whether the call gives velocities, without which a state cannot be propagated."""
        ...

    @property
    def moves_centre_exactly(self) -> bool:
        """Whether the centre of mass moves uniformly, and padding stays at zero, to rounding."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells one map from another, the same in every process."""
        ...

    @property
    def engine(self) -> str:
        """What evaluates the map, for the record of a run."""
        ...

    @property
    def error_estimate(self) -> ErrorEstimate | None:
        """Expected error of a jump; None where it was never measured."""
        ...

    @property
    def leaps(self) -> Leap | None:
        """Draws states at later times, or None."""
        ...

    @property
    def atomic_charges(self) -> Charges | None:
        """Charges of atoms and dipoles, or None."""
        ...

    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions in Å and velocities in Å/fs, ``[B, T, N, 3]``, at ``times`` in fs."""
        ...

    def energy(self, state: PhaseState) -> Tensor:
        """Return potential energies in eV, ``[B]``."""
        ...

    def energy_and_forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Return potential energies in eV, ``[B]``, and forces in eV/Å, ``[B, N, 3]``."""
        ...

    def in_double_precision(self) -> OperatorLike:
        """Return the same map, computed in double precision."""
        ...


class OperatorBase(Sendable):
    """Defaults of `OperatorLike`; a derived class sets ``horizon`` and defines the call.

    Attributes
    ----------
    horizon
        Longest time that one call may ask for, fs.
    piece
        Infinite: every call is one pass.
    card
        None: elements, masses and charges are not compared with anything.
    has_energy
        True where a derived class defines `energy`.
    predicts_velocities
        True.
    moves_centre_exactly
        False: propagation sees to it.
    engine
        ``python``.
    error_estimate
        By the calibration on the card, see `ase_atom.operator.trust`; None without one.
    leaps, atomic_charges
        None.
    """

    horizon: float
    piece: float = math.inf
    card: OperatorCard | None = None
    engine: str = "python"
    has_energy: bool = False
    predicts_velocities: bool = True
    moves_centre_exactly: bool = False
    leaps: Leap | None = None
    atomic_charges: Charges | None = None

    def __init_subclass__(cls, **settings: object) -> None:
        super().__init_subclass__(**settings)
        if "energy" in vars(cls) and "has_energy" not in vars(cls):
            cls.has_energy = True

    @property
    def error_estimate(self) -> ErrorEstimate | None:
        """Expected error of a jump by the card's calibration; None without one."""
        calibration = None if self.card is None else self.card.calibration
        if calibration is None:
            return None
        return partial(estimate_error, cast(OperatorLike, self), calibration)

    @property
    def fingerprint(self) -> str:
        """The class's full name."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def energy(self, state: PhaseState) -> Tensor:
        """Return potential energies in eV, ``[B]``; velocities are ignored.

        Raises
        ------
        ConfigError
            If the operator has no energy.
        """
        raise ConfigError(f"{type(self).__name__} has no energy")

    @own_torch()
    def energy_and_forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Return potential energies in eV, ``[B]``, and forces −∇E in eV/Å, ``[B, N, 3]``."""
        with torch.enable_grad():
            # Copies, as gradients cannot be taken through what was made in inference mode.
            positions = state.positions.detach().clone().requires_grad_(True)
            masses = state.masses.detach().clone()
            energy = self.energy(state.replace(positions=positions, masses=masses))
            (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return energy.detach(), -gradient

    def in_double_precision(self) -> Self:
        """Return the operator itself, which computes in the state's precision."""
        return self


_MEMBERS = [name for name in vars(OperatorLike) if name == "__call__" or not name.startswith("_")]


def check_operator(operator: object) -> None:
    """Check that something has the interface of an operator.

    Raises
    ------
    ConfigError
        Naming what it lacks.
    """
    missing = [name for name in _MEMBERS if inspect.getattr_static(operator, name, None) is None]
    missing = [name for name in missing if not hasattr(operator, name)]
    if missing:
        raise ConfigError(
            f"{type(operator).__name__} is no operator, it lacks {', '.join(missing)}: derive it "
            "from ase_atom.operator.OperatorBase"
        )
