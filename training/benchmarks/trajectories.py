"""Trajectories in the layouts of MD17, rMD17, MD22 and TG80, read exactly as distributed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_masses
from numpy.typing import NDArray

from ase_atom.errors import DataError
from ase_atom.io.guard import reading
from ase_atom.io.npz import PlainArchive
from training.data.md17 import fingerprint
from training.data.store import read_burst

_ORDER_PAIRS = 200
_ORDER_RATIO = 0.5


@dataclass(frozen=True)
class Trajectory:
    """Frames of one molecule in time order.

    Attributes
    ----------
    name
        Of the molecule.
    numbers
        Atomic numbers, ``[N]``.
    positions
        Å, ``[T, N, 3]``.
    frames
        Number of each frame in the original trajectory, increasing, ``[T]``; numbers may be
        missing, as in rMD17.
    interval
        Time between two successive numbers, fs.
    source
        File it was read from.
    """

    name: str
    numbers: NDArray
    positions: NDArray
    frames: NDArray
    interval: float
    source: str

    @property
    def masses(self) -> NDArray:
        """Standard atomic masses, amu, ``[N]``."""
        return atomic_masses[self.numbers]

    def heavy(self) -> Trajectory:
        """The same without hydrogens."""
        kept = self.numbers > 1
        return replace(self, numbers=self.numbers[kept], positions=self.positions[:, kept])

    def places(self, frames: NDArray) -> NDArray:
        """Where frames of given numbers are among the positions; −1 for those missing."""
        place = np.searchsorted(self.frames, frames).clip(max=len(self.frames) - 1)
        return np.where(self.frames[place] == frames, place, -1)

    def hops(self, bond: float = 1.6) -> NDArray:
        """1 for bonded atoms, 2 for those that share a neighbour, else 0, ``[N, N]``.

        Bonds are pairs closer than ``bond`` (Å) in the first frame, the published rule.
        """
        first = self.positions[0]
        gap = np.linalg.norm(first[:, None] - first[None], axis=-1)
        bonded = (gap < bond) & ~np.eye(len(first), dtype=bool)
        second = (bonded.astype(int) @ bonded > 0) & ~bonded & ~np.eye(len(first), dtype=bool)
        return bonded + 2 * second


def read_arrays(
    path: Path, needed: tuple[str, ...], more: tuple[str, ...] = ()
) -> dict[str, NDArray]:
    """Read arrays of an ``.npz`` file by name.

    Parameters
    ----------
    path
        The file.
    needed, more
        Names; those of ``more`` may be missing.

    Raises
    ------
    DataError
        If there is no such file, it is damaged, or an array that is needed is missing.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    with (
        reading(f"{path}:", DataError, what="is damaged or no npz file"),
        PlainArchive(path) as file,
    ):
        missing = [key for key in needed if key not in file]
        if missing:
            raise DataError(f"{path} has no {', '.join(missing)}; it holds {', '.join(file)}")
        return {key: file[key] for key in (*needed, *more) if key in file}


def read_md17(path: Path, name: str, interval: float = 0.5) -> Trajectory:
    """Read the layout of MD17 and MD22: ``R [T, N, 3]``, ``z [N]``, and more that is not needed.

    Parameters
    ----------
    path
        An ``.npz`` file.
    name
        Of the molecule.
    interval
        Between frames, fs: 0.5 in MD17, 1 in MD22.

    Raises
    ------
    DataError
        If the file is not of the layout, or its frames are in no time order.
    """
    arrays = read_arrays(path, ("z", "R"))
    return _trajectory(path, name, arrays["z"], arrays["R"], None, interval)


def read_rmd17(path: Path, name: str, interval: float = 0.5) -> Trajectory:
    """Read the layout of rMD17, whose frames are shuffled, and put them back in order of time.

    ``coords``, ``nuclear_charges`` and ``old_indices``, each frame's number in MD17. rMD17 holds
    100 000 of MD17's frames, so that numbers are missing in between.

    Raises
    ------
    DataError
        If the file has no ``old_indices``, or some occur twice: then its order is lost.
    """
    arrays = read_arrays(path, ("nuclear_charges", "coords"), ("old_indices",))
    if "old_indices" not in arrays:
        raise DataError(
            f"{path} has no old_indices: rMD17's frames are shuffled, and without them their order "
            "in time cannot be restored"
        )
    old = np.asarray(arrays["old_indices"]).astype(np.int64).ravel()
    if len(old) != len(arrays["coords"]) or len(np.unique(old)) != len(old) or (old < 0).any():
        raise DataError(f"{path}: old_indices are not one frame number each: time order is lost")
    return _trajectory(path, name, arrays["nuclear_charges"], arrays["coords"], old, interval)


