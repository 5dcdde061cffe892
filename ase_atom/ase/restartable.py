"""ASE dynamics that leave a restart file, and go on from it."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.md.logger import MDLogger
from ase.md.md import MolecularDynamics

from ase_atom.ase.restart import RestartFile, restart_file, settings_in_words
from ase_atom.ase.settings import NumpyNoise, momenta_of
from ase_atom.ase.trajectory import ObservedTrajectory, is_for_ase
from ase_atom.errors import FileFormatError, TrajectoryError
from ase_atom.errors.values import file_path
from ase_atom.operator import OperatorLike
from ase_atom.propagation import Adaptive, Ensemble, Thermostat
from ase_atom.propagation import Path as JumpPath
from ase_atom.sending import Sendable
from ase_atom.state import PhaseState

KIND = "ATOMPropagator"

_ARRAYS = ("positions", "momenta", "left_positions", "left_momenta")
_TAIL = 400  # bytes of a log by which it is known again


class RestartableDynamics(Sendable, MolecularDynamics):
    """Dynamics by jumps whose state can be kept.

    A derived class makes its operator, ensemble, noise and path; it then calls `_find_restart`,
    `_open_files` and `_go_on`, and `_keep` after each step.
    """

    operator: OperatorLike
    ensemble: Ensemble
    adaptive: Adaptive | None
    steps_per_stride: int
    _path: JumpPath
    _noise: NumpyNoise
    _left: tuple[np.ndarray, np.ndarray]

    @abstractmethod
    def _state(self) -> PhaseState:
        """Return the state of the atoms, to whom observers may have done anything.

        Raises
        ------
        AtomError
            If no jump can follow from it.
        """

    def _find_restart(
        self,
        path: str | Path | None,
        interval: int,
        state: PhaseState,
        timestep: float,
        energy_correction: bool | GetPropertiesMixin,
        files: Mapping[str, Any],
    ) -> bool:
        """Look at the restart file, where one is asked for, and say whether the run goes on.

        Nothing is opened or changed but path and ensemble.

        Parameters
        ----------
        path, interval
            As a script gives them.
        state
            The molecule, a batch of one.
        timestep
            fs.
        energy_correction
            As a script gives it.
        files
            The keywords of ASE's dynamics.

        Raises
        ------
        ConfigError, FileFormatError, TrajectoryError
            As `RestartFile`, or for a log that is not the one that the run left.
        """
        trajectory, log = (_named(name, files) for name in ("trajectory", "logfile"))
        self._restart: RestartFile | None = restart_file(path, interval, KIND, (trajectory, log))
        self._molecule = state
        self._trajectory: ObservedTrajectory | None = None
        self._logger: Any = None
        self._log_path = log
        if self._restart is None:
            return False
        if isinstance(self.ensemble, Thermostat):
            self._noise.state_dict()  # raises where it cannot be kept
        relative = self._restart.relative
        words = settings_in_words(
            self.operator, self.ensemble, timestep, self.steps_per_stride, energy_correction
        )
        words["trajectory"] = "none" if trajectory is None else relative(trajectory)
        words["loginterval"] = f"{files.get('loginterval', 1)} steps"
        words |= {} if self.adaptive is None else self.adaptive.settings()
        self._words = words
        if self._restart.saved is None:
            return False
        with self._restart.reading():
            self._restart.check_same(words, state)
            self._load(self._restart.saved)
        return True

    def _load(self, saved: Mapping[str, Any]) -> None:
        """Check what is saved, and bring path and ensemble to where they were."""
        assert self._restart is not None
        for name in _ARRAYS:
            array = saved[name].numpy()
            wrong = array.shape != self._molecule.positions.shape[1:] or array.dtype != np.float64
            if wrong or not np.isfinite(array).all():
                raise FileFormatError(
                    f"{self._restart.path}: its {name.replace('_', ' ')} are not of this molecule"
                )
        _check_counts(saved)
        if isinstance(self.ensemble, Thermostat):
            before = self._noise.state_dict()
            self._noise.load_state_dict(saved["noise"])  # to see whether it can be
            self._noise.load_state_dict(before)
        self._path.load_state_dict(saved["path"])
        values = {
            name: None if value is None else type(value)(saved["ensemble"][name])
            for name, value in _values(self.ensemble)
        }
        self.ensemble = replace(self.ensemble, **values)  # type: ignore[type-var]
        self._path.ensemble = self.ensemble
        if self._log_path is not None and (log := self._log_before()) is not None:
            _check_log(self._log_path, log)

    def _log_before(self) -> Mapping[str, Any] | None:
        """Return what the restart file says of the log, if that is the log of this run, too."""
        if self._log_path is None or self._restart is None or self._restart.saved is None:
            return None
        log: Mapping[str, Any] | None = self._restart.saved["log"]
        same = log is not None and log["file"] == self._restart.relative(self._log_path)
        return log if same else None

    def _open_files(self, atoms: Atoms, timestep: float, files: dict[str, Any]) -> None:
        """Set up ASE's part, with files of ours in the place of those that ASE would write."""
        saved = None if self._restart is None else self._restart.saved
        named = _named("trajectory", files)
        ours = self._restart is not None or not is_for_ase(files.get("trajectory"))
        if named is not None and ours:
            interval, append = files.get("loginterval", 1), files.get("append_trajectory", False)
            frames = None if saved is None else saved["trajectory"]
            self._trajectory = files["trajectory"] = ObservedTrajectory(
                named, atoms, self, timestep, interval, append, frames
            )
        log = None if self._restart is None else self._log_path
        if log is not None:
            files.pop("logfile")
        super().__init__(atoms, timestep, **files)
        if self._trajectory is not None:
            self.closelater(self._trajectory.writer)
        if log is not None:
            if (before := self._log_before()) is not None:
                os.truncate(log, before["size"])
            self._logger = self.closelater(
                MDLogger(self, atoms, str(log), header=before is None, comm=self.comm)
            )
            self.attach(self._logger, files.get("loginterval", 1))

    def _go_on(self) -> None:
        """Give atoms, noise and counter what the restart file says, if the run goes on."""
        if self._restart is None or (saved := self._restart.saved) is None:
            return
        if isinstance(self.ensemble, Thermostat):
            self._noise.load_state_dict(saved["noise"])
        positions, momenta, *left = (saved[name].numpy() for name in _ARRAYS)
        self.atoms.arrays["positions"][...] = positions
        momenta_of(self.atoms)[...] = momenta
        self._left = left[0], left[1]
        self.nsteps = int(saved["nsteps"])

    def _keep(self, now: bool = False) -> None:
        """Write the restart file if there is one and it is due, or now."""
        jumps = self._path.steps // self.steps_per_stride
        if self._restart is None or not (now or self._restart.is_due(jumps)):
            return
        self._state()  # raises, and the file before stands, if the run could not go on from here
        arrays = (self.atoms.positions, momenta_of(self.atoms), *self._left)
        rest = dict(zip(_ARRAYS, arrays, strict=True)) | {
            "nsteps": int(self.nsteps),
            "ensemble": dict(_values(self.ensemble)),
            "path": self._path.state_dict(),
            "noise": self._noise.state_dict() if isinstance(self.ensemble, Thermostat) else {},
            "trajectory": None if self._trajectory is None else self._trajectory.state_dict(),
            "log": self._log_state(),
        }
        self._restart.write(jumps, self._words, self._molecule, rest)

    def _log_state(self) -> dict[str, Any] | None:
        if self._logger is None or self._restart is None or self._log_path is None:
            return None
        self._logger.logfile.flush()
        with open(self._log_path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, 0))
            tail = file.read().decode("latin-1")
        return {"file": self._restart.relative(self._log_path), "size": size, "tail": tail}


