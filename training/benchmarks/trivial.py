"""Predictors without a network, which every result has to be read beside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from training.benchmarks.long_lag import best_rotation
from training.benchmarks.samples import Samples

_NEIGHBOURS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RIDGES = tuple(10.0**n for n in range(-8, 2))
_SHORT = 20.0  # fs, that make velocities displacements as large as those of positions
_CHUNK = 256

FRAMES = ("laboratory", "mean pose", "right-handed mean pose")
"""Of states: aligned with the mean structure by rotation or reflection, or by rotation alone.

By rotation alone even a planar molecule, as any three atoms are, has an axis across the plane."""


class Trivial(ABC):
    """A predictor that is told the training samples, the lags in fs, and validation samples.

    Parameters
    ----------
    heavy
        Choose by the errors of heavy atoms alone.

    Attributes
    ----------
    choice
        What it chose on the validation samples, for the table.
    version
        Of its code, which grows with a change that makes other results.
    """

    choice: str = ""
    version: int = 1

    def __init__(self, heavy: bool = False) -> None:
        self.heavy = heavy

    def prepare(self, train: Samples, validation: Samples, lags: Tensor) -> None:
        """Take what is needed from the training samples."""
        self.lags = lags

    @abstractmethod
    def __call__(self, samples: Samples) -> Tensor:
        """Positions at the lags, Å, ``[B, P, N, 3]``."""


class Stay(Trivial):
    """x₀ at all times."""

    def __call__(self, samples: Samples) -> Tensor:
        return samples.positions[:, None].expand(-1, len(self.lags), -1, -1)


class Ballistic(Trivial):
    """x₀ + v₀ t."""

    def __call__(self, samples: Samples) -> Tensor:
        lags = self.lags.to(samples.positions)[:, None, None]
        return samples.positions[:, None] + samples.velocities[:, None] * lags


class MeanStructure(Trivial):
    """The mean of the training targets at each lag, whatever the start.

    With ``aligned``, starts are aligned with their mean structure by `best_rotation` about the
    centre of mass, targets are averaged in that frame, and the mean is rotated into the frame of
    each start asked about: the least-squares answer among structures that turn with the molecule.
    Without, in the laboratory frame.

    Molecules that were not in training have no mean; they stay where they are.
    """

    def __init__(self, aligned: bool, heavy: bool = False) -> None:
        super().__init__(heavy)
        self.aligned = aligned

    def prepare(self, train: Samples, validation: Samples, lags: Tensor) -> None:
        super().prepare(train, validation, lags)
        self.means: dict[int, Tensor] = {}
        self.structures: dict[int, Tensor] = {}
        for molecule in train.molecule.unique().tolist():
            own = train.select(train.molecule == molecule)
            targets = own.targets
            if self.aligned:
                centre = centres(own)
                self.structures[molecule] = mean_structure(own.positions - centre, own.masses)
                rotation = best_rotation(
                    self.structures[molecule], own.positions - centre, own.masses
                )
                targets = (targets - centre[:, None]) @ rotation[:, None]
            self.means[molecule] = targets.mean(0)

    def __call__(self, samples: Samples) -> Tensor:
        found = samples.positions[:, None].expand(-1, len(self.lags), -1, -1).clone()
        for molecule in samples.molecule.unique().tolist():
            if molecule not in self.means:
                continue
            rows = samples.molecule == molecule
            mean = self.means[molecule]
            if self.aligned:
                own = samples.select(rows)
                centre = centres(own)
                rotation = best_rotation(
                    self.structures[molecule], own.positions - centre, own.masses
                )
                found[rows] = mean @ rotation[:, None].transpose(-1, -2) + centre[:, None]
            else:
                found[rows] = mean.expand(int(rows.sum()), *mean.shape)
        return found


class Neighbours(Trivial):
    """The mean of what became of the nearest training starts: a conditional mean without a model.

    The distance is Σ_i m_i |Δx_i|² / s_x² + Σ_i m_i |Δv_i|² / s_v², each divided by its mean over
    pairs of training starts. The number of neighbours, whether velocities count, and in which of
    the `FRAMES` states are compared and averaged, are chosen on the validation samples.
    """

    version = 2

    def prepare(self, train: Samples, validation: Samples, lags: Tensor) -> None:
        super().prepare(train, validation, lags)
        best = None
        for frame in FRAMES:
            for velocities in (False, True):
                self._remember(train, frame, velocities)
                for count in _NEIGHBOURS:
                    if count > len(train):
                        break
                    self.count = count
                    error = masked_mse(self(validation), validation, self.heavy).mean().item()
                    if best is None or error < best[0]:
                        best = (error, frame, velocities, count)
        _, frame, velocities, self.count = best
        self._remember(train, frame, velocities)
        self.choice = f"{self.count} in the {frame} frame" + (", velocities" if velocities else "")

    def _remember(self, train: Samples, frame: str, velocities: bool) -> None:
        self.frame, self.velocities = frame, velocities
        self.stored: dict[int, tuple[Tensor, Tensor]] = {}
        self.structures: dict[int, Tensor] = {}
        self.scales: dict[int, tuple[Tensor, Tensor]] = {}
        for molecule in train.molecule.unique().tolist():
            own = train.select(train.molecule == molecule)
            self.structures[molecule] = mean_structure(own.positions - centres(own), own.masses)
            x, v, rotation, centre = self._features(own, molecule)
            self.scales[molecule] = tuple(
                side.var(0).sum().clamp(min=1e-12).sqrt() for side in (x, v)
            )
            targets = (own.targets - centre[:, None]) @ rotation[:, None]
            self.stored[molecule] = self._joined(x, v, molecule), targets

    def _features(self, own: Samples, molecule: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rotation, centre = frame_of(own, self.structures[molecule], self.frame)
        roots = own.masses.sqrt().unsqueeze(-1)
        x, v = (own.positions - centre) @ rotation, own.velocities @ rotation
        return (x * roots).flatten(1), (v * roots).flatten(1), rotation, centre

    def _joined(self, x: Tensor, v: Tensor, molecule: int) -> Tensor:
        of_x, of_v = self.scales[molecule]
        return torch.cat([x / of_x, v / of_v], dim=1) if self.velocities else x / of_x

    def __call__(self, samples: Samples) -> Tensor:
        found = samples.positions[:, None].expand(-1, len(self.lags), -1, -1).clone()
        for molecule in samples.molecule.unique().tolist():
            if molecule not in self.stored:
                continue
            rows = (samples.molecule == molecule).nonzero().flatten()
            keys, targets = self.stored[molecule]
            for some in rows.split(_CHUNK):
                own = samples.select(some)
                x, v, rotation, centre = self._features(own, molecule)
                gaps = torch.cdist(self._joined(x, v, molecule), keys)
                near = gaps.topk(min(self.count, len(keys)), largest=False).indices
                mean = targets[near].mean(1)
                found[some] = mean @ rotation[:, None].transpose(-1, -2) + centre[:, None]
        return found


class Linear(Trivial):
    """Least squares: displacements that are linear in positions and velocities at the start.

    They are taken in a frame of the molecule, one fit for each molecule. That holds for small
    vibrations about one structure, and without a network it is what to expect of as many starts.
    The strength of the ridge and the frame are chosen on the validation samples.
    """

    def prepare(self, train: Samples, validation: Samples, lags: Tensor) -> None:
        super().prepare(train, validation, lags)
        best = None
        for frame in FRAMES:
            if frame == "laboratory":
                continue
            self.frame = frame
            for self.ridge in _RIDGES:
                self._fit(train)
                error = masked_mse(self(validation), validation, self.heavy).mean().item()
                if best is None or error < best[0]:
                    best = (error, frame, self.ridge)
        _, self.frame, self.ridge = best
        self._fit(train)
        self.choice = f"ridge of {self.ridge:g} of the mean variance in the {self.frame} frame"

    def _fit(self, train: Samples) -> None:
        self.structures: dict[int, Tensor] = {}
        self.maps: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for molecule in train.molecule.unique().tolist():
            own = train.select(train.molecule == molecule)
            self.structures[molecule] = mean_structure(own.positions - centres(own), own.masses)
            rows, rotation = self._rows(own, molecule)
            moved = ((own.targets - own.positions[:, None]) @ rotation[:, None]).flatten(1).double()
            middle, mean = rows.mean(0), moved.mean(0)
            rows = rows - middle
            squares = rows.T @ rows
            size = self.ridge * squares.diagonal().mean()
            squares.diagonal().add_(size.clamp(min=1e-12))
            slopes = torch.linalg.solve(squares, rows.T @ (moved - mean))
            self.maps[molecule] = slopes, middle, mean

    def _rows(self, own: Samples, molecule: int) -> tuple[Tensor, Tensor]:
        rotation, centre = frame_of(own, self.structures[molecule], self.frame)
        x, v = (own.positions - centre) @ rotation, own.velocities @ rotation * _SHORT
        return torch.cat([x.flatten(1), v.flatten(1)], dim=1).double(), rotation

    def __call__(self, samples: Samples) -> Tensor:
        found = samples.positions[:, None].expand(-1, len(self.lags), -1, -1).clone()
        for molecule in samples.molecule.unique().tolist():
            if molecule not in self.maps:
                continue
            chosen = samples.molecule == molecule
            rows, rotation = self._rows(samples.select(chosen), molecule)
            slopes, middle, mean = self.maps[molecule]
            moved = ((rows - middle) @ slopes + mean).to(found).view_as(found[chosen])
            found[chosen] += moved @ rotation[:, None].transpose(-1, -2)
        return found


TRIVIAL: dict[str, Callable[..., Trivial]] = {
    "stay": Stay,
    "ballistic": Ballistic,
    "mean, laboratory": partial(MeanStructure, False),
    "mean, aligned": partial(MeanStructure, True),
    "neighbours": Neighbours,
    "linear": Linear,
}
"""By the names of their rows; no result is printed without them."""


def frame_of(samples: Samples, structure: Tensor, frame: str) -> tuple[Tensor, Tensor]:
    """One of the `FRAMES`: rotation of row vectors, ``[B, 3, 3]``, and origin, ``[B, 1, 3]``."""
    if frame == "laboratory":
        count = len(samples)
        return torch.eye(3).expand(count, 3, 3), torch.zeros(count, 1, 3)
    centre = centres(samples)
    places = samples.positions - centre
    return best_rotation(structure, places, samples.masses, handed="handed" in frame), centre


def centres(samples: Samples) -> Tensor:
    """Centres of mass, Å, ``[B, 1, 3]``."""
    weights = samples.masses / samples.masses.sum(1, keepdim=True)
    return (weights.unsqueeze(-1) * samples.positions).sum(1, keepdim=True)


def mean_structure(structures: Tensor, masses: Tensor, rounds: int = 5) -> Tensor:
    """Mean of structures about the origin ``[B, N, 3]``, each aligned with the mean so far."""
    mean = structures[0]
    for _ in range(rounds):
        rotation = best_rotation(mean, structures, masses)
        mean = (structures @ rotation).mean(0)
    return mean


def masked_mse(predicted: Tensor, samples: Samples, heavy: bool = False) -> Tensor:
    """Mean over atoms, or heavy atoms, and directions of the squared error, Å², ``[B, P]``.

    A prediction of fewer frames than the targets is of the last ones.
    """
    targets = samples.targets[:, -predicted.shape[1] :]
    real = (samples.numbers > (1 if heavy else 0)).to(predicted.dtype)
    wrong = ((predicted - targets).square().sum(-1) * real[:, None]).sum(-1)
    return wrong / (3 * real.sum(1, keepdim=True))
