"""Errors of jumps beside what their round trips miss, on windows of reference dynamics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from scipy.stats import spearmanr

from ase_atom.errors import DataError
from ase_atom.molecules.topology import canonical
from ase_atom.operator import OperatorCard, OperatorLike, load_operator, save_operator
from ase_atom.operator.trust import FEATURES, Calibration, round_trip
from ase_atom.state import PhaseState
from training.data.frames import FrameData
from training.data.store import Burst

STRIDES = (4.0, 8.0, 16.0, 32.0, 64.0)
"""fs, at which operators are calibrated."""

STARTS = 8
"""In each held-out burst of a fine-tuning."""

UNKNOWN = 10
"""Molecules that an operator was not trained on, from which the bound is taken from them alone."""

LEAST = 20
"""Windows from which a calibration says something."""

_LEAST = 1e-6


@dataclass(frozen=True)
class Windows:
    """Jumps whose errors are known; W of them.

    Attributes
    ----------
    molecules
        SMILES of each window's molecule, ``[W]``.
    strides
        fs, ``[W]``.
    errors
        RMS position error over RMS displacement, ``[W]``.
    features
        Of `ase_atom.operator.trust.round_trip`, ``[W, 4]``.
    """

    molecules: NDArray
    strides: NDArray
    errors: NDArray
    features: NDArray

    def __len__(self) -> int:
        return len(self.errors)

    def take(self, rows: NDArray) -> Windows:
        """Some of the windows, by numbers or a mask."""
        return Windows(
            self.molecules[rows], self.strides[rows], self.errors[rows], self.features[rows]
        )

    def of(self, molecules: Iterable[str]) -> Windows:
        """Those of some molecules."""
        return self.take(np.isin(self.molecules, list(molecules)))


def measure(
    operator: OperatorLike, bursts: Sequence[Burst], strides: Sequence[float], starts: int
) -> Windows:
    """Jump from evenly spread frames of reference bursts, at every stride.

    Windows that end in no number, or beyond a hundred times the displacement, are left out: no
    estimate is asked of what has visibly come apart.

    Raises
    ------
    DataError
        If a stride is no multiple of the frame interval, or longer than the shortest burst.
    """
    by_molecule: dict[str, list[Burst]] = {}
    for burst in bursts:
        by_molecule.setdefault(burst.smiles, []).append(burst)
    parts = []
    for smiles, own in by_molecule.items():
        data = FrameData.from_bursts(own)
        steps = [data.frames_of(stride, "the stride") for stride in strides]
        rows = torch.cat(data.starts(max(steps), starts))
        burst = data.burst[rows]
        state = PhaseState(
            data.numbers[burst],
            data.masses[burst],
            data.positions[rows],
            data.velocities[rows],
            data.charge[burst],
        )
        for stride, step in zip(strides, steps, strict=True):
            found = round_trip(operator, state, stride)
            reference = data.positions[rows + step].double()
            missed = (found.end.positions.double() - reference).square().sum((1, 2))
            went = (reference - state.positions.double()).square().sum((1, 2))
            errors = (missed / went).sqrt().numpy()
            features = found.features.numpy()
            kept = (errors < 100) & np.isfinite(features).all(1)
            parts.append(
                Windows(
                    np.full(int(kept.sum()), smiles),
                    np.full(int(kept.sum()), stride),
                    errors[kept],
                    features[kept],
                )
            )
    if not parts or not any(len(part) for part in parts):
        raise DataError("there is no window to calibrate on: give reference bursts")
    return joined(parts)


def joined(parts: Sequence[Windows]) -> Windows:
    """Several sets of windows as one."""
    return Windows(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("molecules", "strides", "errors", "features")
        )
    )


def fit(windows: Windows, trained: Iterable[str], command: str = "") -> Calibration:
    """Fit a calibration by least squares of logarithms, with no weight below zero.

    Each molecule counts as much as any other. The margin is the ninetieth percentile of error over
    estimate of molecules left out in turn, a fifth of them at a time: of those that the operator
    was not trained on, if there are at least `UNKNOWN`, since trained ones err less than expected.

    Parameters
    ----------
    windows
        To fit.
    trained
        Which of their molecules the operator has learned from; of all where it is none of them.
    command
        For the record.
    """
    names = np.array(sorted(set(windows.molecules)))
    folds = np.arange(len(names)) % 5
    fold_of = folds[np.searchsorted(names, windows.molecules)]
    if len(names) < 5:  # windows of one molecule, or few
        fold_of = np.arange(len(windows)) % 5
    left_out = np.empty(len(windows))
    for fold in range(5):
        away = fold_of == fold
        offset, weights = _line(windows.take(~away))
        left_out[away] = windows.errors[away] / _apply(offset, weights, windows.features[away])
    offset, weights = _line(windows)
    is_known = np.isin(windows.molecules, list(trained))
    known = windows.take(is_known) if is_known.any() else windows
    judges = ~is_known if len(set(windows.molecules[~is_known])) >= UNKNOWN else is_known | True
    margin = float(_quantile(left_out[judges], _weights(windows)[judges], 0.9))
    strides = sorted(set(windows.strides.tolist()))
    return Calibration(
        offset=round(offset, 4),
        weights=tuple(round(float(weight), 4) for weight in weights),
        margin=round(max(1.0, margin), 3),
        strides_fs=strides,
        trained=[_range(known.take(known.strides == one), offset, weights) for one in strides],
        windows=len(windows),
        molecules=len(names),
        command=command,
    )


def _line(windows: Windows) -> tuple[float, NDArray]:
    """Offset and weights."""
    logs = np.log(windows.features.clip(_LEAST))
    design = np.concatenate([np.ones((len(logs), 1)), logs], axis=1)
    scale = np.sqrt(_weights(windows))
    lower = [-np.inf] + [0.0] * len(FEATURES)
    solution = lsq_linear(
        design * scale[:, None],
        np.log(windows.errors.clip(_LEAST)) * scale,
        bounds=(lower, np.inf),
    )
    return float(solution.x[0]), solution.x[1:]


def _apply(offset: float, weights: NDArray, features: NDArray) -> NDArray:
    return np.exp(offset + np.log(features.clip(_LEAST)) @ weights)


def _weights(windows: Windows) -> NDArray:
    """One molecule counts as much as another, ``[W]``."""
    _, place, counts = np.unique(windows.molecules, return_inverse=True, return_counts=True)
    return 1.0 / counts[place]


def _quantile(values: NDArray, weights: NDArray, part: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, part)])


def _range(windows: Windows, offset: float, weights: NDArray) -> tuple[float, float]:
    """From the tenth to the ninetieth percentile of molecules' estimates, or of one's windows."""
    found = _apply(offset, weights, windows.features)
    names = sorted(set(windows.molecules))
    if len(names) > 1:
        found = np.array([np.sqrt(np.mean(found[windows.molecules == n] ** 2)) for n in names])
    low, high = np.percentile(found, [10, 90])
    return round(float(low), 4), round(float(high), 4)


def rank(x: NDArray, y: NDArray) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(x, y).statistic)


def estimates(calibration: Calibration, windows: Windows) -> NDArray:
    """Expected errors of windows, ``[W]``."""
    return calibration.error(torch.from_numpy(windows.features)).numpy()


def known_to(card: OperatorCard, molecules: NDArray) -> list[str]:
    """Which molecules an operator was trained on."""
    trained = {canonical(smiles) for smiles in card.smiles}
    return [smiles for smiles in sorted(set(molecules.tolist())) if canonical(smiles) in trained]


def calibrate_file(path: Path, bursts: Sequence[Burst], command: str) -> Calibration | None:
    """Calibrate an operator on bursts that it was not trained on, and put that onto its card.

    Parameters
    ----------
    path
        The operator's file, which is replaced.
    bursts
        Held out.
    command
        For the record.

    Returns
    -------
    The calibration; None where there are fewer than `LEAST` windows, or they are shorter than the
    shortest stride.
    """
    operator = load_operator(path)
    longest = min((len(burst.energies) - 1) * burst.interval for burst in bursts)
    strides = [each for each in STRIDES if each <= min(operator.horizon, 0.5 * longest)]
    if not strides:
        return None
    windows = measure(operator, bursts, strides, STARTS)
    if len(windows) < LEAST:
        return None
    assert operator.card is not None
    found = fit(windows, known_to(operator.card, windows.molecules), command)
    operator.card = operator.card.model_copy(update={"calibration": found})
    save_operator(operator, path)
    return found
