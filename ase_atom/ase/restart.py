"""Restart files of ASE scripts: what a run must have in common with the one that it continues."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from ase.calculators.abc import GetPropertiesMixin

from ase_atom.errors import ConfigError, FileFormatError, TrajectoryError
from ase_atom.errors.values import file_path, whole_number
from ase_atom.files import RESTART_INTERVAL, is_same_file
from ase_atom.io.formats import format_of
from ase_atom.io.guard import reading
from ase_atom.io.registry import check_free, output_files
from ase_atom.molecules.topology import formula
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation import Ensemble, Propagator
from ase_atom.propagation.frames import exact
from ase_atom.propagation.leaps import is_leap
from ase_atom.propagation.restart import read_restart, write_restart
from ase_atom.state import PhaseState

_HEX = 64  # characters of a digest


class RestartFile:
    """The restart file of a run: what is in it, and when it is written next.

    Parameters
    ----------
    path
        The file. If it exists, the run goes on from it.
    interval
        Jumps between writings.
    kind
        What writes and reads it.
    outputs
        Other files of the run.

    Attributes
    ----------
    saved
        What the file says; None for a run that begins.

    Raises
    ------
    ConfigError
        For an interval that is no whole number from 1 on, or a file that is another of the run's.
    FileFormatError
        If the file is damaged, or no restart file of this kind.
    TrajectoryError
        If it cannot be written there.
    """

    def __init__(
        self, path: str | Path, interval: int, kind: str, outputs: Iterable[str | Path] = ()
    ) -> None:
        self._interval = whole_number("restart_interval", interval, at_least=1)
        self.path, self.kind = file_path("restart", path), kind
        for output in outputs:
            if is_same_file(self.path, output):
                raise ConfigError(
                    f"{path} is named for two files of the run: give one of them another name"
                )
        check_free(self.path, replace=True)
        self.saved: dict[str, Any] | None = None
        self._last: int | None = None
        if self.path.exists():
            self.saved = read_restart(self.path)
            with self.reading():
                if self.saved["kind"] != kind:
                    raise FileFormatError(f"{path} is a restart file of {self.saved['kind']}")
                self._last = int(self.saved["jumps"])

    def reading(self) -> AbstractContextManager[None]:
        """Let nothing but this package's errors out of a block that looks into the file."""
        return reading(self.path, what=f"is no restart file of {self.kind}")

    def relative(self, file: str | Path) -> str:
        """Return a file's name as seen from the restart file, with which it can be moved."""
        return os.path.relpath(os.path.realpath(file), Path(os.path.realpath(self.path)).parent)

    def check_same(self, settings: Mapping[str, str], state: PhaseState) -> None:
        """Check that a run is the one that goes on.

        Parameters
        ----------
        settings
            Its settings in words.
        state
            Its molecules, ``[B, N]``.

        Raises
        ------
        ConfigError
            Naming the first difference.
        """
        assert self.saved is not None
        self._check_molecules(state)
        saved = self.saved["settings"]
        for name in dict.fromkeys([*settings, *saved]):
            before, value = saved.get(name, "none"), settings.get(name, "none")
            if before != value:
                raise self.refusal(f"{name} was {before} and is now {value}")

    def refusal(self, why: str) -> ConfigError:
        """Return the error for a run that is not the one that goes on."""
        return ConfigError(
            f"{why}: the run in {self.path} continues with its first settings; for a new run name "
            "another restart file, or delete this one"
        )

    def _check_molecules(self, state: PhaseState) -> None:
        assert self.saved is not None
        saved = self.saved["molecules"]
        count = len(saved["numbers"])
        if count != state.batch_size:
            raise self.refusal(f"replicas were {count} and are now {state.batch_size}")
        for row in range(count):
            then, now = saved["numbers"][row], state.numbers[row]
            who = "the molecule" if count == 1 else f"molecule {row}"
            before, after = _formula(then), _formula(now)
            if before != after:
                raise self.refusal(f"{who} was {before} and is now {after}")
            if len(then) != len(now) or not torch.equal(then, now):
                raise self.refusal(f"{who} is still {after}, with its atoms in another order")
            if not torch.equal(saved["masses"][row], state.masses[row]):
                raise self.refusal(f"masses of {who}, {after}, have changed")
            charges = int(saved["charge"][row]), int(state.charge[row])
            if charges[0] != charges[1]:
                raise self.refusal(
                    f"total charge of {who} was {charges[0]:+d} and is now {charges[1]:+d}"
                )

    def is_due(self, jumps: int) -> bool:
        """Say whether the file is to be written after so many jumps."""
        return self._last is None or jumps - self._last >= self._interval

    def write(
        self, jumps: int, settings: Mapping[str, str], state: PhaseState, rest: Mapping[str, Any]
    ) -> None:
        """Write the file in place of the one there.

        Parameters
        ----------
        jumps
            How many were made.
        settings, state
            What `check_same` compares.
        rest
            What else it takes to go on.

        Raises
        ------
        TrajectoryError
            If it cannot be written; the one before stays.
        """
        molecules = {name: getattr(state, name) for name in ("numbers", "masses", "charge")}
        said = {"kind": self.kind, "jumps": jumps, "settings": settings, "molecules": molecules}
        try:
            write_restart(self.path, said | dict(rest))
        except OSError as error:
            reason = error.strerror or error
            raise TrajectoryError(f"cannot write the restart file {self.path}: {reason}") from error
        self._last = jumps


