"""Layers of the published trunk: normalisation, feed-forward network, heterogeneous attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ase_atom.operator.paper.affine import Affine
from ase_atom.operator.paper.attention import attend
from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.tokens import Tokens


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
        hidden = nn.functional.dropout(hidden, self.dropout, self.training)
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
                gate, value = rows.chunk(2, dim=-1)
                rows = silu(gate) * value
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

    def forward(self, queries: Tensor, sources: Sequence[Tensor], tokens: Tokens) -> Tensor:
        """Attend from ``[B, T, N, width]`` to the context tokens of each source.

        Queries and sources may have one copy in place of T.
        """
        # A head's scale divides its scores, hence its queries.
        query = tokens.place(self.query(tokens.marked(queries))).unflatten(-1, (self.heads, -1))
        query = tokens.turn(query) / self.scale[:, None]
        gates = self.gates()
        out: Tensor | float = 0.0
        for gate, source in zip(gates, sources, strict=True):
            rows = tokens.marked(source)
            key = tokens.turn_context(self.key(rows).unflatten(-1, (self.heads, -1)))
            value = tokens.of_context(self.value(rows)).unflatten(-1, (self.heads, -1))
            heard = attend(query, key, value, tokens.mask, self.dropout if self.training else 0.0)
            out = out + gate * heard
        return self.out(out.flatten(-2))


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

    def forward(self, x: Tensor, v: Tensor, phase: Tensor, tokens: Tokens) -> Tensor:
        """The next x, ``[B, T, N, width]``; each input may have one copy in place of T."""
        normed = self.norm(x)
        if self.single:
            heard = self.attention(normed, [normed], tokens)
        else:
            heard = self.attention(phase, [normed, self.norm(v), self.norm(phase)], tokens)
        attended = normed + heard
        return attended + self.feed_forward(attended)


def initialise(module: nn.Module) -> None:
    """Kaiming-normal weights and zero biases in every ordinary linear layer, the last included."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
