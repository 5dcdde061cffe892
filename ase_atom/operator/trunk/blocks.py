"""Trunk: all-pairs attention blocks over scalars, vectors and a narrow pair stream."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ase_atom.operator.trunk.config import TrunkConfig
from ase_atom.operator.trunk.lifting import Features


class Block(nn.Module):
    """One round of exchange between atoms.

    The pair stream first hears of both atoms, and of the angles that their vectors make with the
    line between them and with each other. It then biases the attention logits, filters the
    attended values (scalars and vectors alike) and weighs radial vector messages. Each step uses
    scalar products or invariant weights only, so the block is equivariant to rotations and
    reflections and, since sums over atoms are unordered, to permutations.
    """

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        width, pair, channels = config.width, config.pair_width, config.vector_channels
        self.heads = config.heads
        self.angles = config.pair_vectors
        self.key_width = 8
        self.radial = config.radial_channels
        self.limit = config.vector_limit

        self.norm_scalars = nn.RMSNorm(width)
        self.norm_pairs = nn.RMSNorm(pair)
        self.pair_ends = nn.Linear(width, 4 * pair, bias=False)
        self.pair_self = nn.Linear(pair, 2 * pair)
        self.pair_probes = nn.Linear(channels, 4 * self.angles, bias=False)
        self.pair_angles = nn.Linear(3 * self.angles, 2 * pair, bias=False)
        self.pair_out = nn.Linear(2 * pair, pair)

        self.norm_messages = nn.RMSNorm(pair)
        self.filters = nn.Linear(pair, 2 * self.heads + self.radial)
        self.attend = nn.Linear(width, 2 * self.heads * self.key_width + width, bias=False)
        self.vector_values = nn.Linear(channels, channels, bias=False)

        vectors_in = 2 * channels + self.radial
        self.vector_mix = nn.Linear(vectors_in, 3 * channels, bias=False)
        self.node_in = nn.Linear(2 * width + pair + 2 * channels, 2 * width)
        self.node_out = nn.Linear(2 * width, width + channels)
        # Small first messages keep the vectors, which no norm bounds, from spiking early.
        with torch.no_grad():
            for layer in (self.pair_out, self.node_out):
                layer.weight.mul_(0.3)
            self.vector_mix.weight.mul_(0.5)

    def forward(self, features: Features) -> Features:
        """Return the features after one exchange; shapes as in `Features`."""
        scalars, vectors, pairs = features.scalars, features.vectors, features.pairs
        directions, mask = features.directions, features.pair_mask
        batch, atoms = scalars.shape[:2]
        normed = self.norm_scalars(scalars)

        receiver, sender = self.pair_ends(normed).chunk(2, dim=-1)
        probes = self.pair_probes(vectors)
        lines, first, second = probes.split([2 * self.angles, self.angles, self.angles], dim=-1)
        along = torch.matmul(directions, lines)
        # r̂_ij·w_j is minus the transpose of r̂_ji·w_j.
        own, other = along[..., : self.angles], -along[..., self.angles :].transpose(1, 2)
        # Per channel, w_i·w_j as one small matrix product of [N, 3] with [3, N].
        mutual = first.permute(0, 3, 1, 2) @ second.permute(0, 3, 2, 1)
        hidden = (
            self.pair_self(self.norm_pairs(pairs))
            + receiver[:, :, None]
            + sender[:, None, :]
            + self.pair_angles(torch.cat([own, other, mutual.permute(0, 2, 3, 1)], dim=-1))
        )
        pairs = pairs + self.pair_out(nn.functional.silu(hidden))

        filters = self.filters(self.norm_messages(pairs)) * mask
        bias, gate, radial = filters.split([self.heads, self.heads, self.radial], dim=-1)
        query, key, value = self.attend(normed).split(
            [self.heads * self.key_width, self.heads * self.key_width, normed.shape[-1]], dim=-1
        )
        query = query.view(batch, atoms, self.heads, -1).transpose(1, 2)
        key = key.view(batch, atoms, self.heads, -1).transpose(1, 2)
        logits = query @ key.transpose(-1, -2) * self.key_width**-0.5 + bias.permute(0, 3, 1, 2)
        blocked = (mask.squeeze(-1) - 1).unsqueeze(1) * 1e4
        weights = torch.softmax(logits + blocked, dim=-1) * gate.permute(0, 3, 1, 2)
        scalar_values = value.view(batch, atoms, self.heads, -1)
        vector_values = self.vector_values(vectors).view(batch, atoms, 3, self.heads, -1)
        vector_values = vector_values.permute(0, 3, 1, 2, 4).flatten(3)
        values = torch.cat([scalar_values.transpose(1, 2), vector_values], dim=-1)
        attended = weights @ values
        size = scalar_values.shape[-1]
        heard = attended[..., :size].transpose(1, 2).flatten(2)
        carried = attended[..., size:].unflatten(-1, (3, -1)).permute(0, 2, 3, 1, 4).flatten(3)
        pushes = torch.matmul(directions.transpose(-1, -2), radial)
        crowd = (pairs * mask).sum(2) * (1 / 8)

        mixed = self.vector_mix(torch.cat([vectors, carried, pushes], dim=-1))
        left, right, change = mixed.chunk(3, dim=-1)
        products = (left * right).sum(-2)
        lengths = ((left * left).sum(-2) + 1e-6).sqrt()
        joined = torch.cat([normed, heard, crowd, products, lengths], dim=-1)
        update = self.node_out(nn.functional.silu(self.node_in(joined)))
        width = scalars.shape[-1]
        scalars = (scalars + update[..., :width]) * features.atom_mask
        vectors = vectors + change * (1 + update[..., width:]).unsqueeze(-2)
        vectors = vectors * features.atom_mask.unsqueeze(-1)
        if self.limit:
            excess = (vectors * vectors).sum(-2, keepdim=True) * self.limit**-2
            vectors = vectors * (1 + excess * excess) ** -0.25
        return replace(features, scalars=scalars, vectors=vectors, pairs=pairs)


class Trunk(nn.Module):
    """A stack of blocks."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))

    def forward(self, features: Features, depth: int | None = None) -> Features:
        """Run the first ``depth`` blocks (all by default)."""
        for block in self.blocks[:depth]:
            features = block(features)
        return features