def restart_file(
    path: str | Path | None, interval: int, kind: str, outputs: Iterable[str | Path | None] = ()
) -> RestartFile | None:
    """Return the restart file that a script asks for, with the errors of `RestartFile`.

    Parameters
    ----------
    path, interval, kind
        As there; without a path there is none.
    outputs
        Files that the script names; trajectories stand for their topologies, too.
    """
    if path is None:
        if interval != RESTART_INTERVAL:
            raise ConfigError("restart_interval has no effect without restart=: leave it out")
        return None
    files: list[str | Path] = []
    for output in outputs:
        if output is not None:
            files += output_files(output) if _is_trajectory(output) else [output]
    return RestartFile(path, interval, kind, files)


def settings_in_words(
    operator: OperatorLike,
    ensemble: Ensemble,
    timestep: float,
    frames: int,
    energy_correction: bool | GetPropertiesMixin,
) -> dict[str, str]:
    """Return what must be the same where a run goes on.

    Parameters
    ----------
    operator
        What moves the molecules.
    ensemble
        As the run began with it.
    timestep
        fs.
    frames
        Time steps of a stride.
    energy_correction
        As the script gives it.
    """
    name = operator.card.name if operator.card is not None else "unnamed"
    mark = operator.fingerprint
    digest = len(mark) == _HEX and not set(mark) - set("0123456789abcdef")
    own = isinstance(energy_correction, bool)
    leaps = operator.leaps if is_leap(operator, frames * timestep) else None
    return {
        "operator": f"{name} (fingerprint {mark[:16] if digest else mark})",
        "engine": operator.engine,
        "ensemble": repr(ensemble),
        "timestep": f"{float(exact(timestep))!r} fs",
        "stride": f"{float(frames * exact(timestep))!r} fs",
        "energy_correction": repr(energy_correction) if own else type(energy_correction).__name__,
    } | ({} if leaps is None else {"leaps": leaps.fingerprint[:16]})


def _is_trajectory(file: str | Path) -> bool:
    try:
        format_of(file, write=True)
    except TrajectoryError:
        return False
    return True


def _formula(numbers: torch.Tensor) -> str:
    return formula(numbers[numbers > 0].numpy())


class BatchRestart:
    """The restart file of a batch of molecules, where one is asked for.

    Parameters
    ----------
    file
        The file, or None.
    settings, state
        As `RestartFile.check_same` compares them.
    steps
        Time steps of the run in all.
    grid
        Time steps between the propagator's frames, if the run begins.

    Attributes
    ----------
    grid
        Time steps between the propagator's frames: those of a run that goes on stay where they are.
    steps_before
        Time steps that a run that goes on was asked for; 0 for one that begins.
    frames
        Frames that it gave each trajectory, none without trajectories.
    last
        The state of its last frame, ``[B, N]``.

    Raises
    ------
    ConfigError
        For other molecules or settings, fewer steps, or steps that end between two frames.
    FileFormatError
        For a file with contents that no run writes.
    """

    def __init__(
        self,
        file: RestartFile | None,
        settings: Mapping[str, str],
        state: PhaseState,
        steps: int,
        grid: int,
    ) -> None:
        self._file, self._settings, self._steps = file, settings, steps
        self.grid, self.steps_before, self.frames, self.last = grid, 0, list[int](), state
        if file is None or file.saved is None:
            return
        saved = file.saved
        with file.reading():
            file.check_same(settings, state)
            self.grid, self.steps_before = int(saved["grid"]), int(saved["steps"])
            self.frames = [int(count) for count in saved["frames"]]
            last = saved["last"]
            self.last = state.replace(positions=last["positions"], velocities=last["velocities"])
            wrong = f"steps were {self.steps_before} and are now {steps}"
            if steps < self.steps_before:
                raise file.refusal(f"{wrong}, and a run can only be extended")
            if steps % self.grid:
                raise file.refusal(f"{wrong}, which is no multiple of {self.grid}")

    @property
    def goes_on(self) -> bool:
        """Whether there is a run to go on with."""
        return self.steps_before > 0

    def load(self, propagator: Propagator) -> None:
        """Bring a new propagator to where the run was, if it goes on."""
        if self._file is not None and self._file.saved is not None:
            with self._file.reading():
                propagator.load_state_dict(self._file.saved["propagator"])

    def keep(
        self, propagator: Propagator, frames: list[int], last: PhaseState, now: bool = False
    ) -> None:
        """Write the file if it is due.

        Parameters
        ----------
        propagator
            What moves the molecules.
        frames
            Frames given to each trajectory.
        last
            State of the last frame.
        now
            Whether or not it is due.
        """
        if self._file is None or not (now or self._file.is_due(propagator.jumps)):
            return
        if propagator.has_failed:  # inside a jump, from which nothing can go on
            return
        rest = {
            "steps": self._steps,
            "grid": self.grid,
            "frames": frames,
            "last": {"positions": last.positions, "velocities": last.velocities},
            "propagator": propagator.state_dict(),
        }
        self._file.write(propagator.jumps, self._settings, last, rest)
