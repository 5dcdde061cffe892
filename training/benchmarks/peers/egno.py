"""Equivariant graph neural operator (Xu et al., ICML 2024, arXiv 2401.11037)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.benchmarks.peers.egnn import VELOCITY_TIME, Embedding, Layer, Pairs
from training.benchmarks.samples import Samples

_LONGEST_PERIOD = 10_000


class TemporalConvolution(nn.Module):
    """f(t) ← f(t) + σ(F⁻¹[W F f](t)) over the lowest Fourier modes of the copies in time.

    For scalars σ is a leaky ReLU. For vectors the channels are position and velocity, weights mix
    them alike in all three directions, and σ is the identity, so that rotations commute.

    Parameters
    ----------
    channels, modes
        Size of the weights, complex ``[modes, channels, channels]``.
    scale
        Of the initial weights, drawn between 0 and it.
    activate
        Whether there is a σ.
    """

    def __init__(self, channels: int, modes: int, scale: float, activate: bool) -> None:
        super().__init__()
        self.modes, self.activate = modes, activate
        self.weights = nn.Parameter(scale * torch.rand(modes, channels, channels, 2))

    def forward(self, rows: Tensor) -> Tensor:
        """Rows ``[B, T, ..., channels]``."""
        times = rows.shape[1]
        spectrum = torch.fft.rfft(rows, dim=1)[:, : self.modes]
        weights = torch.view_as_complex(self.weights)[: spectrum.shape[1]]
        mixed = torch.einsum("bm...i,mio->bm...o", spectrum, weights)
        wave = torch.fft.irfft(mixed, n=times, dim=1)
        return rows + (nn.functional.leaky_relu(wave) if self.activate else wave)


class EGNO(nn.Module):
    """Layers of EGNN between convolutions in time, over P copies of the state.

    Sizes by default those of the published comparison. The copies of one molecule, and they
    alone, are convolved with each other.

    Parameters
    ----------
    elements
        Atomic numbers that occur.
    timesteps
        Number P of frames.
    width, layers
        Of EGNN.
    modes
        Fourier modes kept.
    time_width
        Channels that tell the copies apart.
    """

    last_only = False
    version = 2

    def __init__(
        self,
        elements: Sequence[int],
        timesteps: int,
        width: int = 64,
        layers: int = 5,
        modes: int = 2,
        time_width: int = 32,
    ) -> None:
        super().__init__()
        self.register_buffer("marks", time_marks(timesteps, time_width), persistent=False)
        self.embedding = Embedding(elements, width, more=time_width)
        self.layers = nn.ModuleList(Layer(width, still=False) for _ in range(layers))
        self.scalars = nn.ModuleList(
            TemporalConvolution(width, modes, 1 / width**2, activate=True) for _ in range(layers)
        )
        self.vectors = nn.ModuleList(
            TemporalConvolution(2, modes, 0.1, activate=False) for _ in range(layers)
        )

    def forward(self, samples: Samples) -> Tensor:
        """Positions at the lags, Å, ``[B, P, N, 3]``."""
        real = samples.mask[:, None, :, None]
        pairs = Pairs.of(samples)
        h = self.embedding(samples, self.marks)
        centre = (samples.positions * real[:, 0]).sum(1, keepdim=True) / real[:, 0].sum(
            1, keepdim=True
        )
        # Padding sits at the centre, so that it stays there and finite.
        x = torch.where(real[:, 0], samples.positions, centre)[:, None]
        x = x.expand(-1, len(self.marks), -1, -1)
        v = (samples.velocities * VELOCITY_TIME)[:, None].expand_as(x)
        about = centre[:, None]
        for layer, scalars, vectors in zip(self.layers, self.scalars, self.vectors, strict=True):
            h = scalars(h)
            both = vectors(torch.stack([x - about, v], dim=-1))
            x, v = both[..., 0] + about, both[..., 1]
            x, h = layer(x, v, h, pairs)
        return x * real


def time_marks(timesteps: int, width: int) -> Tensor:
    """Sines and cosines of the copies' indices, ``[P, width]``."""
    half = width // 2
    rates = torch.exp(-math.log(_LONGEST_PERIOD) / (half - 1) * torch.arange(half))
    angles = torch.arange(timesteps)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
