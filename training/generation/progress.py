"""What a generation shows while it runs and reports at its end."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from ase_atom.cluster.jobs import console
from training.data.molecules import Molecule
from training.data.store import fingerprint
from training.generation.campaign import Outcome
from training.generation.contents import CONTENTS, add_times, summary, write_contents

FAILED = 1


def conclude(outcome: Outcome) -> int:
    """Print the files and their fingerprints, and what failed; return the exit code."""
    if outcome.stopped is not None:
        return _stopped(outcome)
    for path in outcome.merged:
        console.print(f"{path}\n  fingerprint {fingerprint(path)}", markup=False)
    return _failures(outcome)


def conclude_collection(
    folder: Path, molecules: Sequence[Molecule], outcome: Outcome, refused: Mapping[str, str]
) -> int:
    """Write the table of contents, print totals and what failed; return the exit code."""
    times = add_times(folder, outcome)
    if outcome.stopped is not None:
        return _stopped(outcome)
    rows = write_contents(folder, molecules, outcome, refused, times)
    console.print(f"{folder / CONTENTS}: {summary(rows)}", markup=False)
    list_refused(refused)
    return FAILED if _failures(outcome) or refused else 0


def list_refused(refused: Mapping[str, str]) -> None:
    """Print the compounds that cannot be simulated, each with its reason."""
    for name, reason in refused.items():
        console.print(f"refused: {name}: {reason}", markup=False)


def _stopped(outcome: Outcome) -> int:
    which = signal.Signals(outcome.stopped).name
    console.print(
        f"stopped by {which} after {len(outcome.finished)} bursts; the same command goes on"
    )
    return 128 + outcome.stopped


def _failures(outcome: Outcome) -> int:
    by_reason: dict[str, list[str]] = {}
    for key, reason in sorted(outcome.failed.items()):
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in by_reason.items():
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        console.print(f"failed: {', '.join(keys[:3])}{more}: {reason}", markup=False)
    for path, reason in outcome.unmerged.items():
        console.print(f"not merged: {path}: {reason}; its bursts are kept", markup=False)
    return FAILED if outcome.failed or outcome.unmerged else 0
