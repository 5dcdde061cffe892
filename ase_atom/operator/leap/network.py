"""The network of the leap decoder: from a noisy structure to the guess of the true one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ase_atom.operator.leap.config import LeapConfig
from ase_atom.operator.leap.flow import centred
from ase_atom.operator.trunk import Features, Trunk
from ase_atom.operator.trunk.lifting import gaussians

_NEAR = (0.7, 2.8, 22, 0.1)
_FAR = (3.0, 6.0, 8, 0.5)
_FREQUENCIES = 8
_HIGHEST = 60.0  # rad over the whole of the flow
SOFT = 0.05
"""Å, added to distances in directions: in noise atoms may lie on each other."""

_MIDDLE_K, _SPAN_K = 400.0, 100.0


class LeapLift(nn.Module):
    """Lift a noisy structure and the one that it is to follow from.

    Pair features are Gaussians of both distances, their difference, and the size of the relative
    displacement from one structure to the other; atoms' scalars hear of the noise level, the lag,
    the temperature and how far the atom is from its place; vectors begin as displacements.
    """

    centres: Tensor
    inverse_widths: Tensor
    frequencies: Tensor

    def __init__(self, config: LeapConfig) -> None:
        super().__init__()
        count, width, hidden = len(config.elements), config.width, 2 * config.pair_width
        self.embedding = nn.Embedding(count + 1, width)
        self.receiver = nn.Embedding(count + 1, hidden)
        self.sender = nn.Embedding(count + 1, hidden)
        centres, inverse_widths = self.grid()
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("inverse_widths", inverse_widths, persistent=False)
        frequencies = torch.exp(torch.linspace(0, math.log(_HIGHEST), _FREQUENCIES))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.conditions = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES + 3, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.condition_pairs = nn.Linear(width, hidden)
        self.displaced = nn.Linear(1, width, bias=False)
        self.pair_in = nn.Linear(2 * len(self.centres) + 4, hidden)
        self.pair_out = nn.Linear(hidden, config.pair_width)
        self.vector_gate = nn.Linear(width, config.vector_channels)

    @staticmethod
    def grid() -> tuple[Tensor, Tensor]:
        """Centres and inverse widths of the Gaussians of distances; see `gaussians`."""
        return gaussians(_NEAR, _FAR)

    def known(self, level: Tensor, conditions: Tensor) -> Tensor:
        """What the network hears of noise level ``[B]``, lag and temperature, ``[B, K]``."""
        angles = level[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos(), level.log()[:, None], conditions], dim=-1)

    def forward(
        self, species: Tensor, noisy: Tensor, start: Tensor, level: Tensor, conditions: Tensor
    ) -> Features:
        """Lift one batch; arguments as for `LeapNetwork`."""
        atoms = (species > 0).to(noisy.dtype)
        atom_mask = atoms.unsqueeze(-1)
        number = species.shape[1]
        different = 1 - torch.eye(number, dtype=noisy.dtype, device=noisy.device)
        pair_mask = (atoms[:, :, None] * atoms[:, None, :] * different).unsqueeze(-1)

        heard = self.conditions(self.known(level, conditions))
        away = start - noisy
        scalars = (
            self.embedding(species)
            + heard[:, None]
            + self.displaced(_length(away, atom_mask) * atom_mask)
        ) * atom_mask

        here, distance = _separations(noisy, pair_mask)
        there, before = _separations(start, pair_mask)
        relative = (there - here) * pair_mask
        invariants = torch.cat(
            [
                torch.exp(-0.5 * ((distance - self.centres) * self.inverse_widths) ** 2),
                torch.exp(-0.5 * ((before - self.centres) * self.inverse_widths) ** 2),
                1 / (distance + 0.5),
                1 / (before + 0.5),
                distance - before,
                _length(relative, pair_mask) * pair_mask,
            ],
            dim=-1,
        )
        hidden = (
            self.pair_in(invariants)
            + self.receiver(species)[:, :, None]
            + self.sender(species)[:, None, :]
            + self.condition_pairs(heard)[:, None, None]
        )
        return Features(
            scalars=scalars,
            vectors=away.unsqueeze(-1) * (self.vector_gate(scalars) * atom_mask).unsqueeze(-2),
            pairs=self.pair_out(nn.functional.silu(hidden)),
            directions=here / (distance + SOFT) * pair_mask,
            relative_velocities=relative,
            pair_mask=pair_mask,
            atom_mask=atom_mask,
        )


class LeapNetwork(nn.Module):
    """Guess the structure after a lag from one that lies between it and noise.

    Rotations, reflections and permutations of like atoms commute with the guess exactly.
    """

    def __init__(self, config: LeapConfig) -> None:
        super().__init__()
        self.config = config
        self.lift = LeapLift(config)
        self.trunk = Trunk(config)
        self.norm_scalars = nn.RMSNorm(config.width)
        self.norm_pairs = nn.RMSNorm(config.pair_width)
        self.gate = nn.Linear(config.width, config.vector_channels)
        self.vector_out = nn.Linear(config.vector_channels, 1, bias=False)
        self.pair_hidden = nn.Linear(config.pair_width, config.pair_width)
        self.pair_out = nn.Linear(config.pair_width, 2)

    def forward(
        self, species: Tensor, noisy: Tensor, start: Tensor, level: Tensor, conditions: Tensor
    ) -> Tensor:
        """Return the guess of x_1, ``[B, N, 3]``, about its centroid.

        Parameters
        ----------
        species
            Index into the elements, 0 for padding, ``[B, N]``.
        noisy, start
            x_s and x_0 about their centroids, Å, ``[B, N, 3]``.
        level
            s, above 0 up to 1, ``[B]``.
        conditions
            What `conditions_of` returns, ``[B, 2]``.
        """
        features = self.trunk(self.lift(species, noisy, start, level, conditions))
        opened = 1 + self.gate(self.norm_scalars(features.scalars)).unsqueeze(-2)
        change = self.vector_out(features.vectors * opened).squeeze(-1)
        hidden = nn.functional.silu(self.pair_hidden(self.norm_pairs(features.pairs)))
        radial, along = (self.pair_out(hidden) * features.pair_mask).chunk(2, dim=-1)
        change = change + (features.directions * radial).sum(2)
        change = change + (features.relative_velocities * along).sum(2)
        return self.moved(noisy, change, level, features.atom_mask)

    def moved(self, noisy: Tensor, change: Tensor, level: Tensor, mask: Tensor) -> Tensor:
        """Return the noisy structure moved by a change at a level, about its centroid."""
        size = (self.config.scale * level)[:, None, None]
        return centred(noisy + change * size, mask)


def conditions_of(lag: Tensor, temperature: Tensor) -> Tensor:
    """What the network hears of lags in fs and temperatures in K, both ``[B]``: ``[B, 2]``."""
    return torch.stack([(lag / 1000.0).log(), (temperature - _MIDDLE_K) / _SPAN_K], dim=-1)


def _separations(x: Tensor, pair_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors from j to i and their lengths, 1 Å where there is no pair."""
    vectors = x[:, :, None] - x[:, None, :]
    return vectors, ((vectors * vectors).sum(-1, keepdim=True) + (1 - pair_mask)).sqrt()


def _length(x: Tensor, mask: Tensor) -> Tensor:
    """Lengths of vectors with a gradient at zero, where structures are the same."""
    return ((x * x).sum(-1, keepdim=True) + 1e-8 + (1 - mask)).sqrt()
