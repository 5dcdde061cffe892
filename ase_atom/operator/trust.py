"""How far a jump can be believed: there, back, and what is missed.

Exact dynamics retrace their path when all velocities are turned round. A learned jump comes back
beside its start; what it misses, over the way that it went, is an estimate of its error that needs
no reference. How the two go together is measured once for each operator, on windows of reference
dynamics that it did not learn from, and travels on its card as a `Calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ase_atom.operator.torch_settings import own_torch
from ase_atom.state import PhaseState

FEATURES = ("positions", "velocities", "energy", "share")
"""What a round trip tells, in the order of a calibration's weights."""

_LEAST = 1e-6
"""Below this a feature is rounding, and has no logarithm to speak of."""


class Jumper(Protocol):
    """What a round trip asks of an operator, see `ase_atom.operator.OperatorLike`."""

    @property
    def has_energy(self) -> bool: ...

    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]: ...

    def energy(self, state: PhaseState) -> Tensor: ...


class Calibration(BaseModel):
    """From what a round trip misses to the expected error of a jump.

    ln(error) is the offset plus the sum of weights times the logarithms of `FEATURES`. No weight
    is below zero, so that the estimate rises with each.

    Attributes
    ----------
    offset, weights
        Of the line, fitted on reference windows.
    margin
        Nine windows in ten, of molecules that took no part in the fit, err less than the estimate
        times this.
    strides_fs
        Strides of ``trained``, rising.
    trained
        At each stride the range of the estimates of molecules that the operator was trained for:
        from the tenth to the ninetieth percentile.
    windows, molecules
        How many the fit was made on.
    command
        What made it.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    offset: float
    weights: tuple[float, float, float, float]
    margin: float = Field(ge=1)
    strides_fs: list[float] = Field(min_length=1)
    trained: list[tuple[float, float]] = Field(min_length=1)
    windows: int
    molecules: int
    command: str = ""

    def error(self, features: Tensor) -> Tensor:
        """Return the expected relative error ``[...]`` of round trips ``[..., 4]``.

        Infinite where a feature is not finite.
        """
        logs = features.double().clamp(min=_LEAST).log()
        found = (self.offset + logs @ logs.new_tensor(self.weights)).exp()
        return torch.where(torch.isfinite(features).all(dim=-1), found, torch.inf)

    def usual(self, stride: float) -> tuple[float, float]:
        """Return the range of estimates for trained molecules at the nearest stride in fs."""
        nearest = min(range(len(self.strides_fs)), key=lambda n: abs(self.strides_fs[n] - stride))
        return self.trained[nearest]


@dataclass(frozen=True)
class RoundTrip:
    """A jump and its way back.

    Parameters
    ----------
    end
        Where the jump went, ``[B, N]``.
    features
        RMS miss of the positions over the RMS displacement, of the velocities over their RMS, the
        change of the total energy over the kinetic energy, and the part of the squared miss of the
        positions that the one atom has that misses most; ``[B, 4]``, in the order of `FEATURES`.
        Without an energy head the change of energy is zero.
    """

    end: PhaseState
    features: Tensor


@own_torch()
@torch.no_grad()
def round_trip(operator: Jumper, state: PhaseState, stride: float) -> RoundTrip:
    """Jump, turn the velocities, jump back, and look at what is missed.

    Two passes of the operator and two of its energy.

    Parameters
    ----------
    operator
        Predicts velocities.
    state
        The molecules, ``[B, N]``; their drift plays no part.
    stride
        fs.
    """
    state = state.without_drift()
    end = _jumped(operator, state, stride)
    back = _jumped(operator, end.replace(velocities=-end.velocities), stride)
    missed = (back.positions - state.positions).square().sum(-1)
    went = (end.positions - state.positions).square().sum((1, 2))
    slip = (back.velocities + state.velocities).square().sum((1, 2))
    speed = state.velocities.square().sum((1, 2))
    kinetic = state.kinetic_energy()
    change = torch.zeros_like(kinetic)
    if operator.has_energy:
        change = operator.energy(end) + end.kinetic_energy() - operator.energy(state) - kinetic
    total = missed.sum(1)
    features = [
        (total / went).sqrt(),
        (slip / speed).sqrt(),
        change.abs() / kinetic,
        missed.amax(1) / total.clamp(min=torch.finfo(total.dtype).tiny),
    ]
    return RoundTrip(end, torch.stack([each.double() for each in features], dim=1))


def estimate_error(
    operator: Jumper, calibration: Calibration, state: PhaseState, stride: float
) -> Tensor:
    """Return the expected error of a jump, ``[B]``.

    Parameters
    ----------
    operator
        Whose jump.
    calibration
        Its own.
    state
        Where the jump starts, ``[B, N]``, in motion.
    stride
        fs.

    Returns
    -------
    RMS error of the positions at the jump's end over the RMS displacement; infinite where the jump
    ends in no number.
    """
    return calibration.error(round_trip(operator, state, stride).features)


def _jumped(operator: Jumper, state: PhaseState, stride: float) -> PhaseState:
    times = torch.tensor([stride], dtype=torch.float64, device=state.device)
    positions, velocities = operator(state, times)
    return state.replace(positions=positions[:, 0], velocities=velocities[:, 0])