def read_tg80(path: Path, name: str, interval: float = 1.0) -> Trajectory:
    """Read the layout of TG80: rMD17's, 1 fs apart and in order unless ``old_indices`` says else.

    Or one burst of this package, whose frames are put on their centre of mass.

    Raises
    ------
    DataError
        If the file is not of the layout, or its frames are in no time order.
    """
    if path.suffix == ".h5":
        return _read_burst(path, name)
    arrays = read_arrays(path, ("nuclear_charges", "coords"), ("old_indices",))
    if "old_indices" in arrays:
        return read_rmd17(path, name, interval)
    return _trajectory(path, name, arrays["nuclear_charges"], arrays["coords"], None, interval)


def read_md22(path: Path, name: str) -> Trajectory:
    """Read the layout of MD22, MD17's at 1 fs."""
    return read_md17(path, name, interval=1.0)


READERS: dict[str, Callable[[Path, str], Trajectory]] = {
    "md17": read_md17,
    "rmd17": read_rmd17,
    "md22": read_md22,
    "tg80": read_tg80,
}


def check_fingerprint(path: Path) -> None:
    """Compare the fingerprint in an MD17 or MD22 file with its contents.

    Raises
    ------
    DataError
        If it has none or they differ.
    """
    arrays = read_arrays(path, ("z", "R", "E", "F", "md5"))
    told = arrays["md5"].item()
    told = told.decode() if isinstance(told, bytes) else str(told)
    if fingerprint(arrays) != told:
        raise DataError(f"{path} is damaged: its contents do not have the MD5 it carries ({told})")


def _read_burst(path: Path, name: str) -> Trajectory:
    burst = read_burst(path)
    found = _trajectory(path, name, burst.numbers, burst.positions, None, burst.interval)
    # Kicks of the thermostat move it by several Å in 10 ps, which says nothing of the molecule.
    weights = found.masses / found.masses.sum()
    centre = np.einsum("fnx,n->fx", found.positions, weights)[:, None]
    return replace(found, positions=found.positions - centre)


def _trajectory(
    path: Path,
    name: str,
    numbers: NDArray,
    positions: NDArray,
    frames: NDArray | None,
    interval: float,
) -> Trajectory:
    numbers = np.asarray(numbers).astype(np.int64).ravel()
    if positions.ndim != 3 or positions.shape[1:] != (len(numbers), 3):
        raise DataError(
            f"{path}: positions have shape {list(positions.shape)}, not frames × {len(numbers)} × 3"
        )
    if len(numbers) == 0 or not 0 < numbers.min() <= numbers.max() < len(atomic_masses):
        raise DataError(f"{path}: {numbers.tolist()} are not atomic numbers")
    if frames is None:
        frames = np.arange(len(positions))
    else:
        order = np.argsort(frames)
        frames, positions = frames[order], positions[order]
    if not np.isfinite(positions).all():
        raise DataError(f"{path}: holds a position that is not finite")
    found = Trajectory(name, numbers, positions, frames, interval, str(path))
    _check_order(found)
    return found


def _check_order(trajectory: Trajectory) -> None:
    """Refuse frames in no time order: then successive ones are as far apart as any two."""
    follows = np.flatnonzero(np.diff(trajectory.frames) == 1)
    if len(follows) < _ORDER_PAIRS:
        return
    rng = np.random.default_rng(0)
    chosen = rng.choice(follows, _ORDER_PAIRS, replace=False)
    any_two = rng.integers(len(trajectory.positions), size=(2, _ORDER_PAIRS))
    x = trajectory.positions
    near = np.sqrt(((x[chosen + 1] - x[chosen]) ** 2).mean())
    far = np.sqrt(((x[any_two[0]] - x[any_two[1]]) ** 2).mean())
    if near > _ORDER_RATIO * far:
        raise DataError(
            f"{trajectory.source}: frames are in no time order (successive ones differ by "
            f"{near:.2g} Å, any two by {far:.2g} Å): there are no trajectories to learn from"
        )
