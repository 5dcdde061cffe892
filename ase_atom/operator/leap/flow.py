"""The flow from noise to a later structure (Lipman et al., arXiv 2210.02747).

Structures between noise and sample lie on straight lines, x_s = (1 - s) x_1 + s x_noise with
x_noise = x_0 + spread ξ, where x_0 is the molecule now, x_1 the molecule after the lag, laid on
x_0, and ξ standard normal. A network's guess of x_1 from x_s is x_s + scale s F: exact where s
goes to zero, so that what it does not know there cannot blur stiff bonds. All are about their
centroid, as orientation and centre of mass are no business of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

LEAST = 1e-3
"""Noise level below which nothing is asked."""

Guess = Callable[[Tensor, Tensor], Tensor]
"""From x_s ``[B, N, 3]`` and s ``[B]`` to the guess of x_1."""


def centred(x: Tensor, mask: Tensor) -> Tensor:
    """Positions about their centroid, zero on padding.

    Parameters
    ----------
    x
        ``[B, N, 3]``.
    mask
        1 for atoms and 0 for padding, ``[B, N, 1]``.
    """
    return (x - (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask


def levels(passes: int) -> Tensor:
    """Noise levels of a sampling, falling from 1 to 0, float64 ``[passes + 1]``.

    Spaced by a square law: bonds are decided at the end.
    """
    return torch.linspace(1, 0, passes + 1, dtype=torch.float64).square()


def sampled(guess: Guess, noise: Tensor, mask: Tensor, passes: int) -> Tensor:
    """Follow the flow from noise to a sample, dx/ds = (x - x̂_1(x, s)) / s.

    Between two levels x̂_1 is taken as linear in s, with the slope of the two latest guesses, and
    the rest solved exactly: a multistep rule of second order at one pass a step, in the manner of
    Lu et al. (arXiv 2211.01095). Bonds are 30 % too narrow with Euler's rule and eight passes.

    Parameters
    ----------
    guess
        The network's guess of x_1.
    noise
        x_noise, ``[B, N, 3]``.
    mask
        As for `centred`.
    passes
        Calls of the network.

    Returns
    -------
    x_1, ``[B, N, 3]``.
    """
    x = centred(noise, mask)
    steps = levels(passes).tolist()
    before: tuple[Tensor, float] | None = None
    for now, then in pairwise(steps):
        end = guess(x, x.new_full((len(x),), max(now, LEAST)))
        moved = end + (x - end) * (then / now)
        if before is not None:
            slope = (end - before[0]) / (now - before[1])
            bend = then * math.log(now / then) if then else 0.0
            moved = moved + slope * (bend - (now - then))
        before = end, now
        x = centred(moved, mask)
    return x
