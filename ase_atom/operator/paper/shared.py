"""The trunk where all copies of the state are equal: the same numbers from far fewer products.

Without noise the P copies of a state differ in their instants alone. Then

- velocities and phase space never change, so the keys and values of all blocks, and the queries,
  are one matrix product each over the atoms of a single copy;
- a score between two such tokens depends on the difference of their instants: on a regular grid
  2 P − 1 differences stand for P² pairs of instants. Exponentials are taken once for every
  difference, and summed over the context of each token;
- all this is done for all blocks ahead of the first, whose positions are still equal copies too.
  Only the positions' stream of the later blocks goes through attention between all tokens.

Linear maps that follow each other are multiplied out, and so are gains, gates, residual weights
and the scales of scores (`Folded`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ase_atom.operator.paper.affine import Affine, to_length_one
from ase_atom.operator.paper.attention import by_head, drop
from ase_atom.operator.paper.layers import gated
from ase_atom.operator.paper.lift import Lifted
from ase_atom.operator.paper.tokens import Tokens

# Within these bounds a sum of exponentials is exact without taking a maximum off first, and so is
# its gradient, which has the reciprocal of its square.
_SMALLEST_SUM, _LARGEST_SUM = 1e-15, 1e15
# Below this no sum leaves those bounds.
_LARGEST_SCORE = 28.0
# Molecules times blocks whose weights are taken together: what fits into a processor's cache.
_TOGETHER = 4


class Blocks(Protocol):
    """What is folded of a `trunk.Trunk`."""

    blocks: nn.ModuleList
    training: bool

    def own_share(self, index: int) -> Tensor:
        """Weight of a block's own output against the first block's."""
        ...


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """Weights of one block, multiplied out, for rows u normalised to length one.

    Keys and gated values are ``pairs`` of u. What attention gives is
    a = u ``gain`` + ``bias`` + heard · ``out``; it holds the bias of the feed-forward network's
    last map already, which the first of ``maps`` takes off again. The block gives
    (1 − w) start + w a + hidden · ``last``, with w the ``share``.
    """

    pairs: Affine
    gain: Tensor
    bias: Tensor
    out: Tensor
    maps: tuple[Affine, Affine]
    share: Tensor
    last: Tensor


@dataclass(frozen=True, eq=False)
class Folded:
    """Weights of a trunk, multiplied out. L is the number of blocks.

    Attributes
    ----------
    queries
        Map to the queries of all blocks, the scales of scores included.
    pairs
        Map from rows of length one to the keys and values of v and phase space in all blocks.
    first_pairs
        The same for x in the first block.
    gates
        Shares of the sources x, v and phase space in each block, ``[L, 3]``.
    blocks
        The rest, block by block.
    """

    queries: Affine
    pairs: Affine
    first_pairs: Affine
    gates: Tensor
    blocks: list[FoldedBlock]


def fold(trunk: Blocks) -> Folded:
    """Multiply out the weights of a trunk."""
    queries, pairs, gates, blocks = [], [], [], []
    for index, block in enumerate(trunk.blocks):
        attention, feed_forward = block.attention, block.feed_forward
        width = attention.query.out_features
        queries.append(attention.queries())
        gain = block.norm.weight * math.sqrt(width)
        pair = attention.pairs()
        pair = Affine(pair.weight * gain[:, None], pair.bias)
        pairs.append(pair)
        gates.append(attention.gates())
        out, last = Affine.of(attention.out), Affine.of(feed_forward.last)
        first, second = feed_forward.folded()
        share = trunk.own_share(index)
        blocks.append(
            FoldedBlock(
                pairs=gated(pair, gates[-1][0]),
                gain=gain,
                bias=out.bias + last.bias,
                out=out.weight,
                maps=(Affine(first.weight, first.bias - last.bias @ first.weight), second),
                share=share,
                last=share * last.weight,
            )
        )

    def beside(maps: list[Affine]) -> Affine:
        weights, biases = zip(*maps, strict=True)
        return Affine(torch.cat(weights, dim=1), torch.cat(biases))

    return Folded(beside(queries), beside(pairs), pairs[0], torch.stack(gates), blocks)


class Ahead(NamedTuple):
    """Maps from the numbers that lifted features are linear in, which need not be lifted first.

    Attributes
    ----------
    queries
        From those of phase space to the queries of all blocks.
    first
        From those of x to the first block's keys and values.
    v, phase
        From those of v and of phase space to the keys and values of all blocks.
    """

    queries: Affine
    first: Affine
    v: Affine
    phase: Affine

    @classmethod
    def of(cls, folded: Folded, lifted: Lifted) -> Ahead:
        """Compose maps with the lift."""
        return cls(
            folded.queries.of_numbers(lifted.phase.basis),
            folded.first_pairs.of_numbers(lifted.x.basis),
            folded.pairs.of_numbers(lifted.v.basis),
            folded.pairs.of_numbers(lifted.phase.basis),
        )


def shared_trunk(
    trunk: Blocks, folded: Folded, ahead: Ahead, lifted: Lifted, tokens: Tokens
) -> Tensor | None:
    """Features of all tokens, as `Trunk` computes them; None if scores are too large for it.

    Parameters
    ----------
    trunk, folded, ahead
        The trunk and its weights.
    lifted
        Of a single copy of the state, ``[B, 1, N, width]``.
    tokens
        Marked by rotary embedding in time, or not at all.
    """
    heads = trunk.blocks[0].attention.heads
    batch, _, atoms, _ = lifted.x.numbers.shape
    width = lifted.x.basis.shape[1]
    epsilon = math.sqrt(width * trunk.blocks[0].epsilon)
    x, v, phase = (to_length_one(side, epsilon) for side in (lifted.x, lifted.v, lifted.phase))

    # Of all blocks, for one copy: queries [L, B, H, N, c], keys and values [L, 2, B, H, 2 N, c].
    query = ahead.queries(lifted.phase.numbers).view(batch, atoms, -1, heads, width // heads)
    query = query.permute(2, 0, 3, 1, 4).contiguous()
    pairs = torch.cat([ahead.v(v.numbers), ahead.phase(phase.numbers)], dim=1)
    pairs = pairs.view(batch, 2 * atoms, -1, 2, heads, width // heads)
    pairs = pairs.permute(2, 3, 0, 4, 1, 5).contiguous()
    # The first block's positions are equal copies as well.
    first = ahead.first(x.numbers).view(batch, atoms, 2, heads, width // heads)
    first = torch.cat([first.permute(2, 0, 3, 1, 4), pairs[0]], dim=-2).unsqueeze(0)

    alike = [_heard_by_lag(query[:1], first, folded.gates[:1], tokens)]
    together = max(1, _TOGETHER // batch)
    for index in range(1, len(folded.blocks), together):
        some = slice(index, index + together)
        alike.append(_heard_by_lag(query[some], pairs[some], folded.gates[some, 1:], tokens))
    if any(part is None for part in alike):
        return None
    from_copies = [heard for part in alike for heard in part]

    mask = tokens.key_mask()
    rows, start = x.rows()[:, 0], None
    for index, block in enumerate(folded.blocks):
        heard = from_copies[index].transpose(1, 2).reshape(-1, width)
        if index == 0:
            residual = torch.addcmul(block.bias, rows, block.gain).unsqueeze(1)
            residual = tokens.place(residual).reshape(-1, width)
        else:
            rows = to_length_one(rows, epsilon)
            residual = torch.addcmul(block.bias, rows, block.gain)
            context = rows.view(batch, -1, atoms, width)[:, : tokens.plan.context]
            key, value = block.pairs(context).chunk(2, dim=-1)
            key, value = by_head(tokens.turn_context(key), heads), by_head(value, heads)
            turned = tokens.turn_copies(query[index])
            own = scaled_dot_product_attention(turned, key, value, mask, scale=1.0)
            heard = own.transpose(1, 2).reshape(-1, width) + heard
        attended = residual.addmm_(heard, block.out)
        layer = trunk.blocks[index].feed_forward
        hidden = layer.hidden(attended, *block.maps)
        hidden = drop(hidden, layer.dropout if trunk.training else 0.0)
        if start is None:
            rows = start = torch.addmm(attended, hidden, block.last)
        else:
            rows = torch.lerp(start, attended, block.share).addmm_(hidden, block.last)
    return rows.view(batch, -1, atoms, width)


def _heard_by_lag(query: Tensor, pairs: Tensor, gates: Tensor, tokens: Tokens) -> Tensor | None:
    """Gated sum of attention to sources that are the same at all times.

    Parameters
    ----------
    query
        Of one copy in L blocks, not yet turned, ``[L, B, H, N, channels]``.
    pairs
        Keys and values of one copy of S sources, not yet turned, ``[L, 2, B, H, S N, channels]``.
    gates
        Shares of the sources, ``[L, S]``.

    Returns
    -------
    Tensor
        ``[L, B, H, T N, channels]``; None if scores are too large.
    """
    count, atoms = gates.shape[1], query.shape[3]
    # [L, B, H, D N, S N].
    scores = tokens.turn_by_lag(query) @ pairs[:, 0].transpose(-1, -2)
    smallest, largest = scores.detach().aminmax()
    if max(-float(smallest), float(largest)) > _LARGEST_SCORE:
        scores = _less_their_largest(scores, count, atoms)
    weights = scores.exp_()
    if tokens.mask is not None:
        weights = weights * tokens.mask.repeat(1, count)[:, None, None]
    weights = tokens.windows @ weights.unflatten(-2, (-1, atoms)).flatten(-2)
    weights = weights.unflatten(-1, (atoms, count, atoms))  # [L, B, H, T, N, S, N]
    sums = weights.sum(-1, keepdim=True)
    smallest, largest = sums.detach().aminmax()
    if not (float(smallest) > _SMALLEST_SUM and float(largest) < _LARGEST_SUM):
        return None
    weights = weights * (gates[:, None, None, None, None, :, None] / sums)
    return weights.flatten(-2).flatten(-3, -2) @ pairs[:, 1]


def _less_their_largest(scores: Tensor, count: int, atoms: int) -> Tensor:
    """Scores less the largest of each query's atom and source, at any lag: the same softmax."""
    several = scores.unflatten(-1, (count, atoms)).unflatten(-3, (-1, atoms))
    largest = several.detach().amax((-4, -1), keepdim=True)  # of [L, B, H, D, N, S, N]
    return (several - largest).flatten(-2).flatten(-3, -2)
