"""Operators that travel in serialised Systems by name and checksum, never as weights or code."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

from ase_atom.errors import CheckpointError
from ase_atom.files import digest_of
from ase_atom.operator import OperatorLike, check_operator, load_operator
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
    ConfigError
        For what is no operator.
    """

    def __init__(self, given: str | Path | OperatorLike) -> None:
        self.where: str | None = None
        self.checksum = ""
        self._operator: OperatorLike | None = None
        self._ticket = ""
        if isinstance(given, (str, Path)):
            path = find_operator(given)
            # A path that is relative would mean another file elsewhere.
            self.where = str(given) if str(given) == path.stem else str(path.resolve())
            self.checksum = digest_of(path)
            self._operator = load_operator(path, engine="auto")
        else:
            check_operator(given)
            self._operator = given

    @property
    def operator(self) -> OperatorLike:
        """The operator, loaded when it is first asked for.

        Raises
        ------
        CheckpointError
            If the file is missing, or not the one that the System was written with.
        """
        if self._operator is None:
            if self.where is None:
                raise CheckpointError(
                    "this System was written with an operator in memory, which does not exist "
                    "here: save it with save_operator, and build the System with its file"
                )
            path = find_operator(self.where)
            found = digest_of(path)
            if found != self.checksum:
                raise CheckpointError(
                    f"the operator {self.where!r} here is not the one that this System was written "
                    f"with (SHA-256 {found[:12]}… instead of {self.checksum[:12]}…): install that "
                    "one, or build the System again"
                )
            self._operator = load_operator(path, engine="auto")
        return self._operator

    def fingerprint(self, with_leaps: bool) -> str:
        """Fingerprint of the operator, with that of its leaps where these are used."""
        leaps = self.operator.leaps if with_leaps else None
        return self.operator.fingerprint + ("" if leaps is None else leaps.fingerprint)

    def ticket(self) -> tuple[str, str | None, str]:
        """Return what `of_ticket` finds this source by in this process, and another elsewhere."""
        if not self._ticket:
            self._ticket = uuid4().hex
            _HERE[self._ticket] = self
        return self._ticket, self.where, self.checksum

    @staticmethod
    def of_ticket(ticket: str, where: str | None, checksum: str) -> OperatorSource:
        """Return the source that a ticket was written for, or one that loads the same operator."""
        return _HERE.get(ticket) or _restore(where, checksum)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.where is None:
            raise CheckpointError(
                "an operator in memory cannot be serialised: save it with save_operator, and give "
                "its file instead"
            )
        return _restore, (self.where, self.checksum)


_HERE: WeakValueDictionary[str, OperatorSource] = WeakValueDictionary()
"""Sources of this process by their tickets."""


def _restore(where: str | None, checksum: str) -> OperatorSource:
    # Nothing is loaded yet: OpenMM does not survive an error raised while it unpickles.
    source = OperatorSource.__new__(OperatorSource)
    source.where, source.checksum, source._operator, source._ticket = where, checksum, None, ""
    return source
