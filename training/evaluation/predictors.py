"""The operator, and the trivial guesses that it has to beat, behind one interface."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ase_atom.analysis.molecule.harmonic import HarmonicGuess
from ase_atom.operator import Operator
from ase_atom.propagation import jump, reversible_jump
from ase_atom.state import PhaseState

#: Positions and velocities ``[S, L, N, 3]`` of states at times in fs, ``[L]``.
Predictor = Callable[[PhaseState, Tensor], tuple[Tensor, Tensor]]


def stay(state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
    """The molecule stands still: x₀, and the velocity of standing still, zero."""
    positions = state.positions[:, None].expand(-1, len(times), -1, -1)
    return positions, torch.zeros_like(positions)


def ballistic(state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
    """Every atom flies on: x₀ + v₀ t and v₀."""
    velocities = state.velocities[:, None].expand(-1, len(times), -1, -1)
    lag = times.to(state.dtype)[:, None, None]
    return state.positions[:, None] + velocities * lag, velocities


def direct(operator: Operator) -> Predictor:
    """One call of the operator for all lags."""

    def predict(state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        return jump(operator, state, times)

    return predict


def chained(operator: Operator, stride: float, reversible: bool = False) -> Predictor:
    """Jumps of one stride, each from the end of the one before; lags are multiples of it."""
    make = reversible_jump if reversible else jump

    def predict(state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        wanted = [round(float(time) / stride) for time in times]
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        one = torch.tensor([stride], dtype=torch.float64)
        for count in range(1, max(wanted) + 1):
            positions, velocities = make(operator, state, one)
            state = state.replace(positions=positions[:, 0], velocities=velocities[:, 0])
            if count in wanted:
                kept[count] = (state.positions, state.velocities)
        return tuple(torch.stack([kept[n][side] for n in wanted], dim=1) for side in (0, 1))

    return predict


def harmonic(guess: HarmonicGuess) -> Predictor:
    """Normal modes about the nearest minimum, see `HarmonicGuess`."""

    def predict(state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        path = guess(state.positions.numpy(), state.velocities.numpy(), times.numpy())
        return tuple(torch.from_numpy(side) for side in path)

    return predict
