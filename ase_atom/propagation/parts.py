"""The parts of a divided stride: jumps and stretches of forces, each a whole ensemble step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ase_atom.errors import FallbackError
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.ensembles import Ensemble, Step
from ase_atom.propagation.fallback import Fallback
from ase_atom.propagation.jumps import finite_rows
from ase_atom.propagation.steps import advance, decode, finish
from ase_atom.state import PhaseState

SAME_TIME = 1e-9
"""fs, up to which two times in a stride are one."""


@dataclass(frozen=True)
class Span:
    """From where to where a part of a stride goes, and what moves the molecules there.

    Parameters
    ----------
    begin, end
        Times in the stride in fs.
    forces
        Molecules that the fallback moves, ``[B]``.
    expected
        Expected error of each molecule's jump; of those that the fallback moves, of the jump that
        was not made. Not a number where a jump of this length was not judged; ``[B]``.
    """

    begin: float
    end: float
    forces: Tensor
    expected: Tensor

    @property
    def length(self) -> float:
        """The length in fs."""
        return self.end - self.begin

    def contains(self, time: float) -> bool:
        """Say whether a time lies inside, and is neither begin nor end."""
        return self.begin + SAME_TIME < time < self.end - SAME_TIME


@dataclass(frozen=True)
class Part:
    """A part that was made.

    Parameters
    ----------
    span
        From where to where.
    start
        Where its frames begin, after `Ensemble.enter`.
    positions, velocities
        Its frames, ``[B, T, N, 3]``; not a number for molecules that are not alive.
    after
        The molecules at the end, and where they were before for those that broke.
    alive
        Molecules that are still good at the end, ``[B]``.
    failure
        The calculator's error, behind the frames; None if all went well.
    """

    span: Span
    start: PhaseState
    positions: Tensor
    velocities: Tensor
    after: PhaseState
    alive: Tensor
    failure: FallbackError | None = None


@dataclass(frozen=True)
class Divided:
    """The frames of several parts one after the other.

    Parameters
    ----------
    positions, velocities
        ``[B, T, N, 3]``.
    expected
        Expected error of the jump that a frame lies on, see `Span`; ``[B, T]``.
    strides
        Length of that jump in fs, 0 where forces moved the molecule; ``[B, T]``.
    failure
        The calculator's error, behind the frames.
    """

    positions: Tensor
    velocities: Tensor
    expected: Tensor
    strides: Tensor
    failure: FallbackError | None

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Divided:
        """Join parts."""
        expected, strides = [], []
        for part in parts:
            span, count = part.span, part.positions.shape[1]
            lengths = torch.full_like(span.expected, span.length).masked_fill(span.forces, 0.0)
            expected.append(span.expected[:, None].expand(-1, count))
            strides.append(lengths[:, None].expand(-1, count))
        return cls(
            torch.cat([part.positions for part in parts], dim=1),
            torch.cat([part.velocities for part in parts], dim=1),
            torch.cat(expected, dim=1),
            torch.cat(strides, dim=1),
            parts[-1].failure,
        )


def make_part(
    operator: OperatorLike,
    ensemble: Ensemble,
    fallback: Fallback | None,
    span: Span,
    start: PhaseState,
    step: Step,
    instants: Sequence[float],
    alive: Tensor,
    since: float | None = None,
) -> Part:
    """Move the molecules to the end of a part.

    Parameters
    ----------
    operator, ensemble, fallback
        What moves them.
    span
        The part.
    start
        Where they are, ``[B, N]``, after `Ensemble.enter`.
    step
        The stride's.
    instants
        Times of frames in the stride in fs, rising.
    alive
        Molecules that count, ``[B]``.
    since
        Time in the stride at which they are at ``start``, by default the part's begin.

    Raises
    ------
    FallbackError
        If the calculator fails before the first frame.
    """
    first = span.begin if since is None else since
    inside = [t - first for t in instants if first + SAME_TIME < t < span.end - SAME_TIME]
    at_end = any(abs(t - span.end) <= SAME_TIME for t in instants)
    times = torch.tensor([*inside, span.end - first], dtype=torch.float64)
    own = replace(step, stride=span.length)
    failure = None
    if fallback is None or not bool(span.forces.any()):
        x, v = advance(operator, ensemble, start, times, own, entered=True)
    else:
        x, v, failure = _with_forces(operator, ensemble, fallback, start, times, own, span.forces)
    finite = finite_rows(x[:, -1], v[:, -1])
    goes_on = finite & alive.to(finite.device)
    rows = goes_on[:, None, None]
    after = start.replace(
        positions=torch.where(rows, x[:, -1], start.positions),
        velocities=torch.where(rows, v[:, -1], start.velocities),
    )
    if not bool(alive.all()):
        gone = ~alive.to(x.device)[:, None, None, None]
        x, v = x.masked_fill(gone, math.nan), v.masked_fill(gone, math.nan)
    count = x.shape[1] if failure is not None else len(inside) + at_end
    return Part(span, start, x[:, :count], v[:, :count], after, goes_on.cpu(), failure)


def _with_forces(
    operator: OperatorLike,
    ensemble: Ensemble,
    fallback: Fallback,
    start: PhaseState,
    times: Tensor,
    step: Step,
    forces: Tensor,
) -> tuple[Tensor, Tensor, FallbackError | None]:
    """Return the frames of a part in which forces move some molecules."""
    rows, others = forces.nonzero().flatten(), (~forces).nonzero().flatten()
    stretch = fallback.path(start.select(rows), times)
    count = stretch.positions.shape[1]
    x = start.positions.new_empty((start.batch_size, count, *start.positions.shape[1:]))
    v = torch.empty_like(x)
    if len(others):
        path = decode(operator, ensemble, start.select(others), times, step)
        x[others], v[others] = (each[:, :count] for each in path)
    x[rows], v[rows] = stretch.positions, stretch.velocities
    if stretch.failure is not None:
        return x, v, stretch.failure

    def potential(asked: PhaseState) -> Tensor:
        energies = step.potential(asked).clone()
        at_start = torch.equal(asked.positions, start.positions)
        energies[rows] = (stretch.before if at_start else stretch.after).to(energies)
        return energies

    x, v = finish(ensemble, start, x, v, replace(step, potential=potential))
    return x, v, None
