"""Start states with the frames that follow them, and how they are divided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.errors import DataError
from training.benchmarks.trajectories import Trajectory

SPLITS = ("random", "blocks")
"""The published split, by random frames, and an honest one, by blocks of time; always both."""

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Samples:
    """States and what became of them. Shapes: B states, N atoms of the largest molecule, P frames.

    Attributes
    ----------
    numbers, masses
        ``[B, N]``, 0 on padding; masses in amu.
    positions, velocities
        Å and Å/fs, ``[B, N, 3]``; velocities are forward differences of frames, as published.
    targets
        Positions at the multiples of Δ/P, Å, ``[B, P, N, 3]``.
    hops
        1 for bonded atoms, 2 for those that share a neighbour, else 0, ``[B, N, N]``.
    molecule
        Index of the molecule, ``[B]``.
    start
        Number of the start frame, ``[B]``.
    first
        Positions in the first frame of the trajectory, Å, ``[B, N, 3]``.
    """

    numbers: Tensor
    masses: Tensor
    positions: Tensor
    velocities: Tensor
    targets: Tensor
    hops: Tensor
    molecule: Tensor
    start: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def select(self, rows: Tensor | slice) -> Samples:
        """Some of the states."""
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, target: torch.device | torch.dtype) -> Samples:
        """The same on a device, or with another floating-point type."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(target, torch.device) or value.is_floating_point():
                moved[field.name] = value.to(target)
        return replace(self, **moved)

    @property
    def mask(self) -> Tensor:
        """True where there is an atom, ``[B, N]``."""
        return self.numbers > 0

    @staticmethod
    def join(parts: Iterable[Samples]) -> Samples:
        """States of several molecules, padded to the largest."""
        parts = list(parts)
        size = max(part.numbers.shape[1] for part in parts)
        # Which axes of each field count atoms.
        axes = {"numbers": [1], "masses": [1], "targets": [2], "hops": [1, 2]}
        axes |= {"positions": [1], "velocities": [1], "molecule": [], "start": [], "first": [1]}

        def padded(name: str, value: Tensor) -> Tensor:
            for axis in axes[name]:
                shape = list(value.shape)
                shape[axis] = size - shape[axis]
                value = torch.cat([value, value.new_zeros(shape)], dim=axis)
            return value

        names = [field.name for field in fields(Samples)]
        return Samples(
            *(torch.cat([padded(name, getattr(part, name)) for part in parts]) for name in names)
        )


class Window(NamedTuple):
    """Horizon of a task in frames, and the number of frames to predict."""

    delta: int
    timesteps: int

    def offsets(self) -> NDArray:
        """Frames from the start to each target, rounded down to whole frames, ``[P]``."""
        return np.arange(1, self.timesteps + 1) * self.delta // self.timesteps


def valid_starts(trajectory: Trajectory, window: Window, margin: int) -> NDArray:
    """Numbers of the frames from which a window can start, increasing.

    All its frames must be there, and the one after the start, for the velocity. The first and the
    last ``margin`` frames are left out, as published.
    """
    first, last = trajectory.frames[0] + margin, trajectory.frames[-1] - margin - window.delta
    starts = trajectory.frames[(trajectory.frames >= first) & (trajectory.frames <= last)]
    complete = np.ones(len(starts), dtype=bool)
    for offset in (1, *window.offsets()):
        complete &= trajectory.places(starts + offset) >= 0
    return starts[complete]


def random_split(
    starts: NDArray,
    counts: tuple[int, int, int],
    shares: tuple[float, float, float] = (0.1, 0.05, 0.05),
    seed: int = 100,
) -> list[NDArray]:
    """The published split: frames drawn at random from the whole trajectory, then cut.

    Shares of the starts, one after another and each from what is left, of which the first
    ``counts`` are taken; 10, 5 and 5 % as published for MD17. Windows of the three parts overlap.
    """
    draw = np.random.RandomState(seed)
    left, parts = np.ones(len(starts), dtype=bool), []
    for share, count in zip(shares, counts, strict=True):
        # Short trajectories would leave too few: then the share is what the count asks for.
        size = min(max(int(share * len(starts)), count), int(left.sum()))
        chosen = draw.choice(np.flatnonzero(left), size, replace=False)
        left[chosen] = False
        parts.append(starts[chosen[:count]])
    return parts


