"""Pairs of structures a lag apart, from which leaps are learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ase_atom.errors import DataError
from ase_atom.superposition import superposing_rotations
from training.leap.teacher import TeacherRun

GROUP = 16
"""Pairs of a batch that come from one run, where there are several."""


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs: B pairs, molecules padded to N atoms.

    Attributes
    ----------
    species
        Index into the elements, 0 for padding, ``[B, N]``.
    start, end
        Structures at the start, about their centroid, and after the lag, laid on it by a rotation
        about the centres of mass, Å, ``[B, N, 3]``.
    lags, temperatures
        fs and K, ``[B]``.
    """

    species: Tensor
    start: Tensor
    end: Tensor
    lags: Tensor
    temperatures: Tensor


class PairSampler:
    """Draw pairs from runs of the teacher.

    Lags are drawn uniformly in their logarithm, runs in proportion to their frames.

    Parameters
    ----------
    runs
        Of the teacher.
    elements
        Atomic numbers in the order of the network's.
    lags
        Shortest and longest, fs.
    batch_size
        Pairs in a batch.
    seed
        Of all draws: what a step sees follows from its number alone.

    Raises
    ------
    DataError
        If a run is shorter than the shortest lag.
    """

    def __init__(
        self,
        runs: Sequence[TeacherRun],
        elements: Sequence[int],
        lags: tuple[float, float],
        batch_size: int,
        seed: int,
    ) -> None:
        self.runs, self.lags, self.batch_size, self.seed = list(runs), lags, batch_size, seed
        lookup = torch.zeros(max(elements) + 1, dtype=torch.long)
        for index, number in enumerate(elements):
            lookup[number] = index + 1
        self._species = [lookup[run.numbers] for run in runs]
        for run in runs:
            if run.duration <= lags[0]:
                raise DataError(
                    f"a run of {run.smiles} at {run.temperature_K:g} K is {run.duration:g} fs "
                    f"long, no more than the shortest lag of {lags[0]:g} fs"
                )
        frames = np.array([run.positions.shape[0] * run.positions.shape[1] for run in runs])
        self._shares = frames / frames.sum()

    def draw(self, step: int) -> Pairs:
        """Pairs of one step."""
        rng = np.random.default_rng((self.seed, step))
        size = min(GROUP, self.batch_size) if len(self.runs) > 1 else self.batch_size
        chosen = rng.choice(len(self.runs), self.batch_size // size, p=self._shares)
        largest = max(len(self.runs[run].numbers) for run in chosen)
        parts = [self._draw(int(run), size, largest, rng) for run in chosen]
        columns = zip(*parts, strict=True)
        species, start, end, lags, temperatures = (torch.cat(column) for column in columns)
        return Pairs(species, start, end, lags, temperatures)

    def _draw(
        self, index: int, count: int, largest: int, rng: np.random.Generator
    ) -> tuple[Tensor, ...]:
        run, species = self.runs[index], self._species[index]
        replicas, frames, atoms = run.positions.shape[:3]
        low, high = (math.log(lag / run.interval) for lag in self.lags)
        high = min(high, math.log(frames - 1))
        steps = np.rint(np.exp(rng.uniform(low, high, count))).astype(int).clip(1, frames - 1)
        begin = (rng.uniform(size=count) * (frames - steps)).astype(int)
        replica = rng.integers(replicas, size=count)
        start = run.positions[replica, begin].double().numpy()
        end = run.positions[replica, begin + steps].double().numpy()
        start, end = laid(start, end, run.masses.double().numpy())
        pad = (0, 0, 0, largest - atoms)
        return (
            torch.nn.functional.pad(species, (0, largest - atoms)).expand(count, -1),
            torch.nn.functional.pad(torch.from_numpy(start).float(), pad),
            torch.nn.functional.pad(torch.from_numpy(end).float(), pad),
            torch.from_numpy(steps * run.interval).float(),
            torch.full((count,), run.temperature_K),
        )


def laid(start: np.ndarray, end: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Structures ``[B, N, 3]`` about their centroids, the later ones turned onto the earlier.

    The rotation is about the centres of mass, weighted by the masses ``[N]``, and never a
    reflection.
    """
    weights = masses / masses.sum()
    start = start - np.einsum("n,bnx->bx", weights, start)[:, None]
    end = end - np.einsum("n,bnx->bx", weights, end)[:, None]
    rotations, _ = superposing_rotations(end, start, weights)
    end = end @ rotations
    return start - start.mean(1, keepdims=True), end - end.mean(1, keepdims=True)
