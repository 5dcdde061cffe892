"""The batch of a run: what marches, and all that must be known to go on with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ase_atom.analysis.summary import RunSummary
from ase_atom.cli.report import Losses, Row
from ase_atom.cli.request import RunRequest
from ase_atom.cli.start import Plan
from ase_atom.errors import BrokenStateError
from ase_atom.propagation import Propagator
from ase_atom.propagation.depth import DepthWatch
from ase_atom.propagation.leaps import LeapTally
from ase_atom.state import PhaseState


@dataclass
class Batch:
    """Molecules that march together, each with its file.

    Parameters
    ----------
    request
        The command's options.
    plan
        How the molecules move.
    rows
        Replicas of molecules, in the order of the batch.
    structures
        As in their files, ``[B, N]``.
    equilibrated
        Whether the run starts in equilibrium.
    propagator
        Moves them.
    summary
        Of the frames so far.
    left_out
        Name of each structure that is not simulated, by its place in the command.
    lost_before
        Errors of replicas that broke before the first frame.
    done
        Frames that each file has been given, if the run goes on; None where it begins.
    log_size
        Likewise the length of the log in bytes.
    watch
        Looks at the expected error of jumps as the run goes on, or None where that is not known or
        each jump's is.
    """

    request: RunRequest
    plan: Plan
    rows: list[Row]
    structures: PhaseState
    equilibrated: bool
    propagator: Propagator
    summary: RunSummary
    left_out: dict[int, str]
    lost_before: list[BrokenStateError] = field(default_factory=list)
    done: Sequence[int] | None = None
    log_size: int | None = None
    watch: DepthWatch | None = None

    @property
    def tally(self) -> LeapTally | None:
        """What leaps came to, or None of jumps."""
        leaping = self.propagator.leaping
        return None if leaping is None else leaping.tally

    @property
    def losses(self) -> Losses:
        """What could not be done."""
        return Losses(self.left_out, self.propagator.broken)


def summary_of(
    rows: Sequence[Row], structures: PhaseState, plan: Plan, equilibrated: bool
) -> RunSummary:
    """Return an empty summary of some rows, those of one molecule together."""
    places = [row.molecule.place for row in rows]
    together = [
        [row for row, other in enumerate(places) if other == one] for one in dict.fromkeys(places)
    ]
    duration = None if equilibrated else plan.duration
    return RunSummary(structures, plan.ensemble, together, duration=duration)
