"""A finished operator of this package as a row: marched over the horizon, not trained here."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ase_atom.errors import ConfigError
from ase_atom.operator import load_operator
from ase_atom.propagation import NVE, Propagator, roll_out
from ase_atom.state import PhaseState
from training.benchmarks.samples import Samples
from training.benchmarks.suites import MarchSettings

_ROUNDS = 4


class Marched(nn.Module):
    """Microcanonical dynamics of an operator from each start, all atoms of it.

    A replica that breaks stays where it was last whole.

    Parameters
    ----------
    settings
        Fields of `MarchSettings`: the operator, by its name or file, and how to march it.
    lags, interval
        Times of the frames and between frames of the data, fs: see `Setting`.
    heavy
        Whether the samples are of heavy atoms alone.

    Raises
    ------
    ConfigError
        For samples without hydrogens.
    CheckpointError
        If there is no such operator.
    """

    last_only = False
    version = 1

    def __init__(
        self, settings: dict[str, object], lags: Tensor, interval: float, heavy: bool
    ) -> None:
        super().__init__()
        self.settings = MarchSettings.model_validate(settings)
        if heavy:
            raise ConfigError("an operator moves all atoms: its suite needs atoms: all")
        self.operator = load_operator(self.settings.operator).requires_grad_(False)
        # The frames that there are: multiples of Δ/P, rounded down.
        self.frames = (lags.double() / interval + 1e-9).floor().long().tolist()
        self.interval = float(interval)

    def forward(self, samples: Samples) -> Tensor:
        """Positions at the lags, Å, ``[B, P, N, 3]``."""
        start = PhaseState(samples.numbers, samples.masses, samples.positions, samples.velocities)
        start = self.at_start(start)
        between = math.gcd(*self.frames)
        march = Propagator(
            self.operator,
            start,
            NVE(self.settings.energy_correction, reversible=False),
            self.settings.stride,
            between * self.interval,
            drop_broken=True,
        )
        wanted = {frame: place for place, frame in enumerate(self.frames)}
        found = start.positions[:, None].repeat(1, len(self.frames), 1, 1)
        for frames in roll_out(march, self.frames[-1] * self.interval):
            for index, time in enumerate(frames.times.tolist()):
                place = wanted.get(round(time / self.interval))
                if place is not None:
                    whole = frames.valid[:, index]
                    found[whole, place:] = frames.positions[whole, index][:, None]
        return found

    def at_start(self, state: PhaseState) -> PhaseState:
        """The state with the velocities of its instant, from the forward differences of frames.

        These are velocities of half a frame later. Those of the instant take the operator to the
        next frame, x(h), and are found by repeating v ← v + (x(h) − x(h; v))/h.
        """
        given, after = state.velocities, state.positions + self.interval * state.velocities
        times = torch.tensor([self.interval], dtype=torch.float64)
        for _ in range(_ROUNDS):
            reached = self.operator.positions(state, times)[:, 0]
            better = state.velocities + (after - reached) / self.interval
            state = state.replace(velocities=better)
        # Where the operator is lost from the start there is nothing better than was given.
        found = torch.isfinite(state.velocities).all(-1).all(-1)[:, None, None]
        return state.replace(velocities=torch.where(found, state.velocities, given))
