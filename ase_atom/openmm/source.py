"""Operators that travel in serialised Systems by name and checksum, never as weights or code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase_atom.errors import CheckpointError
from ase_atom.files import digest_of
from ase_atom.operator import Operator, load_operator
from ase_atom.operator.checkpoint import find_operator


class OperatorSource:
    """An operator, and how another process finds the same one.

    Parameters
    ----------
    given
        A shipped operator's name, a checkpoint file, or an operator in memory.
    checksum
        SHA-256 of the file that must be found; by default that of the file that is.

    Raises
    ------
    CheckpointError
        If there is no such operator, or its file is damaged.
    """

    def __init__(self, given: str | Path | Operator) -> None:
        self.where: str | None = None
        self.checksum = ""
        self._operator: Operator | None = None
        if isinstance(given, (str, Path)):
            path = find_operator(given)
            # A path that is relative would mean another file elsewhere.
            self.where = str(given) if str(given) == path.stem else str(path.resolve())
            self.checksum = digest_of(path)
            self._operator = load_operator(path)
        else:
            self._operator = given

    @property
    def operator(self) -> Operator:
        """The operator, loaded when it is first asked for.

        Raises
        ------
        CheckpointError
            If the file is missing, or not the one that the System was written with.
        """
        if self._operator is None:
            path = find_operator(self.where)
            found = digest_of(path)
            if found != self.checksum:
                raise CheckpointError(
                    f"the operator {self.where!r} here is not the one that this System was written "
                    f"with (SHA-256 {found[:12]}… instead of {self.checksum[:12]}…): install that "
                    "one, or build the System again"
                )
            self._operator = load_operator(path)
        return self._operator

    def __reduce__(self) -> tuple[Any, ...]:
        if self.where is None:
            raise CheckpointError(
                "an operator in memory cannot be serialised: save it with save_operator, and give "
                "its file instead"
            )
        return _restore, (self.where, self.checksum)


def _restore(where: str, checksum: str) -> OperatorSource:
    # Nothing is loaded yet: OpenMM does not survive an error raised while it unpickles.
    source = OperatorSource.__new__(OperatorSource)
    source.where, source.checksum, source._operator = where, checksum, None
    return source
