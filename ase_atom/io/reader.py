"""What every trajectory reader shares: blocks of frames in bounded memory, and lost frames."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from ase_atom.errors import FileFormatError, TrajectoryError, TrajectoryWarning
from ase_atom.errors.warning import warn
from ase_atom.io.ase_frames import stated_masses, to_atoms
from ase_atom.io.frames import FrameBlock
from ase_atom.io.guard import Guarded, refusal
from ase_atom.molecules.atoms import stated_charge
from ase_atom.molecules.coverage import MASS_TOLERANCE
from ase_atom.molecules.topology import atom_label, is_element

COORDINATES = 2**18
"""About how many numbers the positions of one block hold: 2 MiB of them."""


FindTopology = Callable[[], tuple[Atoms, str]]
"""Returns atoms with elements, masses and charge as far as these are stated, and their source."""


class TrajectoryReader(Guarded, ABC):
    """Read the frames of one file, block by block, in memory that does not grow with the file.

    Iterating gives `FrameBlock`s from the first frame on, `len` the number of whole frames, and
    indexing with a slice an iterator over blocks of some of them. Also a context manager. Where
    frames differ in what they hold, such as a cell, each stretch is a block of its own.

    Whatever a reader of a format hits in a file's contents comes out as `FileFormatError`.

    Parameters
    ----------
    path
        The file; see `ase_atom.io.read_trajectory`, which makes readers.
    find_topology
        Says which elements the atoms are, for formats that do not.
    given
        Whether what it finds was named by the user: then it must fit, also where the file says.

    Attributes
    ----------
    atom_count
        Number of atoms in each frame.
    lost
        Frames that the file should hold and does not, as far as it is known so far. Text formats
        show it only at their end.
    whole_size
        Where the last whole frame ends, in bytes, for formats that grow at their end.
    """

    looks: ClassVar[tuple[str, ...]] = (
        "_open",
        "_read",
        "_close",
        "__len__",
        "atoms",
        "numbers",
        "masses",
        "charge",
        "own_numbers",
        "own_masses",
        "own_charge",
        "last_time",
        "frame_interval",
    )
    atom_count: int
    whole_size: int

    def __init__(
        self, path: Path, find_topology: FindTopology | None = None, given: bool = False
    ) -> None:
        self.path = path
        self.lost = 0
        self._left_out: set[str] = set()
        self._find_topology, self._given = find_topology, given
        self._atoms: Atoms | None = None
        try:
            self._open()
            if given:
                _ = self.numbers  # refuse one that does not fit before anything is read
        except BaseException:
            with contextlib.suppress(TrajectoryError):  # of a file that was not opened
                self._close()
            raise

    @abstractmethod
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[FrameBlock]:
        return self.blocks()

    def __getitem__(self, frames: slice) -> Iterator[FrameBlock]:
        if not isinstance(frames, slice):
            raise TypeError("frames of a trajectory are taken by a slice")
        if (frames.start or 0) < 0 or (frames.stop is not None and frames.stop < 0):
            start, stop, step = frames.indices(len(self))
        else:  # text is not searched to its end for this
            start, stop, step = frames.start or 0, frames.stop, frames.step or 1
        if step < 1:
            raise TypeError("frames of a trajectory are taken forwards")
        return self.blocks(start, stop, step)

    def blocks(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[FrameBlock]:
        """Return blocks of every `step`-th frame from `start` up to, not including, `stop`."""
        size = max(1, COORDINATES // (3 * max(self.atom_count, 1)))
        span = 1 if step > size else size // step * step
        first = start
        while stop is None or first < stop:
            block = self._read(first, span if stop is None else min(span, stop - first))
            if not len(block):
                return
            yield from (block[::step] if step > 1 else block).divided()
            first += -(-len(block) // step) * step  # fewer may come than were asked for

    @property
    def atoms(self) -> Atoms:
        """The molecule as in the first frame.

        Raises
        ------
        TrajectoryError
            If nothing says which elements its atoms are, or there is no frame.
        """
        if self._atoms is None:
            block = self._read(0, 1)
            if not len(block):
                raise TrajectoryError(f"{self.path} holds no whole frame")
            numbers, masses = self._identity()
            self._atoms = to_atoms(numbers, block.divided()[0], 0, masses, self.charge)
        copy: Atoms = self._atoms.copy()
        return copy

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers, from the file itself or from its topology.

        Raises
        ------
        TrajectoryError
            If nothing says which elements its atoms are, or the topology is another one's.
        """
        return self._identity()[0]

    @property
    def masses(self) -> np.ndarray:
        """Masses in amu, ``[N]``, as file or topology state them; else the elements' standard ones.

        Raises
        ------
        TrajectoryError
            As `numbers`.
        """
        numbers, masses = self._identity()
        return atomic_masses[numbers] if masses is None else masses

    @property
    def charge(self) -> int | None:
        """Total charge in e, as file or topology state it; None if neither does.

        Raises
        ------
        TrajectoryError
            If a topology is needed, and cannot be read.
        """
        needed = self.own_numbers is None or self._given
        if self.own_charge is not None or self._find_topology is None or not needed:
            return self.own_charge
        return stated_charge(self._topology[0])

    @cached_property
    def _topology(self) -> tuple[Atoms, str]:
        if self._find_topology is None:
            raise TrajectoryError(f"{self.path} does not say which elements its atoms are")
        return self._find_topology()

    def _identity(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return atomic numbers, and masses if they are stated."""
        own = self.own_numbers
        if own is not None and not is_element(own, or_none=True).all():
            atom = int(np.argmin(is_element(own, or_none=True)))
            raise self._not_one(f"atom {atom + 1} has the atomic number {own[atom]}")
        if own is not None and not self._given:
            return own, self.own_masses
        topology, name = self._topology
        numbers, masses = topology.numbers, stated_masses(topology)
        if len(numbers) != self.atom_count or (
            own is not None and not np.array_equal(numbers, own)
        ):
            raise TrajectoryError(
                f"the topology {name} of {len(numbers)} atoms is not that of {self.path}, "
                f"which holds {self.atom_count}" + ("" if own is None else " of other elements")
            )
        return numbers, masses if self.own_masses is None else self.own_masses

    @property
    def own_numbers(self) -> np.ndarray | None:
        """Atomic numbers as the file itself has them, None if it does not say."""
        return None

    @property
    def own_masses(self) -> np.ndarray | None:
        """Masses in amu as the file itself has them, None if it does not say."""
        return None

    @property
    def own_charge(self) -> int | None:
        """Total charge in e as the file itself has it, None if it does not say."""
        return None

    def last_time(self) -> float | None:
        """Return the time of the last whole frame in fs."""
        times = [block.times for block in self.blocks(max(len(self) - 1, 0), len(self))]
        return float(times[0][0]) if times and times[0] is not None else None

    def early_times(self) -> np.ndarray | None:
        """Return the times of the first two frames, or of a single one, in fs, as far as stated."""
        found = [block.times for block in self.blocks(stop=2)]
        known = [times for times in found if times is not None]
        return np.concatenate(known) if known and len(known) == len(found) else None

    def frame_interval(self) -> float | None:
        """Return the time between frames in fs; None if there are no times or they are uneven."""
        first = self.early_times()
        if first is None or len(first) < 2:
            return None
        # The last time tells most where times are rounded to single precision.
        last = self.last_time()
        if last is None:
            return None
        interval = (last - first[0]) / (len(self) - 1)
        rounding = 2e-7 * max(abs(last), abs(first[0]))
        if interval <= 0 or abs(first[1] - first[0] - interval) > rounding + 1e-3 * interval:
            return None
        return float(interval)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _open(self) -> None:
        """Open the file, find `atom_count`, and what is lost."""

    @abstractmethod
    def _read(self, first: int, count: int) -> FrameBlock:
        """Return up to so many frames from one on; an empty block at the end.

        They may differ in what they hold, marked as `FrameBlock.divided` has it.
        """

    @abstractmethod
    def _close(self) -> None:
        """Close the file."""

    def _report_lost(self, whole: int, lost: int) -> None:
        """Warn of frames that are not whole."""
        self.lost = lost
        if lost:
            warn(
                f"{self.path} is truncated: its {whole} whole "
                f"{'frame is' if whole == 1 else 'frames are'} read, "
                f"{lost} {'is' if lost == 1 else 'are'} lost",
                TrajectoryWarning,
            )

    def _report_left_out(self, names: Sequence[str]) -> None:
        """Warn, once for each, of what frames also hold and is not read."""
        new = [name for name in dict.fromkeys(names) if name not in self._left_out]
        self._left_out.update(new)
        if new:
            more = f" and {len(new) - 8} more" if len(new) > 8 else ""
            warn(
                f"of {self.path} these are not read: {', '.join(new[:8])}{more}",
                TrajectoryWarning,
            )

    def _check_frame(self, atoms: Atoms, first: Atoms, index: int) -> None:
        """Raise TrajectoryError for a frame of other atoms than the first."""
        if not np.array_equal(atoms.numbers, first.numbers):
            raise self._not_one(f"frame {index + 1} has other atoms than the first")
        if not atoms.numbers.all():
            dummy = int(np.argmin(atoms.numbers)) + 1
            raise self._not_one(f"atom {dummy} is a dummy or ghost atom: take it out of the file")
        masses = atoms.get_masses()
        if not (masses > 0).all():
            atom = int(np.argmin(masses > 0))
            label = atom_label(atoms.numbers, atom)
            raise self._not_one(
                f"atom {label} of frame {index + 1} has a mass of {masses[atom]:g} amu"
            )
        if not np.allclose(masses, first.get_masses(), rtol=0, atol=MASS_TOLERANCE):
            raise self._not_one(f"frame {index + 1} has other masses than the first")

    def _not_one(self, reason: str) -> FileFormatError:
        return refusal(self.path, reason)

    def _empty(self) -> FrameBlock:
        return FrameBlock(np.empty((0, self.atom_count, 3)))


def meant(numbers: np.ndarray) -> np.ndarray:
    """Return the decimal numbers that were rounded to single precision: 0.1, not 0.10000000149."""
    return numbers.astype("U").astype(np.float64)
