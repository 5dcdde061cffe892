"""Frames of a trajectory as they come out of a jump, and the grid of times they lie on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ase_atom.propagation.mechanics import array
from ase_atom.sending import Sendable
from ase_atom.state import PhaseState

RESOLUTION = 10**6
"""Strides and intervals are exact multiples of one fs over a whole number up to this."""


_MOST_PHASES = 1000
"""Places of a jump's start between two frames whose instants are kept."""


def exact(time: float | Fraction) -> Fraction:
    """Return a time in fs as an exact fraction, so that grids never drift: 0.1 means 1/10."""
    return Fraction(time).limit_denominator(RESOLUTION)


class Schedule:
    """Which frames each jump passes.

    Jump k covers times after k·stride up to and including (k + 1)·stride; frames are at multiples
    of an interval. Times are whole multiples of one unit, so that neither grid ever drifts.

    Parameters
    ----------
    stride, interval
        fs.
    """

    def __init__(self, stride: Fraction, interval: Fraction) -> None:
        self._unit = math.lcm(stride.denominator, interval.denominator)
        self._stride, self._interval = (int(each * self._unit) for each in (stride, interval))
        self._known: dict[int, tuple[list[int], Tensor, int]] = {}

    def of_jump(self, jump: int) -> tuple[Tensor, Tensor, int]:
        """Return a jump's instants in fs, from the run's start and its own, and how many frames.

        The last instant is the jump's end, whether a frame lies there or not.
        """
        begin = jump * self._stride
        phase = begin % self._interval
        if phase not in self._known:
            if len(self._known) >= _MOST_PHASES:
                self._known.clear()
            frames = list(range(self._interval - phase, self._stride + 1, self._interval))
            inside = frames if frames[-1:] == [self._stride] else [*frames, self._stride]
            offsets = torch.tensor([each / self._unit for each in inside], dtype=torch.float64)
            self._known[phase] = inside, offsets, len(frames)
        inside, offsets, wanted = self._known[phase]
        # The quotient of whole numbers is exact to the last bit, however large they are.
        times = np.array([(begin + each) / self._unit for each in inside])
        return torch.from_numpy(times), offsets, wanted


@dataclass(frozen=True)
class Frames(Sendable):
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
    expected
        Expected error of the jump that a frame lies on, not a number where nobody asked,
        ``[B, T]``; None where it is never asked.
    strides
        Length of that jump in fs, 0 where forces moved the molecule, ``[B, T]``; None where all
        jumps have one length.
    """

    numbers: Tensor
    masses: Tensor
    charge: Tensor
    times: Tensor
    positions: Tensor
    velocities: Tensor
    valid: Tensor
    expected: Tensor | None = None
    strides: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of frames T."""
        return self.times.shape[0]

    def part(self, start: int, stop: int) -> Frames:
        """Return the frames from `start` up to, not including, `stop`."""
        if start == 0 and stop == len(self):
            return self
        return self.take(slice(start, stop))

    def until(self, time: float) -> tuple[Frames, Frames]:
        """Return the frames up to a time in fs, and those after it."""
        count = len(self)
        if count and array(self.times)[-1] > time:
            count = int((self.times <= time).sum())
        return self.part(0, count), self.part(count, len(self))

    def take(self, frames: slice | list[int]) -> Frames:
        """Return some of the frames."""
        return replace(
            self,
            times=self.times[frames],
            positions=self.positions[:, frames],
            velocities=self.velocities[:, frames],
            valid=self.valid[:, frames],
            expected=None if self.expected is None else self.expected[:, frames],
            strides=None if self.strides is None else self.strides[:, frames],
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
        told: dict[str, Any] = {}
        for name in ("expected", "strides"):
            values = [getattr(part, name) for part in parts]
            known = all(value is not None for value in values)
            told[name] = torch.cat(values, dim=1) if known else None
        return replace(
            parts[0],
            times=torch.cat([part.times for part in parts]),
            positions=torch.cat([part.positions for part in parts], dim=1),
            velocities=torch.cat([part.velocities for part in parts], dim=1),
            valid=torch.cat([part.valid for part in parts], dim=1),
            **told,
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
