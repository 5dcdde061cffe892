"""What a run amounted to: temperature and bond lengths, gathered as its frames pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ase_atom.propagation import Ensemble, Frames
from ase_atom.state import PhaseState
from ase_atom.topology import perceive_bonds


@dataclass(frozen=True)
class BondDeviation:
    """The bond that strayed furthest from its length at the start.

    Parameters
    ----------
    atoms
        Indices of the two atoms.
    start, length
        Length at the start and at the furthest, in Å.
    time
        When, in fs.
    replica
        In which molecule of the batch.
    """

    atoms: tuple[int, int]
    start: float
    length: float
    time: float
    replica: int


class RunSummary:
    """Running totals over the frames of a batch of replicas of one molecule.

    Parameters
    ----------
    state
        The replicas at the start, ``[B, N]``.
    ensemble
        Counts the degrees of freedom and measures the temperature.

    Attributes
    ----------
    frames
        Number of frames seen.
    last_time
        Time of the last frame in fs.
    largest
        The furthest bond, or None for a molecule without bonds or before any frame.
    """

    def __init__(self, state: PhaseState, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.degrees_of_freedom = int(ensemble.degrees_of_freedom(state)[0])
        self.frames = 0
        self.last_time = 0.0
        self.largest: BondDeviation | None = None
        self._bonds = perceive_bonds(state.to_atoms()[0])
        self._start = self._lengths(state.positions)
        self._sum = 0.0
        self._count = 0

    @property
    def mean_temperature(self) -> float:
        """Mean kinetic temperature over good frames after the first, in K; NaN before any."""
        return self._sum / self._count if self._count else float("nan")

    def add(self, frames: Frames) -> None:
        """Take in consecutive frames."""
        valid = frames.valid.to(frames.positions.device)
        later = valid & (frames.times.to(valid.device) > 0)
        temperature = self.ensemble.temperature(frames.flat()).view(valid.shape)
        self._sum += float(temperature[later].sum())
        self._count += int(later.sum())
        self.frames += len(frames)
        self.last_time = float(frames.times[-1])
        if self._bonds:
            self._add_bonds(frames, valid)

    def _add_bonds(self, frames: Frames, valid: Tensor) -> None:
        lengths = self._lengths(frames.positions)
        deviation = (lengths - self._start[:, None]).abs().masked_fill(~valid[..., None], -1.0)
        at = int(deviation.argmax())
        replica, frame, bond = (
            int(i) for i in torch.unravel_index(torch.tensor(at), lengths.shape)
        )
        known = -1.0
        if self.largest is not None:
            known = abs(self.largest.length - self.largest.start)
        if float(deviation[replica, frame, bond]) > known:
            self.largest = BondDeviation(
                self._bonds[bond],
                float(self._start[replica, bond]),
                float(lengths[replica, frame, bond]),
                float(frames.times[frame]),
                replica,
            )

    def _lengths(self, positions: Tensor) -> Tensor:
        """Return bond lengths in Å from positions ``[..., N, 3]``: ``[..., bonds]``."""
        pairs = torch.tensor(self._bonds, dtype=torch.int64, device=positions.device).view(-1, 2)
        return (positions[..., pairs[:, 0], :] - positions[..., pairs[:, 1], :]).norm(dim=-1)
