"""E(n) equivariant graph neural network (Satorras, Hoogeboom and Welling, arXiv 2102.09844)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.benchmarks.samples import Samples

VELOCITY_TIME = 50.0
"""fs that make velocities displacements of a usual size."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of a batch of molecules; T is the number of copies in time, or 1.

    Attributes
    ----------
    features
        Kind of pair (bonded, two bonds apart, other) and squared distance in the start state,
        ``[B, 1, N, N, 4]``.
    mask
        1 for two different atoms, ``[B, 1, N, N, 1]``.
    """

    features: Tensor
    mask: Tensor

    @classmethod
    def of(cls, samples: Samples) -> Pairs:
        """All pairs of each molecule."""
        real = samples.mask
        both = (
            real[:, :, None] & real[:, None] & ~torch.eye(real.shape[1], dtype=torch.bool).to(real)
        )
        kinds = nn.functional.one_hot(samples.hops, 3).to(samples.positions)
        gap = samples.positions[:, :, None] - samples.positions[:, None]
        squares = gap.square().sum(-1, keepdim=True)
        mask = both.to(squares).unsqueeze(-1)
        return cls((torch.cat([kinds, squares], -1) * mask).unsqueeze(1), mask.unsqueeze(1))


class Layer(nn.Module):
    """One exchange of messages, with velocities.

    m_ij = φ_e(h_i, h_j, |x_i − x_j|², e_ij),
    x_i ← x_i + φ_v(h_i) v_i + mean_j (x_i − x_j) φ_x(m_ij),
    h_i ← h_i + φ_h(h_i, Σ_j m_ij), with j over the other atoms of the molecule.

    Parameters
    ----------
    width, pair_features
        Size.
    still
        Begin with φ_x all but zero and without an offset, as the authors of EGNN do; those of EGNO
        leave it as it is drawn.
    """

    def __init__(self, width: int, pair_features: int = 4, still: bool = True) -> None:
        super().__init__()
        self.of_receiver = nn.Linear(width, width)
        self.of_sender = nn.Linear(width, width, bias=False)
        self.of_pair = nn.Linear(1 + pair_features, width, bias=False)
        self.message = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.coordinate = _network(width, 1)
        self.velocity = _network(width, 1)
        self.node = _network(2 * width, width, width)
        if still:
            self.coordinate[-1] = nn.Linear(width, 1, bias=False)
            nn.init.xavier_uniform_(self.coordinate[-1].weight, gain=0.001)

    def forward(self, x: Tensor, v: Tensor, h: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """New positions and features from ``[B, T, N, 3]`` and ``[B, T, N, width]``."""
        gap = x[:, :, :, None] - x[:, :, None]
        squares = gap.square().sum(-1, keepdim=True)
        features = pairs.features.expand(*squares.shape[:-1], -1)
        # The first layer of φ_e, taken apart so that nothing of its size is joined pair by pair.
        hidden = (
            self.of_receiver(h)[:, :, :, None]
            + self.of_sender(h)[:, :, None]
            + self.of_pair(torch.cat([squares, features], dim=-1))
        )
        messages = self.message(hidden) * pairs.mask
        count = pairs.mask.sum(3).clamp(min=1)
        pushes = (gap * self.coordinate(messages) * pairs.mask).sum(3) / count
        heard = messages.sum(3)
        x = x + self.velocity(h) * v + pushes
        return x, h + self.node(torch.cat([h, heard], dim=-1))


class EGNN(nn.Module):
    """Predicts the last frame alone, as in the published comparison.

    Parameters
    ----------
    elements
        Atomic numbers that occur.
    width, layers
        Size.
    """

    last_only = True
    version = 2

    def __init__(self, elements: Sequence[int], width: int = 64, layers: int = 5) -> None:
        super().__init__()
        self.embedding = Embedding(elements, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))

    def forward(self, samples: Samples) -> Tensor:
        """Positions at the last lag, Å, ``[B, 1, N, 3]``."""
        pairs = Pairs.of(samples)
        h = self.embedding(samples)[:, None]
        x, v = samples.positions[:, None], samples.velocities[:, None] * VELOCITY_TIME
        for layer in self.layers:
            x, h = layer(x, v, h, pairs)
        return x * samples.mask[:, None, :, None]


class Embedding(nn.Module):
    """From elements and speeds, and what else there is, to features."""

    def __init__(self, elements: Sequence[int], width: int, more: int = 0) -> None:
        super().__init__()
        lookup = torch.zeros(max(elements) + 1, dtype=torch.long)
        lookup[list(elements)] = torch.arange(len(elements))
        self.register_buffer("lookup", lookup, persistent=False)
        self.kinds = len(elements)
        self.linear = nn.Linear(self.kinds + 1 + more, width)

    def forward(self, samples: Samples, more: Tensor | None = None) -> Tensor:
        """``[B, N, width]``, or ``[B, T, N, width]`` with more features ``[T, more]``."""
        kinds = nn.functional.one_hot(self.lookup[samples.numbers], self.kinds)
        speed = samples.velocities.norm(dim=-1, keepdim=True) * VELOCITY_TIME
        rows = torch.cat([kinds.to(speed), speed], dim=-1)
        if more is not None:
            times, atoms = len(more), rows.shape[1]
            rows = rows[:, None].expand(-1, times, -1, -1)
            marks = more[None, :, None].expand(len(rows), -1, atoms, -1)
            rows = torch.cat([rows, marks.to(rows)], dim=-1)
        return self.linear(rows)


def _network(before: int, after: int, hidden: int | None = None) -> nn.Sequential:
    hidden = hidden or before
    return nn.Sequential(nn.Linear(before, hidden), nn.SiLU(), nn.Linear(hidden, after))
