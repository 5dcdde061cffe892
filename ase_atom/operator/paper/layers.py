"""Layers of the published trunk: normalisation, feed-forward network, heterogeneous attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ase_atom.operator.paper.affine import Affine, Factored, to_length_one
from ase_atom.operator.paper.attention import attend, by_head, drop
from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.tokens import Tokens

Rows = Tensor | Factored


class FeedForward(nn.Module):
    """Linear, activation, linear, the same activation, dropout, linear.

    With ``swiglu`` the activation has weights, silu(G h) ∘ (V h), and both times the same ones.
    It follows a linear map each time, so the two are folded into one product: (G A) x for G (A x).

    Parameters
    ----------
    before, hidden, after
        Widths.
    """

    def __init__(
        self, before: int, hidden: int, after: int, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.first = nn.Linear(before, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, after)
        self.dropout = dropout
        self.gate = self.value = None
        if activation == "swiglu":
            self.gate, self.value = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``[..., before]`` to ``[..., after]``."""
        hidden = self.hidden(rows, *self.folded())
        hidden = drop(hidden, self.dropout if self.training else 0.0)
        return self.last(hidden)

    def folded(self) -> tuple[Affine, Affine]:
        """The two maps whose outputs are activated."""
        first, second = Affine.of(self.first), Affine.of(self.second)
        if self.gate is None:
            return first, second
        both = Affine.of(self.gate, self.value)
        return both.after(first), both.after(second)

    def hidden(self, rows: Tensor, *maps: Affine) -> Tensor:
        """Activated values in front of the last map."""
        for affine in maps:
            rows = affine(rows)
            if self.gate is None:
                rows = silu(rows)
            else:
                width = rows.shape[-1] // 2
                gate, value = rows[..., :width], rows[..., width:]
                # Without gradients nobody needs the values in between.
                needed = torch.is_grad_enabled()
                rows = silu(gate) * value if needed else silu(gate, inplace=True).mul_(value)
        return rows


class HeterogeneousAttention(nn.Module):
    """Queries from one stream; keys and values from several, with shared projections.

    Each source has a softmax of its own, and the results are mixed by a softmax gate over learned
    logits. Scores are divided by the width of a head. With a single source this is ordinary
    attention, without a gate.
    """

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        scale = torch.full((config.heads,), float(width // config.heads))
        if config.attention_scale == "learned":
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale, persistent=False)
        self.gate_logits = None
        if config.attention == "heterogeneous":
            self.gate_logits = nn.Parameter(0.1 * torch.randn(3))

    def gates(self) -> Tensor:
        """Shares of the sources, which add up to one, ``[sources]``."""
        if self.gate_logits is None:
            return torch.ones_like(self.scale[:1])
        return torch.softmax(self.gate_logits, dim=0)

    def forward(self, queries: Rows, sources: Sequence[Rows], tokens: Tokens) -> Tensor:
        """Attend from ``[B, T, N, width]`` to the context tokens of each source.

        Queries and sources may have one copy in place of T.
        """
        query = by_head(tokens.turn(self.queries()(tokens.marked(queries))), self.heads)
        both, share = self.pairs(), self.gates()
        dropout = self.dropout if self.training else 0.0
        mask = tokens.key_mask()
        out: Tensor | float = 0.0
        for index, source in enumerate(sources):
            pair = gated(both, share[index])(tokens.marked(source))
            key, value = pair.chunk(2, dim=-1)
            key = by_head(tokens.turn_context(key), self.heads)
            value = by_head(tokens.of_context(value), self.heads)
            out = out + attend(query, key, value, mask, dropout)
        rows = out.transpose(1, 2).flatten(2).unflatten(1, (tokens.number, -1))
        return self.out(rows)

    def queries(self) -> Affine:
        """Map to queries. A head's scale divides its scores, hence its queries."""
        query = Affine.of(self.query)
        scale = self.scale.repeat_interleave(len(query.bias) // self.heads)
        return Affine(query.weight / scale, query.bias / scale)

    def pairs(self) -> Affine:
        """Map to keys and values."""
        return Affine.of(self.key, self.value)


def gated(pairs: Affine, gate: Tensor) -> Affine:
    """A map to keys and values, the values times a gate."""
    width = len(pairs.bias) // 2
    factors = torch.cat([gate.new_ones(width), gate.expand(width)])
    return Affine(pairs.weight * factors, pairs.bias * factors)


class Block(nn.Module):
    """One block: attention and a feed-forward network over the positions' stream.

    One RMSNorm serves x, v and phase space. Queries come from the phase space before it. Residuals
    start from the normalised x, and the feed-forward network takes what attention gave as it is.
    """

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.single = config.attention == "self"
        self.norm = nn.RMSNorm(config.width)
        self.attention = HeterogeneousAttention(config)
        width = config.width
        self.feed_forward = FeedForward(width, width, width, config.activation, config.dropout)

    def forward(self, x: Rows, v: Factored, phase: Factored, tokens: Tokens) -> Tensor:
        """The next x, ``[B, T, N, width]``; each input may have one copy in place of T."""
        normed = self.normalised(x)
        if isinstance(normed, Factored):
            normed = normed.rows()
        if self.single:
            heard = self.attention(normed, [normed], tokens)
        else:
            sources = [normed, self.normalised(v), self.normalised(phase)]
            heard = self.attention(phase, sources, tokens)
        attended = normed + heard
        return attended + self.feed_forward(attended)

    def normalised(self, rows: Rows) -> Rows:
        """Rows after the norm."""
        gain = self.norm.weight
        rows = to_length_one(rows, math.sqrt(len(gain) * self.epsilon))
        if isinstance(rows, Factored):
            return Factored(rows.numbers, rows.basis * (gain * math.sqrt(len(gain))))
        return rows * (gain * math.sqrt(len(gain)))

    @property
    def epsilon(self) -> float:
        """What the norm adds to a mean square."""
        return torch.finfo(self.norm.weight.dtype).eps if self.norm.eps is None else self.norm.eps


def initialise(module: nn.Module) -> None:
    """Kaiming-normal weights and zero biases in every ordinary linear layer, the last included."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
