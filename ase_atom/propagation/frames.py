"""Frames of a trajectory as they come out of a jump, and the grid of times they lie on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from ase_atom.state import PhaseState

RESOLUTION = 10**6
"""Strides and intervals are exact multiples of one fs over a whole number up to this."""


def exact(time: float | Fraction) -> Fraction:
    """Return a time in fs as an exact fraction, so that grids never drift: 0.1 means 1/10."""
    return Fraction(time).limit_denominator(RESOLUTION)


@dataclass(frozen=True)
class Frames:
    """Consecutive frames of a batch of molecules.

    Parameters
    ----------
    numbers, masses, charge
        As in `PhaseState`, ``[B, N]`` and ``[B]``.
    times
        fs from the start of the run, float64 ``[T]``.
    positions, velocities
        Å and Å/fs, ``[B, T, N, 3]``; not a number where `valid` is false.
    valid
        False for frames of a replica after it broke, ``[B, T]``.
    """

    numbers: Tensor
    masses: Tensor
    charge: Tensor
    times: Tensor
    positions: Tensor
    velocities: Tensor
    valid: Tensor

    def __len__(self) -> int:
        """Return the number of frames T."""
        return len(self.times)

    def part(self, start: int, stop: int) -> Frames:
        """Return the frames from `start` up to, not including, `stop`."""
        return self.take(slice(start, stop))

    def take(self, frames: slice | list[int]) -> Frames:
        """Return some of the frames."""
        return replace(
            self,
            times=self.times[frames],
            positions=self.positions[:, frames],
            velocities=self.velocities[:, frames],
            valid=self.valid[:, frames],
        )

    def state(self, index: int) -> PhaseState:
        """Return one frame of every molecule as a state, ``[B, N]``."""
        return PhaseState(
            self.numbers,
            self.masses,
            self.positions[:, index],
            self.velocities[:, index],
            self.charge,
        )

    def flat(self) -> PhaseState:
        """Return all frames of all molecules as one batch ``[B·T, N]``, times running fastest."""
        count = len(self)
        return PhaseState(
            self.numbers.repeat_interleave(count, dim=0),
            self.masses.repeat_interleave(count, dim=0),
            self.positions.flatten(0, 1),
            self.velocities.flatten(0, 1),
            self.charge.repeat_interleave(count),
        )

    def without_invalid(self) -> Frames:
        """Return the frames up to the last good one of any molecule, others' bad ones as NaN."""
        frames = self.part(0, int(self.valid.any(dim=0).sum()))
        bad = ~frames.valid.to(self.positions.device)[:, :, None, None]
        return replace(
            frames,
            positions=frames.positions.masked_fill(bad, math.nan),
            velocities=frames.velocities.masked_fill(bad, math.nan),
        )

    @classmethod
    def joined(cls, parts: Sequence[Frames]) -> Frames:
        """Return consecutive parts as one."""
        if len(parts) == 1:
            return parts[0]
        return replace(
            parts[0],
            times=torch.cat([part.times for part in parts]),
            positions=torch.cat([part.positions for part in parts], dim=1),
            velocities=torch.cat([part.velocities for part in parts], dim=1),
            valid=torch.cat([part.valid for part in parts], dim=1),
        )

    @classmethod
    def single(cls, state: PhaseState, time: float = 0.0) -> Frames:
        """Return a state as the only frame."""
        return cls(
            state.numbers,
            state.masses,
            state.charge,
            torch.tensor([time], dtype=torch.float64),
            state.positions.unsqueeze(1),
            state.velocities.unsqueeze(1),
            torch.ones((state.batch_size, 1), dtype=torch.bool),
        )
