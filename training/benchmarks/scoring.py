"""What a row of a table reports: errors by start, equivariance error, times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy.stats import special_ortho_group
from torch import Tensor

from training.benchmarks.samples import Samples
from training.benchmarks.trivial import masked_mse

_ROTATIONS = 4
_STATES = 100
_CHUNK = 200

Predictor = Callable[[Samples], Tensor]


@dataclass(frozen=True)
class Score:
    """Measured on test samples. Shapes: S starts.

    Attributes
    ----------
    s2s, s2t
        Squared error of the last frame, and mean over all frames, Å², ``[S]``; the second None for
        a model that predicts the last alone.
    by_lag
        Mean squared error of each predicted frame, Å².
    equivariance
        Mean change of the prediction when the state is rotated and the prediction rotated back,
        over the mean displacement of the atoms.
    batch_ms, single_ms
        Processor (or, on an accelerator, wall) time per state in batches of 100 and alone, ms.
    """

    s2s: Tensor
    s2t: Tensor | None
    by_lag: list[float]
    equivariance: float
    batch_ms: float
    single_ms: float | None


def score(predictor: Predictor, test: Samples, heavy: bool = False, brief: bool = False) -> Score:
    """Measure a predictor on test samples.

    Parameters
    ----------
    predictor
        Gives positions at the last frames of samples.
    test
        Samples.
    heavy
        Count the errors of heavy atoms alone.
    brief
        For a predictor that takes minutes: timed as it goes, with no state alone, and its
        equivariance error measured on four states in one rotation.
    """
    device = test.positions.device
    before = seconds(device)
    predicted = torch.cat([predictor(test.select(rows)) for rows in _chunks(len(test))])
    taken = 1000 * (seconds(device) - before) / len(test)
    errors = masked_mse(predicted, test, heavy)
    partial = predicted.shape[1] < test.targets.shape[1]
    return Score(
        s2s=errors[:, -1],
        s2t=None if partial else errors.mean(1),
        by_lag=errors.mean(0).tolist(),
        equivariance=(
            equivariance_error(predictor, test.select(some_of_each(test, 4)), rotations=1)
            if brief
            else equivariance_error(predictor, test.select(some_of_each(test)))
        ),
        batch_ms=taken if brief else _time(predictor, test.select(slice(0, 100)), 3),
        single_ms=None if brief else _time(predictor, test.select(slice(0, 1)), 10),
    )


def seconds(device: torch.device) -> float:
    """A clock, s: of the processor, which others' work does not move, or else of the wall.

    An accelerator is waited for.
    """
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def some_of_each(samples: Samples, most: int = _STATES) -> Tensor:
    """Rows of the first samples of each molecule, as many of one as of another, ``[≤ most]``."""
    molecules = samples.molecule.unique()
    share = max(1, most // len(molecules))
    rows = [torch.nonzero(samples.molecule == each)[:share, 0] for each in molecules]
    return torch.cat(rows)[:most]


def equivariance_error(
    predictor: Predictor, samples: Samples, seed: int = 0, rotations: int = _ROTATIONS
) -> float:
    """Mean |Qᵀ f(Q s) − f(s)| over mean |x(t) − x(0)|, over atoms, frames and random rotations Q.

    Rotations are about the origin of the data's coordinates.
    """
    plain = predictor(samples).detach()
    real = samples.mask[:, None].to(plain)
    targets = samples.targets[:, -plain.shape[1] :]
    moved = ((targets - samples.positions[:, None]).norm(dim=-1) * real).sum()
    drawn = special_ortho_group.rvs(3, size=rotations, random_state=seed).reshape(-1, 3, 3)
    changed = 0.0
    for rotation in torch.as_tensor(drawn).to(plain):
        rotated = replace(
            samples,
            positions=samples.positions @ rotation.T,
            velocities=samples.velocities @ rotation.T,
        )
        back = predictor(rotated).detach() @ rotation
        changed += float(((back - plain).norm(dim=-1) * real).sum()) / rotations
    return changed / float(moved)


def _chunks(count: int) -> list[slice]:
    return [slice(first, first + _CHUNK) for first in range(0, count, _CHUNK)]


def _time(predictor: Predictor, samples: Samples, repeats: int) -> float:
    """Least of several times per state, ms."""
    device = samples.positions.device
    predictor(samples)
    times = []
    for _ in range(repeats):
        before = seconds(device)
        predictor(samples)
        times.append(seconds(device) - before)
    return 1000 * min(times) / len(samples)
