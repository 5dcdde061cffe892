"""``--log``: energies and temperatures of a run as a table, and what the run was as a record."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from ase_atom.cli.batch import Batch
from ase_atom.errors import TrajectoryError
from ase_atom.files import replace_text
from ase_atom.io.guard import check_file
from ase_atom.io.output import check_no_special, lock_output
from ase_atom.propagation import Ensemble, Frames
from ase_atom.propagation.leaps import LastLeap

COLUMNS = (
    "trajectory",
    "time_fs",
    "potential_eV",
    "kinetic_eV",
    "total_eV",
    "temperature_K",
)
OF_DIVIDED = ("expected_error", "stride_fs")
"""More columns of divided strides: of the jump that a frame lies on; 0 fs where forces moved it."""
OF_WATCHED = ("expected_error",)
"""One more column of other jumps: of one that begins there, at frames that were looked at."""
OF_LEAPS = ("raw_potential_eV", "redrawn")
"""More columns of leaps: energy of the sample before it settled, and samples not kept before it."""

_PACKAGES = ("ase-atom", "ase", "numpy", "torch")


class EnergyLog:
    """A CSV file with a row for each good frame of each replica; also a context manager.

    Parameters
    ----------
    path
        The file.
    names
        What each replica is called in the first column: its trajectory.
    ensemble
        Counts the degrees of freedom of the temperature.
    overwrite
        Replace a file that exists.
    leaps
        Whether frames are leaps, which have the columns `OF_LEAPS`.
    divided
        Whether strides are divided where jumps err, which have the columns `OF_DIVIDED`.
    watched
        Whether some frames have an expected error, which have the column `OF_WATCHED`.
    size
        Bytes of a log to go on with; rows behind are cut off. None begins a new one.

    Raises
    ------
    TrajectoryError
        If the file exists and is not to be replaced, cannot be written, or is shorter than what
        is to go on.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        ensemble: Ensemble,
        overwrite: bool = False,
        size: int | None = None,
        leaps: bool = False,
        divided: bool = False,
        watched: bool = False,
    ) -> None:
        self.path, self._names, self._ensemble = path, names, ensemble
        self._leaps, self._divided, self._watched = leaps, divided, watched
        columns = COLUMNS + OF_LEAPS * leaps + OF_DIVIDED * divided + OF_WATCHED * watched
        if size is not None:
            check_file(path, "log")
        try:
            self._file = lock_output(path, new=size is None and not overwrite)
        except OSError as error:
            raise TrajectoryError(f"cannot write {path}: {error.strerror or error}") from error
        self.size = 0
        if size is None:
            self._file.truncate(0)
            self._put([columns])
            return
        head = ",".join(columns).encode()
        wrong = None
        if path.stat().st_size < size:
            wrong = "is shorter than the run had left it"
        elif size <= len(head) or self._file.read(len(head)) != head:
            wrong = "is no log of a run"
        if wrong is not None:
            self._file.close()
            raise TrajectoryError(f"{path} {wrong}: it cannot go on")
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def write(self, frames: Frames, energies: Tensor | None, last: LastLeap | None = None) -> None:
        """Write the rows of some frames.

        Parameters
        ----------
        frames
            Of all replicas.
        energies
            Potential energies in eV, ``[B, T]``, or None where the operator knows none.
        last
            The leaps that led to the last of the frames.
        """
        flat = frames.flat()
        shape = frames.valid.shape
        kinetic = flat.kinetic_energy().view(shape).tolist()
        kelvin = self._ensemble.temperature(flat).view(shape).tolist()
        potential = None if energies is None else energies.tolist()
        valid, times = frames.valid.tolist(), frames.times.tolist()
        rows = []
        for frame, time in enumerate(times):
            for replica, name in enumerate(self._names):
                if valid[replica][frame]:
                    moving = kinetic[replica][frame]
                    energy = None if potential is None else potential[replica][frame]
                    rows.append(
                        (
                            name,
                            f"{time:.10g}",
                            "" if energy is None else f"{energy:.6f}",
                            f"{moving:.6f}",
                            "" if energy is None else f"{energy + moving:.6f}",
                            f"{kelvin[replica][frame]:.3f}",
                            *self._of_leap(last if frame == len(times) - 1 else None, replica),
                            *self._of_jump(frames, replica, frame),
                        )
                    )
        self._put(rows)

    def _of_leap(self, last: LastLeap | None, replica: int) -> tuple[str, ...]:
        if not self._leaps:
            return ()
        if last is None:
            return "", ""
        raw = float(last.raw[replica])
        return "" if math.isnan(raw) else f"{raw:.6f}", str(int(last.redrawn[replica]))

    def _of_jump(self, frames: Frames, replica: int, frame: int) -> tuple[str, ...]:
        if not (self._divided or self._watched):
            return ()
        error = math.nan if frames.expected is None else float(frames.expected[replica, frame])
        told = "" if math.isnan(error) else f"{error:.4g}"
        if self._watched:
            return (told,)
        if frames.strides is None:  # the first frame lies on no jump
            return told, ""
        return told, f"{frames.strides[replica, frame]:g}"

    def _put(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        rest = memoryview(text.getvalue().encode())
        try:
            while rest:
                written = self._file.write(rest) or 0
                self.size += written
                rest = rest[written:]
        except OSError as error:
            raise TrajectoryError(f"cannot write {self.path}: {error.strerror or error}") from error

    def __enter__(self) -> EnergyLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def record_file(log: Path) -> Path:
    """Return where the record lies: beside the log, as JSON.

    Raises
    ------
    TrajectoryError
        If the log is a folder or a device, which may have no name.
    """
    check_no_special(log)
    return log.with_suffix(".json")


def write_record(path: Path, batch: Batch, state: str, code: int | None = None) -> None:
    """Write `record_of` a run, in place of the record there."""
    record = record_of(batch, state, code)
    replace_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def record_of(batch: Batch, state: str, code: int | None = None) -> dict[str, Any]:
    """Return what a run is and came to, as plain values.

    Parameters
    ----------
    batch
        The run.
    state
        ``running``, ``done``, ``broken`` or ``interrupted``.
    code
        Exit code of a run that has ended.
    """
    operator, request, summary = batch.plan.operator, batch.request, batch.summary
    return {
        "state": state,
        "exit_code": code,
        "command": shlex.join(["ase-atom", *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), **_versions()},
        "operator": {
            "name": batch.plan.name,
            "fingerprint": operator.fingerprint,
            "engine": operator.engine,
            "timestep_fs": request.timestep,
        },
        "seed": request.seed,
        "threads": request.threads,
        "ensemble": repr(batch.plan.ensemble),
        "stride_fs": batch.plan.stride,
        "frame_interval_fs": batch.plan.interval,
        "time_fs": summary.last_time,
        "frames": summary.frames,
        "trajectories": [str(row.file) for row in batch.rows],
        "molecules": [
            {
                "name": batch.rows[one.rows[0]].molecule.name,
                "replicas": len(one.rows),
                "degrees_of_freedom": one.degrees_of_freedom,
                "temperature_K": _estimate(one.temperature),
                "parts_K": {name: _estimate(part) for name, part in one.parts.items()},
                "expected_error": _course(batch, one.rows),
            }
            for one in summary.molecules
        ],
        "strides": None
        if batch.propagator.adaptive is None
        else batch.propagator.adaptive.record(),
        "leaps": None if batch.tally is None else batch.tally.state_dict(),
        "not_simulated": list(batch.left_out.values()),
        "broken": [str(error) for error in (*batch.lost_before, *batch.propagator.broken)],
    }


def _course(batch: Batch, rows: Sequence[int]) -> dict[str, Any] | None:
    """Expected errors along the run, by its parts; None where nobody looked."""
    found = None if batch.watch is None else batch.watch.course(rows)
    if found is None:
        return None
    parts = [{"from_fs": begin, "to_fs": end, "error": error} for begin, end, error in found.parts]
    return {"looks": found.looks, "error": found.error, "parts": parts}


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def _estimate(found: Any) -> dict[str, float | None]:
    known = {"mean": found.value, "error": found.error}
    return {name: value if value == value else None for name, value in known.items()}