def _values(ensemble: Ensemble) -> list[tuple[str, Any]]:
    return list(asdict(ensemble).items())  # type: ignore[call-overload]


def _named(name: str, files: Mapping[str, Any]) -> Path | None:
    """Return the path that was given as a file, None for an open file, ``-`` and none."""
    file = files.get(name)
    if file is None or hasattr(file, "write") or str(file) in ("", "-"):
        return None
    return file_path(name, file)


def _check_counts(saved: Mapping[str, Any]) -> None:
    """Raise whatever there is to raise where a restart file's counters are none."""
    counters = [saved["nsteps"]]
    if (file := saved["trajectory"]) is not None:
        counters += [file["frames"], file["since_origin"], file["origin"] or 0.0]
    if not all(float(counter) >= 0 for counter in counters):
        raise ValueError("a counter is below zero")


def _check_log(path: Path, saved: Mapping[str, Any]) -> None:
    """Check that a log begins as the run left it, before what is behind is cut off.

    Raises
    ------
    TrajectoryError
        If it does not.
    """
    size, tail = int(saved["size"]), saved["tail"].encode("latin-1")
    try:
        with open(path, "rb") as file:
            file.seek(size - len(tail))
            found = file.read(len(tail))
    except FileNotFoundError as error:
        raise TrajectoryError(f"the log {path} of the run is gone: it cannot go on") from error
    if found != tail:
        raise TrajectoryError(
            f"{path} is not the log of {size} bytes that the run had left: name another logfile"
        )
