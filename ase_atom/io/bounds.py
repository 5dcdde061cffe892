"""How large a file's contents may be, by what it claims and by how long it is."""

from __future__ import annotations

_SMALL = 64 * 2**20
_RATIO = 100
LARGEST = 8 * 2**30
"""Bytes of arrays that are read into memory from one file, at most."""


class Budget:
    """Memory that the arrays of one file may take, all of them together.

    Compressed numbers of a trajectory take a tenth of their size or more. A file that claims a
    hundred times its own length, and more than 64 MiB, is a trap or damaged.

    Parameters
    ----------
    stored
        Length of the file in bytes.
    """

    def __init__(self, stored: int) -> None:
        self.stored = stored
        self.taken = 0

    def take(self, declared: int, what: str) -> None:
        """Take memory for an array before it is made.

        Parameters
        ----------
        declared
            Bytes that the file says it holds.
        what
            Whose size it is, for the message.

        Raises
        ------
        ValueError
            If it is more than the file can hold, or together more than 8 GiB, or less than nothing.
        """
        if declared < 0:
            raise ValueError(f"{what} would be {declared} bytes large")
        self.taken += declared
        if self.taken > LARGEST:
            raise ValueError(
                f"with {what} it would take {readable(self.taken)} of memory; at most "
                f"{readable(LARGEST)} are read from one file"
            )
        if self.taken > max(_SMALL, _RATIO * self.stored):
            raise ValueError(
                f"with {what} it would take {readable(self.taken)} of memory, which a file of "
                f"{readable(self.stored)} does not hold"
            )


def readable(size: int) -> str:
    """Return a number of bytes in the largest unit that keeps it at or above one."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
