"""Decoder over time: from trunk features to paths at any requested instants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.trunk import Features


class SpectralDecoder(nn.Module):
    """Write the path as a sum over learned frequencies.

    x_i(t) = x_i + v_i t + Σ_k [a_ik (cos ω_k t − 1) + b_ik (sin ω_k t − ω_k t)] and v_i = dx_i/dt,
    so that the path starts at the given state and the velocities are the positions' derivative,
    both exactly. The coefficient vectors come from the atoms' vectors and from pair messages
    along r̂_ij and v_ij. This class returns the sum; the caller adds the ballistic part.

    Parameters
    ----------
    config
        Of the operator.
    more
        Number of coefficient vectors beyond the 2 K of the frequencies.
    start
        Factor on the first coefficients, which keeps them small.
    """

    def __init__(self, config: SpectralConfig, more: int = 0, start: float = 0.1) -> None:
        super().__init__()
        count = 2 * config.modes + more
        low, high = config.frequency_range
        self.frequencies = nn.Parameter(torch.linspace(low, high, config.modes))
        self.norm_scalars = nn.RMSNorm(config.width)
        self.norm_pairs = nn.RMSNorm(config.pair_width)
        self.gate = nn.Linear(config.width, config.vector_channels)
        self.from_vectors = nn.Linear(config.vector_channels, count, bias=False)
        self.pair_hidden = nn.Linear(config.pair_width, config.pair_width)
        self.from_pairs = nn.Linear(config.pair_width, 2 * count)
        with torch.no_grad():
            self.from_vectors.weight.mul_(start)
            self.from_pairs.weight.mul_(start)
            self.from_pairs.bias.zero_()

    def coefficients(self, features: Features) -> Tensor:
        """Coefficient vectors in units of the thermal speed, ``[B, N, 3, 2 K]``."""
        gate = 1 + self.gate(self.norm_scalars(features.scalars))
        own = self.from_vectors(features.vectors * gate.unsqueeze(-2))
        hidden = nn.functional.silu(self.pair_hidden(self.norm_pairs(features.pairs)))
        radial, relative = self.from_pairs(hidden).chunk(2, dim=-1)
        own = own + torch.matmul(features.directions.transpose(-1, -2), radial * features.pair_mask)
        return own + torch.matmul(features.relative_velocities.transpose(-1, -2), relative)

    def basis(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Basis functions and their derivatives at ``times`` (fs), each ``[2 K, T]``.

        Divided by ω_k, so that a coefficient of one means a velocity of one thermal speed
        whatever the frequency.
        """
        omega = self.frequencies.to(times.dtype)[:, None]
        phase = omega * times
        cosine, sine = torch.cos(phase), torch.sin(phase)
        positions = torch.cat([(cosine - 1) / omega, sine / omega - times])
        return positions, torch.cat([-sine, cosine - 1])
