"""Consecutive frames of one trajectory, as they pass from a reader to a writer."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Self

import numpy as np

from ase_atom.io.cells import is_placeholder
from ase_atom.superposition import superposing_rotations


def stated(velocities: np.ndarray) -> np.ndarray:
    """Return velocities of frames that hold some, with infinity for what is not a number.

    Not a number marks frames that hold none, see `FrameBlock.divided`.
    """
    return np.where(np.isnan(velocities), np.inf, velocities)


@dataclass(frozen=True)
class FrameBlock:
    """Consecutive frames of one molecule or system, all of which hold the same kinds of numbers.

    Where a file's frames differ in what they hold, its reader gives a block for each stretch.

    Parameters
    ----------
    positions
        Å, ``[T, N, 3]``.
    velocities
        Å/fs, ``[T, N, 3]``, or None where the file holds none.
    times
        fs, ``[T]``, or None where the file holds none.
    cells
        Cell vectors as rows in Å, ``[T, 3, 3]``, or None for an isolated molecule.
    energies
        Potential energies in eV, ``[T]``, not a number where one is missing; None if all are.
    forces
        eV/Å, ``[T, N, 3]``, not a number where they are missing; None if all are.
    pbc
        Along which cell vectors frames repeat, ``[T, 3]``; None if along all that there are.
    expected_errors
        Expected error of the jump that a frame lies on, ``[T]``, not a number where it is unknown;
        None if all are.
    strides
        Length of that jump in fs, 0 where a calculator's forces moved the molecule, ``[T]``; as
        ``expected_errors``.
    """

    positions: np.ndarray
    velocities: np.ndarray | None = None
    times: np.ndarray | None = None
    cells: np.ndarray | None = None
    energies: np.ndarray | None = None
    forces: np.ndarray | None = None
    pbc: np.ndarray | None = None
    expected_errors: np.ndarray | None = None
    strides: np.ndarray | None = None

    @property
    def known_times(self) -> np.ndarray:
        """Times in fs, ``[T]``, of frames that have them, as all have that come to a writer.

        Raises
        ------
        ValueError
            If they have none.
        """
        if self.times is None:
            raise ValueError("the frames have no times")
        return self.times

    def __len__(self) -> int:
        """Return the number of frames T."""
        return len(self.positions)

    def __getitem__(self, frames: slice | np.ndarray) -> Self:
        """Return some of the frames."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        parts = {name: v[frames] for name, v in held.items() if isinstance(v, np.ndarray)}
        return replace(self, **parts)

    def contiguous(self) -> Self:
        """Return the same with all arrays in C order, which libraries' writers take for granted."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        parts = {k: np.ascontiguousarray(v) for k, v in held.items() if isinstance(v, np.ndarray)}
        return replace(self, **parts)

    def divided(self) -> list[Self]:
        """Return the frames in blocks that hold the same, of frames that may differ.

        A frame has no cell where its vectors are zero, a placeholder or repeat along none, and no
        velocities or time where all of these are not a number.
        """
        held: dict[str, np.ndarray] = {}
        if self.cells is not None:
            held["cells"] = ~is_placeholder(self.cells)
            if self.pbc is not None:
                held["cells"] &= self.pbc.any(axis=1)
        if self.velocities is not None:
            held["velocities"] = ~np.isnan(self.velocities).all(axis=(1, 2))
        if self.times is not None:
            held["times"] = ~np.isnan(self.times)
        if all(there.all() for there in held.values()):
            return [self] if len(self) else []
        kinds = np.stack(list(held.values()), axis=1)
        cuts = np.flatnonzero((kinds[1:] != kinds[:-1]).any(axis=1)) + 1

        def is_there(name: str, frame: int) -> bool:
            return name in held and bool(held[name][frame])

        blocks = []
        for first, last in pairwise([0, *cuts.tolist(), len(self)]):
            part = self[first:last]
            blocks.append(
                replace(
                    part,
                    velocities=part.velocities if is_there("velocities", first) else None,
                    times=part.times if is_there("times", first) else None,
                    cells=part.cells if is_there("cells", first) else None,
                    pbc=part.pbc if is_there("cells", first) else None,
                )
            )
        return blocks

    def finite(self) -> int:
        """Return how many frames come before the first that is not finite."""
        count = len(self)
        for array in (self.positions, self.times, self.velocities, self.cells):
            if array is not None and not np.isfinite(array).all():
                bad = ~np.isfinite(array).reshape(len(self), -1).all(axis=1)
                count = min(count, int(bad.argmax()))
        return count

    def aligned(self, reference: np.ndarray) -> Self:
        """Return the frames moved and turned onto a reference, velocities and forces turned too.

        The rotation minimises the unweighted root-mean-square distance from the reference;
        centroids coincide. See `ase_atom.superposition`.

        Parameters
        ----------
        reference
            Å, ``[N, 3]``, or one for each frame, ``[T, N, 3]``.
        """
        centre = reference.mean(axis=-2, keepdims=True)
        centred = self.positions - self.positions.mean(axis=1, keepdims=True)
        rotation, _ = superposing_rotations(centred, reference - centre)
        return replace(
            self,
            positions=centred @ rotation + centre,
            velocities=None if self.velocities is None else self.velocities @ rotation,
            forces=None if self.forces is None else self.forces @ rotation,
        )
