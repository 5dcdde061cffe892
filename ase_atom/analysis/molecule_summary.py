"""What a run amounted to for one molecule: temperatures, their errors, and the furthest bond."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from ase_atom.analysis.inputs.trajectory import Segment
from ase_atom.analysis.measures.motion import part_temperatures, split_motion
from ase_atom.analysis.statistics import Blocks, Estimate, mean_of_blocks
from ase_atom.propagation import Ensemble, Frames, Thermostat

ERRORS_APART = 3.0
"""Errors by which temperatures of vibration, rotation and translation may differ by chance."""

TOLERANCE = 0.05
"""Part of the thermostat's temperature that a mean may be off, for the operator's error."""

CHANCE = 5.7e-7
"""Probability of five standard errors: how seldom a sound run is called off its temperature."""


@dataclass(frozen=True)
class BondDeviation:
    """The bond that strayed furthest from its length in the structure.

    Parameters
    ----------
    atoms
        Indices of the two atoms.
    start, length
        Length in the structure and at the furthest, in Å.
    time
        When, in fs.
    replica
        In which molecule of the batch.
    """

    atoms: tuple[int, int]
    start: float
    length: float
    time: float
    replica: int

    @property
    def size(self) -> float:
        """How far it strayed, in Å."""
        return abs(self.length - self.start)


@dataclass(frozen=True)
class Departure:
    """A mean temperature that is not the thermostat's.

    Parameters
    ----------
    temperature
        The mean, K.
    target
        The thermostat's, K.
    errors
        Standard errors between them; those of a hot run are taken down to the thermostat's
        temperature, in proportion.
    """

    temperature: Estimate
    target: float
    errors: float


@dataclass
class MoleculeSummary:
    """Running totals over the replicas of one molecule.

    Attributes
    ----------
    rows
        Its replicas' places in the batch.
    degrees_of_freedom
        N_f.
    time
        Time that is covered by the temperatures, over all replicas, fs.
    settling
        Time at the start, fs, that the temperatures leave out.
    ensemble
        Of the run.
    largest
        The furthest bond, or None for molecules without bonds or before any frame.
    """

    rows: list[int]
    degrees_of_freedom: int
    masses: np.ndarray
    turning: int
    settling: float
    ensemble: Ensemble
    time: float = 0.0
    largest: BondDeviation | None = None
    _overall: list[Blocks] = field(default_factory=list)
    _parts: dict[str, list[Blocks]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        atoms = len(self.masses)
        freedom = {
            "vibration": 3 * atoms - 3 - self.turning,
            "rotation": self.turning,
            "translation": self.degrees_of_freedom - (3 * atoms - 3),
        }
        self._freedom = {name: count for name, count in freedom.items() if count > 0}
        self._overall = [Blocks() for _ in self.rows]
        self._parts = {name: [Blocks() for _ in self.rows] for name in self._freedom}

    @property
    def samples(self) -> float:
        """Independent samples of the kinetic energy, at the most, in a sound thermostatted run.

        Over a time t, t/τ with the thermostat's relaxation time τ, and one at the least for each
        replica.
        """
        replicas, frames = (sum(kind(run.count) for run in self._overall) for kind in (bool, int))
        if not isinstance(self.ensemble, Thermostat):
            return frames
        return min(frames, max(replicas, self.time / self.ensemble.relaxation_time))

    @property
    def temperature(self) -> Estimate:
        """Mean kinetic temperature over good frames after the first, in K; NaN before any.

        Its standard error is corrected for autocorrelation: from the scatter of blocks, and no
        less than that of so many `samples`, of which a short run's own scatter knows too little.
        """
        return self._mean(self._overall, self.degrees_of_freedom)

    @property
    def parts(self) -> dict[str, Estimate]:
        """Mean temperatures of vibration, rotation and, if it counts, translation, in K."""
        return {name: self._mean(runs, self._freedom[name]) for name, runs in self._parts.items()}

    @property
    def parts_differ(self) -> bool:
        """Whether two of the parts' temperatures are further apart than `ERRORS_APART`."""
        return any(
            abs(one.value - other.value) > ERRORS_APART * math.hypot(one.error, other.error)
            for one, other in combinations(self.parts.values(), 2)
        )

    def _mean(self, runs: Sequence[Blocks], freedom: int) -> Estimate:
        found = mean_of_blocks(runs)
        least = found.value * math.sqrt(2 / (freedom * self.samples)) if self.samples else math.nan
        return replace(found, error=max(found.error, least))

    def state_dict(self) -> dict[str, Any]:
        """Return the totals: numbers and arrays, in nested dictionaries."""
        runs = {"overall": self._overall, **self._parts}
        return {
            "time": self.time,
            "largest": None if self.largest is None else asdict(self.largest),
            "runs": {
                name: {str(row): run.state_dict() for row, run in enumerate(blocks)}
                for name, blocks in runs.items()
            },
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on with another summary's totals."""
        self.time = saved["time"]
        if saved["largest"] is not None:
            atoms = tuple(saved["largest"]["atoms"])
            self.largest = BondDeviation(**{**saved["largest"], "atoms": atoms})
        for name, blocks in {"overall": self._overall, **self._parts}.items():
            for row, run in enumerate(blocks):
                run.load_state_dict(saved["runs"][name][str(row)])

    def add(self, frames: Frames, overall: np.ndarray, later: np.ndarray, step: float) -> None:
        """Take in frames ``[B, T]`` of all molecules, those that are ``later`` than the start."""
        size = len(self.masses)
        chosen = later[self.rows]
        positions, velocities = (
            values[self.rows][:, :, :size].double().cpu().numpy()[chosen]
            for values in (frames.positions, frames.velocities)
        )
        self.time += step * int(chosen.sum())
        if not len(positions):
            return
        motion = split_motion(Segment(positions, velocities), self.masses, self.turning)
        parts = dict(
            zip(
                ("translation", "rotation", "vibration"),
                part_temperatures(motion, self.masses),
                strict=True,
            )
        )
        ends = np.cumsum(chosen.sum(1))[:-1]
        _share(self._overall, overall[self.rows][chosen], ends)
        for name, runs in self._parts.items():
            _share(runs, parts[name], ends)

    @property
    def departure(self) -> Departure | None:
        """How the mean temperature is off the thermostat's, if by more than chance explains.

        By more than `TOLERANCE`, by more than five standard errors, and by more than a sound run's
        can be: its mean kinetic energy follows a chi-square of N_f times `samples` degrees of
        freedom.
        """
        if not isinstance(self.ensemble, Thermostat):
            return None
        from scipy.special import chdtr, chdtrc

        found, target = self.temperature, self.ensemble.temperature_K
        if not math.isfinite(found.error) or abs(found.value - target) <= TOLERANCE * target:
            return None
        # An error grows with the temperature: a hot run's own would hide how far off it is.
        errors = abs(found.value - target) / (found.error * min(1.0, target / found.value))
        freedom = self.degrees_of_freedom * self.samples
        tail = chdtrc if found.value > target else chdtr
        if errors <= 5.0 or 2 * tail(freedom, freedom * found.value / target) > CHANCE:
            return None
        return Departure(found, target, errors)


def _share(runs: list[Blocks], values: np.ndarray, ends: np.ndarray) -> None:
    """Hand out values of consecutive frames, replica by replica."""
    for run, part in zip(runs, np.split(values, ends), strict=True):
        run.add(part)
