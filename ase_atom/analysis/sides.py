"""The two sides of a comparison: read, or run by an operator, and checked beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ase_atom.analysis.inputs.checks import check_alone, check_pair, with_masses_noted
from ase_atom.analysis.inputs.sources import load_trajectory
from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.inputs.velocities import with_velocities
from ase_atom.analysis.options import Options
from ase_atom.errors import ConfigError, DataError
from ase_atom.units import format_charge

if TYPE_CHECKING:
    from ase_atom.analysis.rollout import OperatorRun


@dataclass(frozen=True)
class Sides:
    """Two trajectories of one molecule.

    Attributes
    ----------
    trajectory, reference
        With velocities where these can be had.
    lacks
        Why there are none, for either side without.
    mixed
        A sentence about atoms that are mixed up; empty if they are not.
    run
        The operator's run, if there is one.
    beside
        Whether that run stands beside a trajectory of its own, in place of being the trajectory.
    """

    trajectory: Trajectory
    reference: Trajectory
    lacks: list[str]
    mixed: str
    run: OperatorRun | None
    beside: bool

    def noting_run(self) -> Sides:
        """Return the same with what is to be said of the operator's run on the reference."""
        if self.run is None:
            return self
        from ase_atom.analysis.rollout import with_notes_of_run

        return replace(self, reference=with_notes_of_run(self.reference, self.run))


def load_sides(
    trajectory: str | Path | Trajectory | None, reference: str | Path | Trajectory, options: Options
) -> Sides:
    """Read both sides, run the operator, and check that they are of one molecule.

    Raises
    ------
    AtomError
        For anything that cannot be compared, saying why.
    """
    if options.operator is None and trajectory is None:
        raise ConfigError("there is nothing to compare: name a trajectory or an operator")
    theirs = _load(reference, options, options.reference_interval)
    run: OperatorRun | None = None
    if options.operator is not None:
        # Torch takes seconds to import.
        from ase_atom.analysis.rollout import run_operator

        settings = {"seed": options.seed} | (options.rollout or {})
        run = run_operator(options.operator, theirs, options.starts, settings)
    if trajectory is not None:
        ours, theirs = _of_one_charge(_load(trajectory, options, options.frame_interval), theirs)
    else:
        assert run is not None  # there is one of both
        theirs, ours = run.reference, run.trajectory
        check_alone(ours)
    _check_choice((ours, theirs), options)
    ours, mixed = check_pair(ours, theirs, options.reorder)
    (ours, lack), (theirs, other_lack) = (with_velocities(side) for side in (ours, theirs))
    return Sides(
        with_masses_noted(_with_intervals_noted(ours, theirs), theirs),
        theirs,
        [reason for reason in (lack, other_lack) if reason],
        mixed,
        run,
        run is not None and trajectory is not None,
    )


def _load(
    given: str | Path | Trajectory, options: Options, frame_interval: float | None
) -> Trajectory:
    if not isinstance(given, Trajectory):
        given = load_trajectory(
            given,
            options.topology,
            frame_interval=frame_interval,
            molecule=options.molecule,
            temperature=options.temperature,
            charge=options.charge,
        )
    given = given.discarding(options.discard)
    check_alone(given)
    return given


def _of_one_charge(ours: Trajectory, theirs: Trajectory) -> tuple[Trajectory, Trajectory]:
    """Give a side that does not state its charge that of the other.

    Raises
    ------
    DataError
        If they state different ones.
    """
    charges = [c for c in (ours.stated_charge, theirs.stated_charge) if c is not None]
    if len(set(charges)) > 1:
        raise DataError(
            f"{ours.name} and {theirs.name} are of different molecules: their charges are "
            f"{format_charge(charges)}"
        )
    known = charges[0] if charges else None
    return replace(ours, stated_charge=known), replace(theirs, stated_charge=known)


def _check_choice(sides: Sequence[Trajectory], options: Options) -> None:
    """Refuse to choose among bursts where there are none."""
    if any(run.key for side in sides for run in side):
        return
    of_operator = (options.rollout or {}).get("temperature")
    temperature = options.temperature if of_operator is None else None
    for name, value in (("molecule", options.molecule), ("temperature", temperature)):
        if value is not None:
            files = " nor ".join(dict.fromkeys(side.short_name for side in sides))
            raise ConfigError(
                f"{name} {value} chooses among reference bursts, and there are none in {files}: "
                "leave it out"
            )


def _with_intervals_noted(trajectory: Trajectory, reference: Trajectory) -> Trajectory:
    """Say what becomes of frames that are not equally far apart."""
    ours, theirs = trajectory.interval, reference.interval
    if ours is None or theirs is None or abs(ours - theirs) <= 1e-3 * theirs:
        return trajectory
    return trajectory.noting(
        f"its frames are {ours:g} fs apart, those of the reference {theirs:g} fs: paths are "
        "compared at the times that both have, everything else at the frames that each has, and "
        "nothing is interpolated"
    )
