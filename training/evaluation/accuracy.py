"""How far predicted states are from the reference: by lag, element, temperature, and chained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ase_atom.errors import DataError
from ase_atom.state import PhaseState
from training.data.burst import Burst
from training.data.frames import start_frames
from training.evaluation.metrics import (
    Intervals,
    bootstrap_by_burst,
    by_element,
    relative_errors,
    squared_errors,
)
from training.evaluation.predictors import Predictor

BATCH = 256
"""States in one call."""

#: What tells one molecule with one order of atoms from another.
MoleculeKey = tuple[str, tuple[int, ...]]


def molecule_key(burst: Burst) -> MoleculeKey:
    """SMILES and atomic numbers in order."""
    return burst.smiles, tuple(int(number) for number in burst.numbers)


def group_by_molecule(bursts: Iterable[Burst]) -> dict[MoleculeKey, list[Burst]]:
    """Bursts of each molecule, in the order in which the molecules appear."""
    groups: dict[MoleculeKey, list[Burst]] = defaultdict(list)
    for burst in bursts:
        groups[molecule_key(burst)].append(burst)
    return dict(groups)


@dataclass(frozen=True)
class LagErrors:
    """Squared sums of several predictors over the same starts.

    Attributes
    ----------
    lags
        fs, ``[L]``.
    elements
        Atomic numbers, ``[E]``.
    temperatures
        Nominal temperature of each burst, K, ``[bursts]``.
    sums
        Of each predictor, ``[bursts, L, E, 4]`` as `metrics.squared_errors` orders them.
    starts
        Number of starts over all bursts.
    """

    lags: NDArray
    elements: list[int]
    temperatures: NDArray
    sums: dict[str, NDArray]
    starts: int

    def overall(self, name: str) -> Intervals:
        """Relative errors over all atoms, with an interval over bursts."""
        return bootstrap_by_burst(self.sums[name].sum(2))

    def by_element(self, name: str) -> dict[int, tuple[NDArray, NDArray]]:
        """Relative position and velocity errors of each element, by lag."""
        pooled = self.sums[name].sum(0)
        return {
            element: relative_errors(pooled[:, index])
            for index, element in enumerate(self.elements)
        }

    def by_temperature(self, name: str) -> dict[float, Intervals]:
        """Relative errors of the bursts of each nominal temperature."""
        return {
            float(kelvin): bootstrap_by_burst(self.sums[name][self.temperatures == kelvin].sum(2))
            for kelvin in np.unique(self.temperatures)
        }


def lag_errors(
    bursts: Sequence[Burst],
    predictors: Mapping[MoleculeKey, Mapping[str, Predictor]],
    lags: Sequence[float],
    starts_per_burst: int,
    advance: Callable[[int], object] | None = None,
) -> LagErrors:
    """Compare predictions with the reference over many starts in every burst.

    Parameters
    ----------
    bursts
        Reference data; each at least as long as the longest lag.
    predictors
        By molecule, then by name; every molecule has the same names.
    lags
        fs, each a multiple of every burst's frame interval.
    starts_per_burst
        Evenly spaced starts, fewer where a burst has no room for as many.
    advance
        Called with the number of starts done since the last call.

    Raises
    ------
    DataError
        If a burst is too short or a lag falls between its frames.
    """
    elements = sorted({int(number) for burst in bursts for number in burst.numbers})
    names = list(next(iter(predictors.values())))
    sums = {name: np.zeros((len(bursts), len(lags), len(elements), 4)) for name in names}
    times = torch.tensor(list(lags), dtype=torch.float64)
    total = 0
    rows_of = defaultdict(list)
    for row, burst in enumerate(bursts):
        offsets = lag_frames(burst, lags)
        for start in start_frames(len(burst.positions), int(offsets.max()), starts_per_burst):
            rows_of[molecule_key(burst)].append((row, start, start + offsets))
    for key, entries in rows_of.items():
        for chunk in chunks(entries, BATCH):
            rows = np.array([row for row, _, _ in chunk])
            state = states_of([(bursts[row], start) for row, start, _ in chunk])
            reference = tuple(
                torch.from_numpy(
                    np.stack([getattr(bursts[row], field)[frames] for row, _, frames in chunk])
                )
                for field in ("positions", "velocities")
            )
            for name in names:
                predicted = predictors[key][name](state, times)
                squares = squared_errors(state.positions, reference, predicted).numpy()
                found = by_element(squares, key[1], elements)
                np.add.at(sums[name], rows, found)
            total += len(chunk)
            if advance is not None:
                advance(len(chunk))
    temperatures = np.array([float(burst.temperature_K) for burst in bursts])
    return LagErrors(np.asarray(lags, dtype=float), elements, temperatures, sums, total)


def states_of(frames: Sequence[tuple[Burst, int]]) -> PhaseState:
    """States of single frames of bursts of one molecule, float64."""
    return PhaseState(
        torch.from_numpy(np.stack([np.asarray(b.numbers, dtype=np.int64) for b, _ in frames])),
        *(
            torch.from_numpy(np.stack(values).astype(np.float64))
            for values in (
                [burst.masses for burst, _ in frames],
                [burst.positions[index] for burst, index in frames],
                [burst.velocities[index] for burst, index in frames],
            )
        ),
        torch.tensor([burst.charge for burst, _ in frames]),
    )


def lag_frames(burst: Burst, lags: Sequence[float]) -> NDArray:
    """Number of frames in each lag.

    Raises
    ------
    DataError
        If the burst is too short or a lag is no multiple of its frame interval.
    """
    exact = np.asarray(lags, dtype=float) / burst.interval
    frames = np.rint(exact).astype(int)
    if (np.abs(exact - frames) > 1e-6).any() or (frames < 1).any():
        raise DataError(
            f"lags {list(lags)} fs must be multiples of the {burst.interval:g} fs between frames "
            f"of burst {burst.key}"
        )
    if frames.max() >= len(burst.positions):
        raise DataError(
            f"burst {burst.key} lasts {duration(burst):g} fs, less than the lag of {max(lags):g} fs"
        )
    return frames


def duration(burst: Burst) -> float:
    """Time from the first frame to the last, fs."""
    return (len(burst.positions) - 1) * burst.interval


def chain_lags(bursts: Sequence[Burst], stride: float) -> list[float]:
    """Stride times 2, 4, 8, … up to where the shortest burst ends, fs."""
    end = min(duration(burst) for burst in bursts)
    lags = []
    while stride * 2 ** (len(lags) + 1) <= end:
        lags.append(stride * 2 ** (len(lags) + 1))
    return lags


def chunks(items: list, size: int) -> Iterator[list]:
    """Pieces of a list of at most ``size``."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
