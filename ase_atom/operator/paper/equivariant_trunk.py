"""The trunk of the fully equivariant ablation: every map of the published trunk, made equivariant.

Rows are vectors and scalars as in `ase_atom.operator.paper.equivariant`. Linear maps mix vectors
with vectors and scalars with scalars, without biases; the norm has one gain for a vector's three
components; each head has its own vectors and scalars, so that scores are invariant; rotary
embedding turns pairs of vectors, component by component; activations are gates computed from
lengths and scalars; dropout takes whole vectors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ase_atom.operator.paper.affine import Factored, to_length_one
from ase_atom.operator.paper.attention import attend, by_head, drop
from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.equivariant import EquivariantLinear, Irreps, join
from ase_atom.operator.paper.tokens import Tokens, complex_turns, rotate


class EquivariantNorm(nn.Module):
    """Root mean square norm over a row, with a gain for each vector and scalar."""

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irreps = irreps
        self.vectors = nn.Parameter(torch.ones(irreps.vectors))
        self.scalars = nn.Parameter(torch.ones(irreps.scalars))

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise ``[..., width]``."""
        gain = torch.cat([self.vectors.repeat_interleave(3), self.scalars])
        width = self.irreps.width
        epsilon = math.sqrt(width * torch.finfo(gain.dtype).eps)
        return to_length_one(rows, epsilon) * (gain * math.sqrt(width))


class GatedActivation(nn.Module):
    """Scale vectors and scalars by gates of the vectors' lengths and of the scalars.

    With ``swiglu`` a gate is silu of a linear map of them all, and scales another linear map of
    the row; with ``silu`` it is the sigmoid of the vector's own length, or of the scalar.
    """

    def __init__(self, irreps: Irreps, activation: str) -> None:
        super().__init__()
        self.irreps = irreps
        self.gate = self.value = None
        if activation == "swiglu":
            count = irreps.vectors + irreps.scalars
            self.gate, self.value = nn.Linear(count, count), EquivariantLinear(irreps, irreps)

    def forward(self, rows: Tensor) -> Tensor:
        """Activate ``[..., width]``."""
        vectors, scalars = self.irreps.split(rows)
        invariants = torch.cat([torch.linalg.vector_norm(vectors, dim=-1), scalars], dim=-1)
        if self.gate is None:
            gates = torch.sigmoid(invariants)
        else:
            gates = silu(self.gate(invariants))
            vectors, scalars = self.irreps.split(self.value(rows))
        of_vectors, of_scalars = gates.split(list(self.irreps), dim=-1)
        return join(vectors * of_vectors.unsqueeze(-1), scalars * of_scalars)


class EquivariantAttention(nn.Module):
    """Heterogeneous attention between rows of vectors and scalars."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        irreps = Irreps.of_width(config.width)
        self.heads, self.base = config.heads, config.rope_base
        self.dropout = config.attention_dropout
        self.head = Irreps.of_width(config.width // config.heads)
        inner = Irreps(config.heads * self.head.vectors, config.heads * self.head.scalars)
        self.inner = inner
        self.query, self.key, self.value = (EquivariantLinear(irreps, inner) for _ in range(3))
        self.out = EquivariantLinear(inner, irreps)
        scale = torch.full((config.heads,), float(self.head.width))
        if config.attention_scale == "learned":
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale, persistent=False)
        self.gate_logits = nn.Parameter(0.1 * torch.randn(1 if config.attention == "self" else 3))

    def forward(self, queries: Tensor, sources: list[Tensor], tokens: Tokens) -> Tensor:
        """Attend from ``[B, T, N, width]`` to the context tokens of each source."""
        query = self._turned(self.query(queries), tokens) / self.scale[:, None]
        query = by_head(tokens.place(query.flatten(-2)), self.heads)
        dropout = self.dropout if self.training else 0.0
        out: Tensor | float = 0.0
        for gate, source in zip(torch.softmax(self.gate_logits, 0), sources, strict=True):
            key = self._turned(self.key(source), tokens).flatten(-2)
            value = self._by_head(self.value(source)).flatten(-2)
            key, value = (by_head(tokens.of_context(s), self.heads) for s in (key, value))
            out = out + gate * attend(query, key, value, tokens.key_mask(), dropout)
        rows = out.transpose(1, 2).unflatten(1, (tokens.number, -1))
        vectors, scalars = self.head.split(rows)
        return self.out(join(vectors.flatten(-3, -2), scalars.flatten(-2)))

    def _by_head(self, rows: Tensor) -> Tensor:
        """Rows of all heads' vectors, then scalars, as ``[..., heads, channels]``."""
        vectors, scalars = self.inner.split(rows)
        parts = vectors.unflatten(-2, (self.heads, -1)), scalars.unflatten(-1, (self.heads, -1))
        return join(*parts)

    def _turned(self, rows: Tensor, tokens: Tokens) -> Tensor:
        """Rows by head, with pairs of vectors turned by the tokens' places."""
        rows = self._by_head(rows)
        if tokens.places is None:
            return rows
        pairs = self.head.vectors // 2
        vectors, rest = rows.split([6 * pairs, self.head.width - 6 * pairs], dim=-1)
        # x of both vectors of a pair side by side, then y, then z: all turned by one angle.
        vectors = vectors.unflatten(-1, (pairs, 2, 3)).transpose(-1, -2)
        by = complex_turns(tokens.places, 2 * pairs, self.base, rows.dtype)
        turned = rotate(vectors.contiguous(), by[..., None, :, None, None])
        turned = turned.transpose(-1, -2).flatten(-3)
        return torch.cat([turned, rest.expand(*turned.shape[:-1], -1)], dim=-1)


class EquivariantBlock(nn.Module):
    """One block of the equivariant trunk; see `ase_atom.operator.paper.layers.Block`."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        irreps = Irreps.of_width(config.width)
        self.single = config.attention == "self"
        self.norm = EquivariantNorm(irreps)
        self.attention = EquivariantAttention(config)
        self.first, self.second, self.last = (EquivariantLinear(irreps, irreps) for _ in range(3))
        self.activation = GatedActivation(irreps, config.activation)
        self.dropout = config.dropout

    def forward(self, x: Tensor, v: Factored, phase: Factored, tokens: Tokens) -> Tensor:
        """The next x, ``[B, T, N, width]``; each input may have one copy in place of T."""
        normed = self.norm(x.rows() if isinstance(x, Factored) else x)
        if self.single:
            attended = normed + self.attention(normed, [normed], tokens)
        else:
            lifted_v, lifted_phase = v.rows(), phase.rows()
            sources = [normed, self.norm(lifted_v), self.norm(lifted_phase)]
            attended = normed + self.attention(lifted_phase, sources, tokens)
        hidden = self.activation(self.second(self.activation(self.first(attended))))
        if self.training and self.dropout:
            irreps = self.activation.irreps
            kept = drop(torch.ones_like(hidden[..., : sum(irreps)]), self.dropout)
            vectors, scalars = kept.split(list(irreps), dim=-1)
            hidden = hidden * torch.cat([vectors.repeat_interleave(3, dim=-1), scalars], dim=-1)
        return attended + self.last(hidden)
