"""Decoders over time: from trunk features to paths at any requested instants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.spectral.lifting import Features


class SpectralDecoder(nn.Module):
    """Write the path as a sum over learned frequencies.

    x_i(t) = x_i + v_i t + Σ_k [a_ik (cos ω_k t − 1) + b_ik (sin ω_k t − ω_k t)] and v_i = dx_i/dt,
    so that the path starts at the given state and the velocities are the positions' derivative,
    both exactly. The coefficient vectors come from the atoms' vectors and from pair messages
    along r̂_ij and v_ij. This class returns the sum; the caller adds the ballistic part.

    With a bounded carrier, c(t) = τ (1 − e^(−t/τ)) stands in both places of t. With a place to
    rest, one more coefficient vector d_i comes with τ g(t), g(t) = 1 − (1 + t/τ) e^(−t/τ), which
    like its derivative is zero at t = 0.
    """

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.tau = config.carrier_time if config.carrier == "bounded" else None
        self.rests = config.rest != "none"
        count = 2 * config.modes + self.rests
        low, high = config.frequency_range
        self.frequencies = nn.Parameter(torch.linspace(low, high, config.modes))
        self.norm_scalars = nn.RMSNorm(config.width)
        self.norm_pairs = nn.RMSNorm(config.pair_width)
        self.gate = nn.Linear(config.width, config.vector_channels)
        self.from_vectors = nn.Linear(config.vector_channels, count, bias=False)
        self.pair_hidden = nn.Linear(config.pair_width, config.pair_width)
        self.from_pairs = nn.Linear(config.pair_width, 2 * count)
        # A path that comes to rest has most of the answer before it learns anything.
        start = 0.01 if self.rests else 0.1
        with torch.no_grad():
            self.from_vectors.weight.mul_(start)
            self.from_pairs.weight.mul_(start)
            self.from_pairs.bias.zero_()

    def coefficients(self, features: Features) -> Tensor:
        """Coefficient vectors in units of the thermal speed, ``[B, N, 3, 2 K (+ 1)]``."""
        gate = 1 + self.gate(self.norm_scalars(features.scalars))
        own = self.from_vectors(features.vectors * gate.unsqueeze(-2))
        hidden = nn.functional.silu(self.pair_hidden(self.norm_pairs(features.pairs)))
        radial, relative = self.from_pairs(hidden).chunk(2, dim=-1)
        own = own + torch.matmul(features.directions.transpose(-1, -2), radial * features.pair_mask)
        return own + torch.matmul(features.relative_velocities.transpose(-1, -2), relative)

    def basis(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Basis functions and their derivatives at ``times`` (fs), each ``[2 K (+ 1), T]``.

        Divided by ω_k, so that a coefficient of one means a velocity of one thermal speed
        whatever the frequency; with a bounded carrier by √(ω_k² + 1/τ²).
        """
        omega = self.frequencies.to(times.dtype)[:, None]
        phase = omega * times
        cosine, sine = torch.cos(phase), torch.sin(phase)
        carried, speed = self.carrier(times)
        positions = [(cosine - 1) / omega, sine / omega - carried]
        velocities = [-sine, cosine - speed]
        if self.tau is not None:
            # Slow functions grow to 1/ω over long lags: let them start no larger than τ.
            size = omega / torch.sqrt(omega**2 + self.tau**-2)
            positions = [size * side for side in positions]
            velocities = [size * side for side in velocities]
        if self.rests:
            arrived, rate = self.arrival(times)
            positions.append(self.tau * arrived[None])
            velocities.append(self.tau * rate[None])
        return torch.cat(positions), torch.cat(velocities)

    def carrier(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """How far a unit velocity carries by ``times``, fs, and its derivative, each ``[T]``."""
        if self.tau is None:
            return times, torch.ones_like(times)
        left = torch.exp(-times / self.tau)
        return -self.tau * torch.expm1(-times / self.tau), left

    def arrival(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """g(t), from 0 at the start to 1, and its derivative in 1/fs, each ``[T]``."""
        passed = times / self.tau
        left = torch.exp(-passed)
        return 1 - (1 + passed) * left, passed * left / self.tau
