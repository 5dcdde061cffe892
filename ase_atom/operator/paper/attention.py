"""Attention between tokens, laid out ``[batch, times, atoms, heads, channels]``."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """softmax(q·k) v over all times and atoms of the context.

    Parameters
    ----------
    query
        Scaled, ``[B, T, N, H, W]``.
    key, value
        ``[B, C, N, H, W]``.
    mask
        True where there is an atom, ``[B, N]``; None if everywhere.
    dropout
        Share of the weights to drop.

    Returns
    -------
    Tensor
        ``[B, T, N, H, W]``.
    """
    shape = query.shape
    q, k, v = (side.flatten(1, 2).transpose(1, 2) for side in (query, key, value))
    bias = None
    if mask is not None:
        bias = mask[:, None, None, None].expand(-1, 1, 1, key.shape[1], -1).flatten(3)
    heard = scaled_dot_product_attention(q, k, v, bias, dropout, scale=1.0)
    return heard.transpose(1, 2).reshape(shape)
