"""What a run leaves so that it can go on: its restart file, written and read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ase_atom.cli.batch import Batch
from ase_atom.cli.report import Row
from ase_atom.cli.request import EngineName, RunRequest
from ase_atom.cli.structures import Molecule
from ase_atom.errors import BrokenStateError, CheckpointError
from ase_atom.io.guard import reading
from ase_atom.operator import OperatorLike, load_operator
from ase_atom.operator.engine.choice import Engine
from ase_atom.propagation import Label
from ase_atom.propagation.propagator import described_error
from ase_atom.propagation.restart import read_restart, write_restart
from ase_atom.state import PhaseState

_STRUCTURE = ("numbers", "masses", "positions", "velocities", "charge")


def save_run(path: Path, batch: Batch, frames: list[int], log_size: int) -> None:
    """Write a run's restart file, in place of the one there.

    Parameters
    ----------
    path
        The file. It names the trajectories relative to its own folder, so that they can be moved
        together.
    batch
        The run.
    frames
        Frames that the run has given each trajectory, which may hold more of a life before.
    log_size
        Length of its log in bytes, 0 without one.

    Raises
    ------
    TrajectoryError
        If it cannot be written.
    """
    folder = Path(os.path.realpath(path)).parent
    operator = batch.plan.operator
    state = {
        "request": _plain(batch.request, folder),
        "operator": {
            "name": batch.plan.name,
            "fingerprint": operator.fingerprint,
            "engine": operator.engine,
        },
        "rows": [
            {
                "place": row.molecule.place,
                "name": row.molecule.name,
                "file": os.path.relpath(row.file, folder),
                "label": row.label.molecule,
                "atoms": list(row.label.atoms),
            }
            for row in batch.rows
        ],
        "structures": {name: getattr(batch.structures, name) for name in _STRUCTURE},
        "equilibrated": batch.equilibrated,
        "left_out": list(batch.left_out.items()),
        "lost_before": [described_error(error) for error in batch.lost_before],
        "frames": frames,
        "log_size": log_size,
        "summary": batch.summary.state_dict(),
        "watch": None if batch.watch is None else batch.watch.state_dict(),
        "propagator": batch.propagator.state_dict(),
    }
    write_restart(path, state)


def _plain(request: RunRequest, folder: Path) -> dict[str, Any]:
    """Return the options as plain values, with files relative to a folder."""
    plain = asdict(request)
    plain["structures"] = [str(path) for path in request.structures]
    plain["engine"], plain["setting"] = request.engine.value, list(request.setting)
    plain["smiles"] = list(request.smiles)
    for name in ("output", "restart", "log"):
        if plain[name] is not None:
            plain[name] = os.path.relpath(plain[name], folder)
    if request.operator is not None and Path(request.operator).is_file():
        plain["operator"] = os.path.relpath(request.operator, folder)
    return plain


@dataclass(frozen=True)
class SavedRun:
    """What a restart file says of a run.

    Parameters
    ----------
    path
        The file.
    request
        The options that the run began with.
    operator
        Name, fingerprint and engine of what moved it.
    structures
        The molecules, ``[B, N]``.
    equilibrated, left_out, lost_before, done
        As in `ase_atom.cli.batch.Batch`.
    log_size
        Length of the log in bytes.
    summary, watch, propagator
        Their states; None of a watch where there is none.
    """

    path: Path
    request: RunRequest
    operator: Mapping[str, str]
    structures: PhaseState
    equilibrated: bool
    left_out: dict[int, str]
    lost_before: list[BrokenStateError]
    done: list[int]
    log_size: int
    summary: Mapping[str, Any]
    watch: Mapping[str, Any] | None
    propagator: Mapping[str, Any]
    _rows: list[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> SavedRun:
        """Read a restart file.

        Raises
        ------
        FileFormatError
            If it is missing, damaged, or none of a run.
        """
        saved = read_restart(path)
        folder = Path(os.path.realpath(path)).parent
        with reading_saved_run(path):
            return cls(
                path,
                _request(saved["request"], folder),
                saved["operator"],
                PhaseState(**{name: saved["structures"][name] for name in _STRUCTURE}),
                bool(saved["equilibrated"]),
                {int(place): name for place, name in saved["left_out"]},
                [
                    BrokenStateError(**{**each, "atoms": tuple(each["atoms"])})
                    for each in saved["lost_before"]
                ],
                [int(count) for count in saved["frames"]],
                int(saved["log_size"]),
                saved["summary"],
                saved.get("watch"),
                saved["propagator"],
                saved["rows"],
            )

    def load_operator(self) -> OperatorLike:
        """Load what moved the run, on the engine that it ran on.

        Raises
        ------
        CheckpointError
            If it is gone, or another one has its name.
        """
        name = self.request.operator or self.operator["name"]
        known: dict[str, Engine] = {"onnx": "onnx", "numba": "numba"}
        engine = known.get(self.operator["engine"], "torch")
        found = self.request.moving(load_operator(name, engine, self.request.device))
        if found.fingerprint != self.operator["fingerprint"]:
            raise CheckpointError(
                f"{name} is not the operator that the run in {self.path} began with: it was "
                f"trained anew or changed since (fingerprint {found.fingerprint[:12]}…, not "
                f"{self.operator['fingerprint'][:12]}…)"
            )
        return found

    def rows(self) -> list[Row]:
        """Return the replicas with their files and names."""
        folder = Path(os.path.realpath(self.path)).parent
        rows = []
        for atoms, row in zip(self.structures.to_atoms(), self._rows, strict=True):
            file = _short(folder / row["file"])
            molecule = Molecule(int(row["place"]), row["name"], atoms)
            rows.append(Row(molecule, file, Label(row["label"], tuple(row["atoms"]))))
        return rows


def reading_saved_run(path: Path) -> AbstractContextManager[None]:
    """Let nothing but this package's errors out of a block that looks into a saved run."""
    return reading(path, what="is no restart file of ase-atom run")


def _request(plain: Mapping[str, Any], folder: Path) -> RunRequest:
    given = dict(plain)
    given["structures"] = tuple(Path(path) for path in given["structures"])
    given["setting"] = tuple(given["setting"])
    given["smiles"] = tuple(given.get("smiles", ()))
    given["engine"] = EngineName(given["engine"])
    for name in ("output", "restart", "log"):
        if given[name] is not None:
            given[name] = _short(folder / given[name])
    if given["operator"] is not None and (folder / given["operator"]).is_file():
        given["operator"] = str(folder / given["operator"])
    return RunRequest(**given)


def _short(path: Path) -> Path:
    """Return a path as one would type it here."""
    path = Path(os.path.normpath(path))
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
