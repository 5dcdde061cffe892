"""Two trajectories of one molecule, ready to be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line, Tolerances
from ase_atom.analysis.molecule.coordinates import Coordinates
from ase_atom.analysis.statistics import (
    LEAST_BLOCKS,
    Estimate,
    correlated_mean,
    paired_difference,
    width,
)

_SAME_PLACE = 2e-3  # Å; text and compressed formats round
_SAME_SPEED = 2e-2  # relative


Side = TypeVar("Side")
Measured = TypeVar("Measured")


def of_both(
    measure: Callable[[Side], Measured], sides: tuple[Side, Side]
) -> tuple[Measured, Measured]:
    """Return what a function makes of either side."""
    return measure(sides[0]), measure(sides[1])


@dataclass(frozen=True)
class Pair:
    """What every section of a comparison is given.

    Attributes
    ----------
    trajectory, reference
        Atoms in one order.
    coordinates
        Of the reference.
    tolerances
        For the verdicts.
    random
        For the bootstrap.
    temperature
        Of the reference, K, for free energies and equipartition.
    common_starts
        Whether run ``i`` of both starts from one state.
    """

    trajectory: Trajectory
    reference: Trajectory
    coordinates: Coordinates
    tolerances: Tolerances
    random: np.random.Generator
    temperature: float
    common_starts: bool

    @property
    def sides(self) -> tuple[Trajectory, Trajectory]:
        """The trajectory and the reference."""
        return self.trajectory, self.reference

    @property
    def paired(self) -> bool:
        """Whether differences are taken run by run: common starts, and enough of them."""
        return self.common_starts and len(self.reference.segments) >= LEAST_BLOCKS

    def mean_line(
        self,
        group: tuple[str, str],
        name: str,
        unit: str,
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
        tolerance: float,
        kind: str = "difference",
        note: str = "",
    ) -> Line:
        """Return a line on the means of two series; ``group`` is section and group."""
        sides = [correlated_mean(side) for side in (ours, theirs)]
        paired = None
        if self.paired:
            paired = paired_difference(ours, theirs)
            if kind == "ratio":
                paired = paired.scaled(1 / sides[1].value)
        return Line(*group, name, unit, *sides, tolerance, kind, note, paired)

    def width_line(
        self,
        group: tuple[str, str],
        name: str,
        unit: str,
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
        tolerance: float,
    ) -> Line:
        """Return a line on the ratio of two standard deviations, of ``[T]`` or ``[T, P]``."""
        sides = [width(side) for side in (ours, theirs)]
        paired = None
        if self.paired and sides[1].value > 0:
            squares = []
            for side in (ours, theirs):
                mean = np.concatenate([run.ravel() for run in side]).mean()
                squares.append([((run - mean) ** 2).mean() for run in side])
            paired = paired_difference(*squares).scaled(0.5 / sides[1].value ** 2)
        return Line(*group, name, unit, *sides, tolerance, "ratio", "", paired)

    def own(
        self,
        section: str,
        group: str,
        name: str,
        unit: str,
        value: Estimate,
        tolerance: float,
        note: str = "",
    ) -> Line:
        """Return a line on a deviation of the trajectory by itself."""
        return Line(section, group, name, unit, value, None, tolerance, "alone", note)


def have_common_starts(trajectory: Trajectory, reference: Trajectory) -> bool:
    """Whether every run of one starts from the same state as that of the other.

    Rotation and translation as a whole are not looked at; velocities are where both have them.
    """
    if len(trajectory.segments) != len(reference.segments):
        return False
    for ours, theirs in zip(trajectory.segments, reference.segments, strict=True):
        target = theirs.positions[0]
        first = ours[:1].aligned(target)
        if np.abs(first.positions[0] - target).max() > _SAME_PLACE:
            return False
        if first.velocities is not None and theirs.velocities is not None:
            # Without the velocity of the whole, which some programs take away.
            there = theirs.velocities[0] - theirs.velocities[0].mean(0)
            here = first.velocities[0] - first.velocities[0].mean(0)
            if np.abs(here - there).max() > _SAME_SPEED * max(np.abs(there).max(), 1e-12):
                return False
    return True
