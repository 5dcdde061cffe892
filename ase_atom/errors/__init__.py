"""Errors that the package raises for a caller's mistake or a broken simulation.

All of them are `ValueError`s, so that existing ``except ValueError`` code keeps working, and share
`AtomError`, so that the command line can turn any of them into one line and an exit code.
"""

from __future__ import annotations


class AtomError(ValueError):
    """Base of every error raised on purpose by this package."""


class StateError(AtomError):
    """A phase-space state with inconsistent shapes, types or contents."""


class CheckpointError(AtomError):
    """An operator file that is missing, truncated, altered, or of an unknown kind."""


class CoverageError(AtomError):
    """A molecule, element, mass, charge or cell for which an operator was not trained."""


class TrustError(AtomError):
    """A run whose jumps are expected to err too much to be believed."""


class FallbackError(AtomError):
    """A calculator that was to move a molecule where jumps err too much failed."""


class HorizonError(AtomError):
    """A time outside the interval ``[0, horizon]`` for which an operator was trained."""


class TrajectoryError(AtomError):
    """A structure or trajectory file that cannot be read or written."""


class EngineWarning(UserWarning):
    """An operator is evaluated by torch, since ONNX Runtime did not give the same answer."""


class TrajectoryWarning(UserWarning):
    """A trajectory that is read or written, but not all that it should hold or is given."""


class FileFormatError(TrajectoryError):
    """A file whose contents are damaged, or not what its name says."""


class ConfigError(AtomError):
    """A setting that is unknown or has an impossible value."""


class UnknownKeywordError(ConfigError, TypeError):
    """A keyword that a function does not have; Python itself raises a `TypeError` for such."""


class DataError(AtomError):
    """Reference data that is missing, damaged, or not what was asked for."""


class BrokenStateError(AtomError):
    """A simulation reached a state that no molecule can be in.

    Parameters
    ----------
    message
        One line: which replica, when, which atoms, and why.
    replica
        Index of the broken replica in the batch.
    time
        Time of the first bad frame in fs.
    atoms
        Indices of the atoms involved.
    frames_written
        Number of good frames before the bad one, all of them handed on to the caller.
    """

    def __init__(
        self,
        message: str,
        *,
        replica: int = 0,
        time: float = float("nan"),
        atoms: tuple[int, ...] = (),
        frames_written: int = 0,
    ) -> None:
        super().__init__(message)
        self.replica = replica
        self.time = time
        self.atoms = atoms
        self.frames_written = frames_written
