"""Attention with and without dropout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# Weights of so many bytes are worked on at a time: they stay in a core's cache.
_CACHE = 800_000


def by_head(rows: Tensor, heads: int) -> Tensor:
    """``[B, T, N, H W]`` as ``[B, H, T N, W]``."""
    return rows.flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """softmax(q·k) v.

    Parameters
    ----------
    query
        Scaled, ``[B, H, L, W]``.
    key, value
        ``[B, H, S, W]``.
    mask
        True where a key is an atom's, ``[B, 1, 1, S]``; None if all are.
    dropout
        Share of the weights to drop. On a CPU it is rounded to a 256th.

    Returns
    -------
    Tensor
        ``[B, H, L, W]``.
    """
    if dropout and query.device.type == "cpu":
        query, key, value = (side.contiguous() for side in (query, key, value))
        return DroppedAttention.apply(query, key, value, mask, dropout)
    return scaled_dot_product_attention(query, key, value, mask, dropout, scale=1.0)


def drop(rows: Tensor, share: float) -> Tensor:
    """Zero a share of the entries, and make up for it. On a CPU it is rounded to a 256th."""
    if not share or rows.device.type != "cpu":
        return torch.nn.functional.dropout(rows, share)
    below = round(256 * share)
    return rows * (_random_bytes(rows.shape) >= below).to(rows.dtype) * (256 / (256 - below))


def _random_bytes(shape: Sequence[int]) -> Tensor:
    """Uniform bytes: a float would cost several times as much as what it decides."""
    count = math.prod(shape)
    draws = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.uint8)[:count].view(*shape)


class DroppedAttention(torch.autograd.Function):
    """Attention with dropout of its weights, a few molecules at a time.

    PyTorch's own keeps several arrays of all weights on the CPU, and draws a floating-point number
    for each. Here weights live in the cache, are computed again for the gradient (as in Dao et
    al., "FlashAttention", arXiv 2205.14135), and a random byte decides whether one is dropped.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
    ) -> Tensor:
        """``[B, H, L, W]``; arguments, contiguous, as for `attend`."""
        bytes_ = _random_bytes((*query.shape[:3], key.shape[2]))
        below = round(256 * dropout)
        out = torch.empty_like(query)
        for rows in _parts(query, key):
            weights, kept = _weights(query, key, mask, bytes_, below, rows)
            torch.matmul(weights.mul_(kept), value[rows], out=out[rows])
        ctx.scale, ctx.below = 256 / (256 - below), below
        out *= ctx.scale
        ctx.save_for_backward(query, key, value, out, bytes_, mask)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values."""
        query, key, value, out, bytes_, mask = ctx.saved_tensors
        gradient = gradient.contiguous()
        # Of the softmax's gradient: Σ_j w_j ∂w_j, which is out · ∂out, dropout or not.
        mean = (gradient * out).sum(-1, keepdim=True)
        gradient = gradient * ctx.scale
        to_query, to_key, to_value = (torch.empty_like(side) for side in (query, key, value))
        for rows in _parts(query, key):
            weights, kept = _weights(query, key, mask, bytes_, ctx.below, rows)
            of_weights = gradient[rows] @ value[rows].transpose(-1, -2)
            of_scores = of_weights.mul_(kept).sub_(mean[rows]).mul_(weights)
            torch.matmul(of_scores, key[rows], out=to_query[rows])
            torch.matmul(of_scores.transpose(-1, -2), query[rows], out=to_key[rows])
            weights.mul_(kept)
            torch.matmul(weights.transpose(-1, -2), gradient[rows], out=to_value[rows])
        return to_query, to_key, to_value, None, None


def _parts(query: Tensor, key: Tensor) -> Iterator[slice]:
    """Slices of the batch whose weights fit into the caches."""
    size = query[0, ..., 0].numel() * key.shape[2] * query.element_size()
    step = max(1, _CACHE * torch.get_num_threads() // size)
    for start in range(0, len(query), step):
        yield slice(start, start + step)


def _weights(
    query: Tensor, key: Tensor, mask: Tensor | None, bytes_: Tensor, below: int, rows: slice
) -> tuple[Tensor, Tensor]:
    """Weights of some molecules, and ones where a weight is kept, zeros where it is dropped."""
    scores = query[rows] @ key[rows].transpose(-1, -2)
    if mask is not None:
        scores.masked_fill_(~mask[rows], -torch.inf)
    kept = torch.empty_like(scores).copy_(bytes_[rows]).ge_(below)
    return torch.softmax(scores, dim=-1), kept