def block_split(
    starts: NDArray,
    counts: tuple[int, int, int],
    delta: int,
    shares: tuple[float, float, float] = (0.5, 0.2, 0.3),
    most: int = 12,
    seed: int = 100,
) -> list[NDArray]:
    """An honest split: blocks of time, with at least Δ between the windows of different parts.

    Training, validation and test take turns, in as many rounds up to ``most`` as leave at least
    half of the starts outside the gaps. A window of one part ends at least Δ before any of
    another begins.

    Raises
    ------
    DataError
        If the trajectory is too short for three blocks.
    """
    low, high = int(starts[0]), int(starts[-1]) + 1
    gap = 2 * delta
    rounds = next(
        (n for n in range(most, 1, -1) if (high - low) - gap * (3 * n - 1) >= (high - low) / 2), 1
    )
    room = (high - low) - gap * (3 * rounds - 1)
    if room < 3 * rounds:
        raise DataError(
            f"{high - low} start frames are too few for blocks of training, validation and test "
            f"with gaps for Δ = {delta} frames: take a longer trajectory or a shorter Δ"
        )
    allowed: list[list[NDArray]] = [[], [], []]
    # Edges are cut from running totals so that rounding does not add up.
    used = 0.0
    for turn in range(3 * rounds):
        length = shares[turn % 3] / sum(shares) * room / rounds
        begin, end = (low + gap * turn + round(edge) for edge in (used, used + length))
        allowed[turn % 3].append(starts[(starts >= begin) & (starts < end)])
        used += length
    draw = np.random.RandomState(seed)
    parts = []
    for blocks, count in zip(allowed, counts, strict=True):
        those = np.concatenate(blocks)
        parts.append(draw.choice(those, min(count, len(those)), replace=False))
    return parts


def split_starts(
    trajectory: Trajectory,
    window: Window,
    margin: int,
    counts: tuple[int, int, int],
    split: str,
    only: str | None = None,
    shares: tuple[float, float, float] = (0.1, 0.05, 0.05),
) -> list[NDArray]:
    """Start frames of training, validation and test under a split of `SPLITS`.

    A molecule that stands in one part alone, ``only``, needs no gaps between blocks of time: that
    part takes its starts from the whole trajectory, and the others get none. ``shares`` are those
    of `random_split`.

    Raises
    ------
    DataError
        If there are too few.
    """
    starts = valid_starts(trajectory, window, margin)
    if len(starts) < 10:
        missing = 1 + trajectory.frames[-1] - trajectory.frames[0] - len(trajectory.frames)
        why = f" ({missing} frames are missing in between)" if missing else ""
        raise DataError(
            f"{trajectory.source} has {len(starts)} complete windows of Δ = {window.delta} "
            f"frames{why}: too few to learn from"
        )
    if split == "random":
        # Of a molecule in one part alone the other parts are not looked at.
        asked = tuple(n if only in (None, p) else 0 for p, n in zip(PARTS, counts, strict=True))
        return _filled(random_split(starts, counts, shares), asked, trajectory, window)
    if only is not None:
        draw, count = np.random.RandomState(100), counts[PARTS.index(only)]
        chosen = draw.choice(starts, min(count, len(starts)), replace=False)
        return [chosen if part == only else starts[:0] for part in PARTS]
    return _filled(block_split(starts, counts, window.delta), counts, trajectory, window)


def _filled(
    parts: list[NDArray], counts: tuple[int, int, int], trajectory: Trajectory, window: Window
) -> list[NDArray]:
    """The parts, if each that starts are asked for has one."""
    for part, starts, count in zip(PARTS, parts, counts, strict=True):
        if count and not len(starts):
            raise DataError(
                f"{trajectory.source} has too few complete windows of Δ = {window.delta} frames: "
                f"none is left for the {part} part"
            )
    return parts


def make_samples(
    trajectory: Trajectory, starts: NDArray, window: Window, molecule: int = 0
) -> Samples:
    """States at start frames, and their targets, in single precision."""
    count, atoms = len(starts), len(trajectory.numbers)
    here, after = trajectory.places(starts), trajectory.places(starts + 1)
    later = trajectory.places(starts[:, None] + window.offsets())
    x = trajectory.positions
    velocities = (x[after] - x[here]) / trajectory.interval

    def each(row: NDArray, kind: torch.dtype) -> Tensor:
        return torch.as_tensor(row).to(kind).expand(count, *row.shape).clone()

    return Samples(
        numbers=each(trajectory.numbers, torch.long),
        masses=each(trajectory.masses, torch.float32),
        positions=torch.as_tensor(x[here]).float(),
        velocities=torch.as_tensor(velocities).float(),
        targets=torch.as_tensor(x[later]).float().reshape(count, window.timesteps, atoms, 3),
        hops=each(trajectory.hops(), torch.long),
        molecule=torch.full((count,), molecule),
        start=torch.as_tensor(np.asarray(starts)).long(),
        first=each(x[0], torch.float32),
    )
