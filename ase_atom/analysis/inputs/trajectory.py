"""A whole trajectory in memory: continuous runs of one molecule, in the package's units."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from ase import Atoms
from ase.data import atomic_masses
from numpy.typing import ArrayLike

from ase_atom.errors import DataError
from ase_atom.io.frames import FrameBlock
from ase_atom.molecules.atoms import set_charge
from ase_atom.molecules.topology import formula
from ase_atom.units import AMU_A2_FS2_IN_EV

EVEN = 2e-3
"""Relative departure from the median up to which frame intervals count as equal: text formats and
single precision round times."""


@dataclass(frozen=True)
class Segment(FrameBlock):
    """One continuous run.

    Times are evenly spaced, or None where the order or the spacing of frames is unknown; energies
    are there for every frame, or None.

    Attributes
    ----------
    dipoles
        e Å, ``[T, 3]``, or None.
    name
        Where it comes from, for messages.
    key, theory
        Of a reference burst: its name in the store, and its level of theory. Else empty.
    """

    dipoles: np.ndarray | None = None
    name: str = ""
    key: str = ""
    theory: str = ""

    def aligned(self, reference: np.ndarray) -> Self:
        """As `FrameBlock.aligned`, without dipoles."""
        return replace(super().aligned(reference), dipoles=None)


@dataclass(frozen=True)
class Trajectory:
    """Runs of one molecule with the atoms in one order.

    Attributes
    ----------
    name
        What people call it: a file, or an operator.
    numbers, masses
        Atomic numbers and masses in amu, ``[N]``.
    segments
        Continuous runs, never none.
    facts
        What is known of its origin, such as ``ensemble``, ``theory`` or ``temperature_K``.
    notes
        What was found or done while it was read, one sentence each.
    velocity_source
        ``given``, ``differentiated`` from the positions, or empty if there are none.
    names
        What the atoms are called in the PDB file beside the trajectory; empty without one.
    checksums
        Of all reference bursts in the file by key, those that were not chosen included.
    stated_charge
        Total charge in e; None if nothing states it.
    """

    name: str
    numbers: np.ndarray
    masses: np.ndarray
    segments: tuple[Segment, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    velocity_source: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    stated_charge: int | None = None

    @classmethod
    def from_arrays(
        cls,
        numbers: ArrayLike,
        positions: ArrayLike,
        velocities: ArrayLike | None = None,
        times: ArrayLike | None = None,
        energies: ArrayLike | None = None,
        *,
        name: str = "trajectory",
        facts: Mapping[str, str] | None = None,
        charge: int | None = None,
    ) -> Trajectory:
        """Make one of arrays, of one run ``[T, N, 3]`` or of several of equal length ``[R, T, …]``.

        Parameters
        ----------
        numbers
            Atomic numbers, ``[N]``.
        positions, velocities
            Å and Å/fs.
        times
            fs, ``[T]``, the same for all runs.
        energies
            Potential energies in eV, ``[T]`` or ``[R, T]``.
        name, facts
            As the attributes.
        charge
            Total charge in e.

        Raises
        ------
        DataError
            If the shapes do not fit or a number is not finite.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        positions = np.asarray(positions, dtype=np.float64)
        if positions.ndim == 3:
            positions = positions[None]
            velocities = None if velocities is None else np.asarray(velocities, np.float64)[None]
            energies = None if energies is None else np.asarray(energies, np.float64)[None]
        if positions.ndim != 4 or positions.shape[2:] != (len(numbers), 3):
            raise DataError(
                f"positions of {name} should be [frames, {len(numbers)}, 3], not "
                f"{list(positions.shape)}"
            )
        v = None if velocities is None else np.asarray(velocities, np.float64)
        e = None if energies is None else np.asarray(energies, np.float64)
        t = None if times is None else np.asarray(times, np.float64)
        runs = [
            Segment(
                run,
                None if v is None else v[index],
                t,
                energies=None if e is None else e[index],
                name=f"{name} {index}",
            )
            for index, run in enumerate(positions)
        ]
        made = cls(
            name, numbers, atomic_masses[numbers], tuple(runs), facts or {}, stated_charge=charge
        )
        return made.checked()

    def checked(self) -> Trajectory:
        """Return this, with the source of velocities filled in, if its arrays fit together.

        Raises
        ------
        DataError
            Naming the run and the array at fault.
        """
        shape = (len(self.numbers), 3)
        if not all(0 < number < len(atomic_masses) for number in self.numbers):
            raise DataError(f"{self.name} holds atomic numbers that no element has")
        if not any(len(run) for run in self.segments):
            raise DataError(f"{self.name} holds no frame")
        for run in self.segments:
            for what, wanted in (
                ("positions", (len(run), *shape)),
                ("velocities", (len(run), *shape)),
                ("times", (len(run),)),
                ("energies", (len(run),)),
                ("dipoles", (len(run), 3)),
            ):
                array = getattr(run, what)
                if array is None:
                    continue
                if array.shape != wanted:
                    raise DataError(
                        f"{what} of {run.name or self.name} are {list(array.shape)}, not "
                        f"{list(wanted)}"
                    )
                if not np.isfinite(array).all():
                    frame = int(np.argmin(np.isfinite(array).reshape(len(run), -1).all(1)))
                    raise DataError(
                        f"{what} of frame {frame} of {run.name or self.name} are not finite"
                    )
        moving = all(run.velocities is not None for run in self.segments)
        return replace(self, velocity_source="given") if moving else self

    @property
    def short_name(self) -> str:
        """The name without folders."""
        return self.name.rstrip("/").rpartition("/")[2]

    @property
    def frames(self) -> int:
        """Number of frames in all runs."""
        return sum(len(run) for run in self.segments)

    @property
    def has_velocities(self) -> bool:
        """Whether every frame has velocities."""
        return all(run.velocities is not None for run in self.segments)

    @property
    def has_energies(self) -> bool:
        """Whether every frame has a potential energy."""
        return all(run.energies is not None for run in self.segments)

    @property
    def interval(self) -> float | None:
        """Time between frames in fs, None if it is unknown, uneven or not the same in all runs."""
        parts = [
            np.diff(run.times) for run in self.segments if run.times is not None and len(run) > 1
        ]
        if not parts or any(run.times is None for run in self.segments):
            return None
        steps = np.concatenate(parts)
        # Over whole runs rounding of single times averages out.
        middle = float(np.mean(steps))
        if middle <= 0 or np.abs(steps - middle).max() > EVEN * middle + 2e-3:
            return None
        return middle

    @property
    def duration(self) -> float | None:
        """Time simulated in fs, summed over runs; None if the interval is unknown."""
        interval = self.interval
        if interval is None:
            return None
        return interval * sum(len(run) - 1 for run in self.segments)

    def series(self, name: str) -> list[np.ndarray]:
        """Return one array of each run: ``positions``, ``velocities`` or ``energies``."""
        return [getattr(run, name) for run in self.segments]

    def pooled(self, name: str, at_most: int | None = None) -> np.ndarray:
        """Return the frames of all runs one after the other, or evenly spread ones of them."""
        if at_most is None or self.frames <= at_most:
            return np.concatenate(self.series(name))
        picks = np.linspace(0, self.frames - 1, at_most).astype(int)
        ends = np.cumsum([len(run) for run in self.segments])
        parts, first = [], 0
        for run, end in zip(self.segments, ends, strict=True):
            here = picks[(picks >= first) & (picks < end)] - first
            parts.append(getattr(run, name)[here])
            first = int(end)
        return np.concatenate(parts)

    @property
    def charge(self) -> int:
        """Total charge in e, 0 if nothing states it.

        Raises
        ------
        DataError
            If nothing does, and a neutral molecule would have an unpaired electron: then it is an
            ion or a radical, and energies of the one are none of the other.
        """
        if self.stated_charge is None and int(self.numbers.sum()) % 2:
            raise DataError(
                f"{self.name} does not state its charge, and neutral {formula(self.numbers)} has "
                "an odd number of electrons: give --charge (charge= in Python), 0 for a radical"
            )
        return self.stated_charge or 0

    def atoms(self, frame: int = 0) -> Atoms:
        """Return the molecule as in a frame of the first run, with its charge.

        Raises
        ------
        DataError
            As `charge`.
        """
        atoms = Atoms(self.numbers, positions=self.segments[0].positions[frame], masses=self.masses)
        if self.charge:
            set_charge(atoms, self.charge)
        return atoms

    def structures(self, at_most: int) -> list[Atoms]:
        """Return the molecule as in evenly spread frames of all runs; errors as `atoms`."""
        found = []
        for positions in self.pooled("positions", at_most):
            found.append(self.atoms())
            found[-1].positions = positions
        return found

    def kinetic_energies(self) -> list[np.ndarray]:
        """Return the kinetic energies of each run in eV, the centre of mass's included."""
        half = 0.5 * AMU_A2_FS2_IN_EV * self.masses
        return [np.einsum("n,tnx,tnx->t", half, v, v) for v in self.series("velocities")]

    def reordered(self, order: ArrayLike) -> Trajectory:
        """Return the same with atom ``order[i]`` in place ``i``."""
        order = np.asarray(order)
        runs = tuple(
            replace(
                run,
                positions=run.positions[:, order],
                velocities=None if run.velocities is None else run.velocities[:, order],
            )
            for run in self.segments
        )
        return replace(
            self, numbers=self.numbers[order], masses=self.masses[order], segments=runs
        ).noting(f"its atoms were taken in the order {' '.join(map(str, order))}")

    def discarding(self, time: float) -> Trajectory:
        """Return the same without the first so many fs of each run.

        Raises
        ------
        DataError
            If times are unknown or nothing is left.
        """
        if time <= 0:
            return self
        interval = self.interval
        if interval is None:
            raise DataError(f"the times of {self.name} are unknown: nothing can be discarded")
        skip = int(np.ceil(time / interval - 1e-6))
        runs = tuple(run[skip:] for run in self.segments if len(run) > skip)
        if not runs:
            raise DataError(f"every run of {self.name} is shorter than the discarded {time:g} fs")
        return replace(self, segments=runs).noting(
            f"the first {time:g} fs of each run were left out"
        )

    def noting(self, *sentences: str) -> Trajectory:
        """Return the same with more notes."""
        return replace(self, notes=(*self.notes, *sentences))

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)


def split_runs(whole: Segment) -> tuple[list[Segment], list[str]]:
    """Cut a file's frames where its times jump, as where runs were appended to each other.

    Returns
    -------
    The runs, and what is to be noted. Frames whose times are uneven throughout stay one run
    without times.
    """
    if whole.times is None or len(whole) < 3:
        return [whole], []
    steps = np.diff(whole.times)
    usual = float(np.median(steps))
    rounding = 4e-7 * float(np.abs(whole.times).max())
    jumps = np.flatnonzero(np.abs(steps - usual) > EVEN * abs(usual) + rounding + 1e-9) + 1
    if usual <= 0 or len(jumps) > 0.1 * len(whole):
        bare = replace(whole, times=None)
        return [bare], ["its frames are unevenly spaced in time: they were taken without times"]
    ends = [0, *jumps.tolist(), len(whole)]
    runs = [whole[first:last] for first, last in itertools.pairwise(ends)]
    notes = [f"its times jump, and it was taken as {len(runs)} runs"] if len(runs) > 1 else []
    return runs, notes
