"""What every trajectory writer shares: checked frames, their times, whole frames on disk."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import Atoms

from ase_atom.errors import TrajectoryError
from ase_atom.io.ase_frames import results_at_hand
from ase_atom.io.cells import check_cells
from ase_atom.io.formats import formats
from ase_atom.io.frames import FrameBlock
from ase_atom.io.interrupts import Uninterrupted
from ase_atom.io.output import lock_output
from ase_atom.molecules.atoms import stated_charge
from ase_atom.molecules.coverage import MASS_TOLERANCE
from ase_atom.molecules.topology import atom_label, formula
from ase_atom.units import format_charge, velocities_from_ase

if TYPE_CHECKING:
    from ase_atom.io.reader import TrajectoryReader


class TrajectoryWriter(ABC):
    """Write the frames of one molecule or system to one file.

    Every frame is with the operating system when `write` or `write_frames` returns. If a frame
    cannot be written, the file is cut back to the whole frames before it, or removed if there is
    none. `write` serves as an ASE observer, and the writer as a context manager.

    Parameters
    ----------
    path
        The file; see `ase_atom.io.open_trajectory`, which makes writers.
    atoms
        The molecule; its elements, masses, charge and cell. `write` without an argument writes it.
    reader
        The reader of the same format, of a file to append to; None makes a new file.
    frame_interval
        Time between frames in fs, for frames that come without their times.
    start_time
        Time of the first frame to be written, in fs.
    file
        The file, opened by `ase_atom.io.output.lock_output`; by default it is opened here. Nobody
        else writes it until the writer is closed.

    Attributes
    ----------
    frames
        Number of whole frames in the file.
    beside
        Files that go with the trajectory, and go if not even its first frame can be written.
    """

    bytes_per_atom: ClassVar[int] = 0
    """What a frame takes for each of its atoms, at the very least."""
    holds_velocities: ClassVar[bool] = False
    holds_energies: ClassVar[bool] = False
    holds_forces: ClassVar[bool] = False
    holds_masses: ClassVar[bool] = False
    holds_any_cell: ClassVar[bool] = False
    """Whether cell vectors may point anywhere, and repeat along some only."""
    holds_later_cells: ClassVar[bool] = False
    """Whether frames may have a cell where the first has none."""
    holds_missing_cells: ClassVar[bool] = False
    """Whether frames may have no cell where the first has one."""
    holds_later_velocities: ClassVar[bool] = False
    """Whether frames may have velocities where the first has none."""

    cuts_damaged_files: ClassVar[bool] = True
    """Whether what lies behind the whole frames of a damaged file is cut off before appending."""

    def __init__(
        self,
        path: Path,
        atoms: Atoms,
        reader: TrajectoryReader | None = None,
        frame_interval: float | None = None,
        start_time: float | None = None,
        file: FileIO | None = None,
    ) -> None:
        self.path = path
        self.atoms = atoms
        self.numbers = atoms.numbers.copy()
        self.masses = atoms.get_masses()
        self.charge = stated_charge(atoms)
        self.pbc = atoms.pbc.copy()
        self.periodic = bool(atoms.pbc.any())
        self.frames = 0
        self.beside: list[Path] = []
        self.frame_interval = frame_interval
        # Frames without times are counted from here.
        self._origin = 0.0 if start_time is None else start_time
        self._since_origin = 0
        self._closed = False
        if self.periodic and not self.holds_any_cell:
            check_cells(atoms.cell.array[None], path)
        if reader is not None:
            self._continue(reader, start_time)
        try:
            with Uninterrupted():
                self._output = lock_output(path) if file is None else file
                self._open(reader)
        except (OSError, TrajectoryError) as error:
            with contextlib.suppress(AttributeError, OSError):  # of a file that was not opened
                self._close()
                self._output.close()
            if isinstance(error, TrajectoryError):
                raise
            raise self._failed(error) from error

    def write(
        self,
        atoms: Atoms | None = None,
        *,
        time: float | None = None,
        expected_error: float | None = None,
        stride: float | None = None,
    ) -> None:
        """Append one frame; made for ``dyn.attach(writer.write, interval=10)``.

        Energy and forces that the calculator has at hand are stored where the format holds them;
        nothing is calculated.

        Parameters
        ----------
        atoms
            What to write; by default the atoms that the trajectory was opened with, as they are
            now.
        time
            In fs; by default one frame interval after the frame before.
        expected_error, stride
            Of the jump that the frame lies on, see `FrameBlock`, for the formats that hold
            energies.

        Raises
        ------
        TrajectoryError
            As `write_frames`, or if these are other atoms.
        """
        # Optimisers hand over what is optimised, which need not be the atoms themselves.
        for image in (self.atoms if atoms is None else atoms).iterimages():
            self._write_atoms(image, time, expected_error, stride)

    def _write_atoms(
        self, atoms: Atoms, time: float | None, error: float | None, stride: float | None
    ) -> None:
        if not np.array_equal(atoms.numbers, self.numbers):
            raise TrajectoryError(
                f"{self.path} holds {len(self.numbers)} atoms, {formula(self.numbers)}; these are "
                f"{len(atoms)}, {formula(atoms.numbers)}"
                + (", in another order" if sorted(atoms.numbers) == sorted(self.numbers) else "")
            )
        velocities = energies = forces = None
        if self.holds_velocities and atoms.has("momenta"):
            velocities = velocities_from_ase(atoms.get_velocities())[None]
        if (self.holds_energies or self.holds_forces) and atoms.calc is not None:
            energies, forces = results_at_hand(atoms)
        periodic = bool(atoms.pbc.any())
        self.write_block(
            FrameBlock(
                atoms.positions[None],
                velocities,
                self._times(None if time is None else [time], 1),
                atoms.cell.array[None] if periodic else None,
                energies,
                forces,
                atoms.pbc[None] if periodic else None,
                None if error is None else np.array([error]),
                None if stride is None else np.array([stride]),
            ),
            counted=time is None,
        )

    def write_frames(
        self,
        positions: np.ndarray,
        velocities: np.ndarray | None = None,
        times: Sequence[float] | np.ndarray | None = None,
        *,
        cells: np.ndarray | None = None,
        energies: np.ndarray | None = None,
        forces: np.ndarray | None = None,
        expected_errors: np.ndarray | None = None,
        strides: np.ndarray | None = None,
    ) -> None:
        """Append frames.

        Parameters
        ----------
        positions, velocities
            Å and Å/fs, ``[T, N, 3]``. Formats without velocities leave them out.
        times
            fs, ``[T]``; by default frame intervals are counted on from the frame before.
        cells
            Cell vectors in Å, ``[T, 3, 3]``; by default those of the atoms, if periodic.
        energies, forces
            eV, ``[T]``, and eV/Å, ``[T, N, 3]``, for the formats that hold them.
        expected_errors, strides
            Of the jumps that the frames lie on, ``[T]``, see `FrameBlock`, for the formats that
            hold energies.

        Raises
        ------
        TrajectoryError
            If the writer is closed, shapes do not fit, a time is unknown or does not fit the
            format, a number is not finite, or the disk does not take the frames. Frames before
            the first that is not finite, or that there is no place for, are kept.
        """
        if self._closed:
            raise TrajectoryError(f"{self.path} is closed: no frame can be added")
        positions = np.asarray(positions)
        count, shape = len(positions), (len(self.numbers), 3)
        for what, array, expected in (
            ("positions", positions, (count, *shape)),
            ("velocities", velocities, (count, *shape)),
            ("forces", forces, (count, *shape)),
            ("cells", cells, (count, 3, 3)),
            ("energies", energies, (count,)),
            ("expected errors", expected_errors, (count,)),
            ("strides", strides, (count,)),
            ("times", times, (count,)),
        ):
            if array is not None and np.shape(array) != expected:
                raise TrajectoryError(
                    f"{what} of {count} frames of {self.path} are {list(expected)}, "
                    f"not {list(np.shape(array))}"
                )
        if not self.periodic and cells is not None:
            raise TrajectoryError(f"{self.path} was opened for atoms without a cell")
        if self.periodic and cells is None:
            cells = np.repeat(self.atoms.cell.array[None], count, axis=0)
        block = FrameBlock(
            positions,
            None if velocities is None else np.asarray(velocities),
            self._times(times, count),
            cells,
            None if energies is None else np.asarray(energies),
            None if forces is None else np.asarray(forces),
            np.repeat(self.pbc[None], count, axis=0) if self.periodic else None,
            None if expected_errors is None else np.asarray(expected_errors),
            None if strides is None else np.asarray(strides),
        )
        self.write_block(block, counted=times is None)

    def write_block(self, block: FrameBlock, *, counted: bool = False) -> None:
        """Append frames as they are: what a block does not have, they do not have.

        Parameters
        ----------
        block
            Frames with their times.
        counted
            Whether the times are this writer's own, counted on from the frame before.

        Raises
        ------
        TrajectoryError
            As `write_frames`, or if the format cannot hold such frames behind those before.
        """
        if self._closed:
            raise TrajectoryError(f"{self.path} is closed: no frame can be added")
        if block.times is None:
            raise TrajectoryError(f"frames for {self.path} need times")
        good = block.finite()
        if good:
            with Uninterrupted():
                self._put((block[:good] if good < len(block) else block).contiguous())
                if counted:
                    self._since_origin += good
                else:
                    self._origin, self._since_origin = float(block.times[good - 1]), 1
        if good < len(block):
            raise TrajectoryError(
                f"the frame at {block.times[good]:g} fs for {self.path} is not finite"
            )

    @property
    def last_time(self) -> float | None:
        """Time of the last frame in fs, None before the first."""
        if not self._since_origin:
            return None
        return self._origin + (self.frame_interval or 0.0) * (self._since_origin - 1)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if not self._closed:
            with Uninterrupted():
                self._closed = True
                try:
                    self._close()
                finally:
                    self._output.close()

    def remove(self) -> None:
        """Close the file, and remove it and the files that go with it."""
        with Uninterrupted():
            if not self._closed:
                self._closed = True
                with contextlib.suppress(OSError, RuntimeError):
                    self._close()
            for file in (self.path, *self.beside):  # before others may write them
                file.unlink(missing_ok=True)
            self._output.close()

    def set_description(self, description: dict[str, Any]) -> None:  # noqa: B027 - as it says
        """Take ASE's description of a run, which it offers to files given as ``trajectory=``.

        Only ``.traj`` has a place for it.
        """

    def __len__(self) -> int:
        """Return the number of whole frames in the file, as ASE's optimisers ask."""
        return self.frames

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _open(self, reader: TrajectoryReader | None) -> None:
        """Make the file, or get ready to append to that of the reader."""

    @abstractmethod
    def _append(self, block: FrameBlock) -> None:
        """Append frames that are known to be good, counting `frames` as they get whole."""

    @abstractmethod
    def _close(self) -> None:
        """Cut the file back to its whole frames, and close what was opened beside it."""

    def _put(self, block: FrameBlock) -> None:
        if block.cells is not None and not self.holds_any_cell:
            check_cells(block.cells, self.path)
        if block.cells is not None and not (self.periodic or self.holds_later_cells):
            why = "has a cell, and the first has none"
            raise self._refused(block, why, "holds_later_cells")
        if block.cells is None and self.periodic and not self.holds_missing_cells:
            why = "has no cell, and the first has one"
            raise self._refused(block, why, "holds_later_cells")
        self._check(block)
        try:
            self._append(block)
        except (OSError, RuntimeError) as error:
            if self.frames:
                with contextlib.suppress(OSError, RuntimeError):
                    self.close()
            else:
                self.remove()
            raise self._failed(error) from error

    def _check(self, block: FrameBlock) -> None:  # noqa: B027 - most formats take any frame
        """Raise TrajectoryError for frames that the format cannot hold."""

    def _refused(self, block: FrameBlock, why: str, need: str) -> TrajectoryError:
        """Return the error for a frame that does not go with those before, and what would do."""
        able = [
            ending
            for one in formats()
            if one.writer and getattr(one.writer_class(), need)
            for ending in one.endings
        ]
        return TrajectoryError(
            f"{self.path} cannot hold frame {self.frames + 1}, at {block.known_times[0]:g} fs, "
            f"which {why}: {', '.join(able)} hold frames with and without"
        )

    def _times(self, times: Sequence[float] | np.ndarray | None, count: int) -> np.ndarray:
        if times is not None:
            return np.asarray(times, dtype=np.float64)
        if self.frame_interval is None:
            raise TrajectoryError(
                f"the time of a frame of {self.path} is unknown: open the trajectory with "
                "frame_interval= in fs, or give the time"
            )
        return self._origin + self.frame_interval * (self._since_origin + np.arange(count))

    def _continue(self, reader: TrajectoryReader, start_time: float | None) -> None:
        """Take over frames and times of an existing file."""
        if self.holds_masses:
            differ = np.abs(reader.masses - self.masses) > MASS_TOLERANCE
            if differ.any():
                atom = int(np.argmax(differ))
                raise TrajectoryError(
                    f"atom {atom_label(self.numbers, atom)} has a mass of "
                    f"{reader.masses[atom]:.3f} amu in {self.path}; frames with "
                    f"{self.masses[atom]:.3f} amu cannot be appended"
                )
        there = reader.own_charge
        if there is not None and self.charge is not None and there != self.charge:
            raise TrajectoryError(
                f"{self.path} is of a molecule of charge {format_charge(there)}; frames of charge "
                f"{format_charge(self.charge)} cannot be appended"
            )
        self.frames = len(reader)
        if self.frames and self.frame_interval is None:
            self.frame_interval = reader.frame_interval()
        last = reader.last_time() if self.frames and start_time is None else None
        if last is not None:
            self._origin, self._since_origin = last, 1

    def _failed(self, error: Exception) -> TrajectoryError:
        reason = getattr(error, "strerror", None) or str(error)
        kept = f"; its first {self.frames} frames are kept" if self.frames else ""
        return TrajectoryError(f"cannot write {self.path}: {reason}{kept}")
