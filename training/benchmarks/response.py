"""The linear answer of a molecule to its state, from training samples."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.state import PhaseState
from training.benchmarks.long_lag import LongLagOperator
from training.benchmarks.samples import Samples

_RIDGES = tuple(10.0**n for n in range(-8, 2))


def fit_response(operator: LongLagOperator, train: Samples, lags: Tensor) -> None:
    """Let an operator's response make up for what it misses of the training targets.

    Parameters
    ----------
    operator
        With a response and a place of rest, before training.
    train
        Samples of its molecule.
    lags
        Times of the targets, fs, ``[P]``.
    """
    state = PhaseState(train.numbers, train.masses, train.positions, train.velocities)
    with torch.no_grad():
        missed = train.targets - operator.positions(state, lags, train.first)
        alignment = operator.rest.alignment(train.masses, train.positions)
        seen = operator.rest.seen(alignment, train.positions, train.velocities)
    # The frames' answers do not mix, nor do their slopes.
    slopes = sum(
        ridge(rows.double(), (missed @ rotation[:, None]).flatten(1).double())
        for rows, rotation in zip(seen, alignment.rotations, strict=True)
    )
    operator.set_response(slopes.unflatten(1, (len(lags), -1)).transpose(0, 1), lags)


def ridge(rows: Tensor, targets: Tensor) -> Tensor:
    """Slopes of targets ``[B, E]`` to rows ``[B, D]``, ``[D, E]``, without a constant.

    The strength of the ridge is that of the least error of each sample, left out of the fit
    (Allen's PRESS, Technometrics 16, 125 (1974)).
    """
    left, sizes, right = torch.linalg.svd(rows, full_matrices=False)
    inside = left.T @ targets
    best = None
    for strength in _RIDGES:
        size = strength * sizes.square().mean()
        kept = sizes.square() / (sizes.square() + size).clamp(min=1e-300)
        weight = (left.square() @ kept).clamp(max=1 - 1e-6)
        error = (targets - left @ (kept[:, None] * inside)) / (1 - weight)[:, None]
        error = error.square().mean().item()
        if best is None or error < best[0]:
            best = error, right.T @ ((kept / sizes.clamp(min=1e-300))[:, None] * inside)
    return best[1]
