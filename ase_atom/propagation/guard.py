"""The guard: says when and why a simulated state is no molecule any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ase_atom.errors import BrokenStateError
from ase_atom.molecules.topology import numbered_names, perceive_bonds, radii
from ase_atom.propagation.mechanics import Array, Bodies, array
from ase_atom.state import PhaseState
from ase_atom.units import format_time

CLOSEST = 0.5
"""Least distance of two atoms, as a fraction of the sum of their covalent radii."""

LONGEST = 1.5
"""Greatest length of a bond, as a multiple of its length at the start."""


@dataclass(frozen=True)
class Label:
    """What a molecule and its atoms are called in messages.

    Parameters
    ----------
    molecule
        Such as ``caffeine.xyz``.
    atoms
        A name for each atom.
    """

    molecule: str
    atoms: tuple[str, ...]


@dataclass(frozen=True)
class Guard:
    """Limits on the distances of a batch of molecules, taken from their first state.

    A frame is broken if a position or velocity is not finite, two atoms are closer than `CLOSEST`
    times the sum of their covalent radii, or a bond (perceived at the start) is longer than
    `LONGEST` times its length at the start.

    Parameters
    ----------
    start
        The state that they are taken from, ``[B, N]``.
    first, second
        The two atoms of each pair, ``[P]``.
    lower, upper
        Allowed distances of each pair in Å, ``[B, P]``; `upper` is infinite without a bond, and
        `lower` is below zero for padding.
    labels
        What the molecules are called, by default ``replica 0`` and so on, or ``the molecule``.
    """

    start: PhaseState
    first: Tensor
    second: Tensor
    lower: Tensor
    upper: Tensor
    labels: Sequence[Label]

    @classmethod
    def watch(cls, state: PhaseState, labels: Sequence[Label] | None = None) -> Guard:
        """Take the limits from a batch's first state."""
        size = state.numbers.shape[1]
        first, second = torch.triu_indices(size, size, offset=1, device=state.device)
        numbers = state.numbers.cpu().numpy()
        limits = torch.as_tensor(CLOSEST * radii(numbers), device=state.device)
        real = state.mask[:, first] & state.mask[:, second]
        lower = torch.where(real, limits[:, first] + limits[:, second], -1.0)
        bonded = torch.zeros((state.batch_size, size, size), dtype=torch.bool)
        for row, atoms in enumerate(state.to_atoms()):
            if np.isfinite(atoms.positions).all():
                for i, j in perceive_bonds(atoms.numbers, atoms.positions):
                    bonded[row, i, j] = True
        lengths = _distances(state.positions, first, second)
        upper = torch.where(bonded.to(state.device)[:, first, second], LONGEST * lengths, math.inf)
        return cls(state, first, second, lower, upper, labels or _counted(numbers))

    @np.errstate(over="ignore", invalid="ignore")
    def first_broken(self, positions: Tensor, velocities: Tensor) -> Tensor:
        """Return the index of each molecule's first broken frame, T where all are good.

        Parameters
        ----------
        positions, velocities
            Frames in Å and Å/fs, ``[B, T, N, 3]``.

        Returns
        -------
        int64 ``[B]`` on the CPU.
        """
        x, v = array(positions), array(velocities)
        return torch.from_numpy(Bodies.of(self.start).first_outside(x, v, self._squares))

    @cached_property
    def _squares(self) -> tuple[Array, ...]:
        """See `Bodies.first_outside`."""
        lower, upper = array(self.lower), array(self.upper)
        least = np.where(lower < 0, -1.0, lower * lower)
        return self.first.cpu().numpy(), self.second.cpu().numpy(), least, upper * upper

    def explain(
        self, row: int, time: float, positions: Tensor, velocities: Tensor
    ) -> BrokenStateError:
        """Describe a broken frame.

        Parameters
        ----------
        row
            The molecule's place in the batch.
        time
            The frame's time in fs.
        positions, velocities
            That molecule's frame in Å and Å/fs, ``[N, 3]``.
        """
        who, named = self.labels[row].molecule, self.labels[row].atoms
        when = f"{who} broke at {format_time(time)}" if time > 0 else f"{who} starts out broken"
        finite = (torch.isfinite(positions) & torch.isfinite(velocities)).all(dim=1)
        if not bool(finite.all()):
            atoms = tuple(torch.nonzero(~finite).flatten().tolist())
            names = ", ".join(named[i] for i in atoms[:4])
            what = f"position or velocity of {names}{', …' * (len(atoms) > 4)} is not finite"
            return BrokenStateError(f"{when}: {what}", replica=row, time=time, atoms=atoms)
        distance = _distances(positions, self.first, self.second)
        # The pair furthest outside its limits, as a ratio, is the one to name.
        short = (self.lower[row] / distance.clamp(min=1e-12)).nan_to_num()
        stretch = (distance / self.upper[row]).nan_to_num()
        pair = int(torch.maximum(short, stretch).argmax())
        i, j = int(self.first[pair]), int(self.second[pair])
        names = f"{named[i]} and {named[j]}"
        length = float(distance[pair])
        if float(short[pair]) >= float(stretch[pair]):
            what = (
                f"{names} are {length:.3f} Å apart, closer than {CLOSEST:g} times the sum of their "
                f"covalent radii ({float(self.lower[row, pair]):.3f} Å)"
            )
        else:
            start = float(self.upper[row, pair]) / LONGEST
            what = (
                f"the bond of {names} is {length:.3f} Å long, past {LONGEST:g} times its "
                f"{start:.3f} Å at the start"
            )
        return BrokenStateError(f"{when}: {what}", replica=row, time=time, atoms=(i, j))


def _counted(numbers: np.ndarray) -> list[Label]:
    return [
        Label(f"replica {row}" if len(numbers) > 1 else "the molecule", tuple(names))
        for row, names in enumerate(map(numbered_names, numbers))
    ]


def _distances(positions: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return distances in Å of pairs from positions ``[..., N, 3]``: ``[..., P]``."""
    distances: Tensor = (positions[..., first, :] - positions[..., second, :]).norm(dim=-1)
    return distances
