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
    """Running totals over the frames of a batch of molecules.

    Parameters
    ----------
    state
        The molecules at the start, ``[B, N]``.
    ensemble
        Counts the degrees of freedom and measures the temperature.

    Attributes
    ----------
    degrees_of_freedom
        Each N_f that occurs, rising.
    frames
        Number of frames seen.
    last_time
        Time of the last frame in fs.
    largest
        The furthest bond, or None for molecules without bonds or before any frame.
    """

    def __init__(self, state: PhaseState, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.degrees_of_freedom = sorted(set(ensemble.degrees_of_freedom(state).tolist()))
        self.frames = 0
        self.last_time = 0.0
        self.largest: BondDeviation | None = None
        bonds = [
            (row, i, j)
            for row, atoms in enumerate(state.to_atoms())
            for i, j in perceive_bonds(atoms)
        ]
        self._bonds = torch.tensor(bonds, dtype=torch.int64, device=state.device).view(-1, 3)
        self._start = self._lengths(state.positions[:, None])
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
        if len(self._bonds):
            self._add_bonds(frames, valid)

    def _add_bonds(self, frames: Frames, valid: Tensor) -> None:
        lengths = self._lengths(frames.positions)
        bad = ~valid[self._bonds[:, 0]]
        deviation = (lengths - self._start).abs().masked_fill(bad, -1.0)
        bond, frame = divmod(int(deviation.argmax()), len(frames))
        known = -1.0
        if self.largest is not None:
            known = abs(self.largest.length - self.largest.start)
        if float(deviation[bond, frame]) > known:
            replica, i, j = self._bonds[bond].tolist()
            self.largest = BondDeviation(
                (i, j),
                float(self._start[bond, 0]),
                float(lengths[bond, frame]),
                float(frames.times[frame]),
                replica,
            )

    def _lengths(self, positions: Tensor) -> Tensor:
        """Return bond lengths in Å, ``[bonds, T]``, from positions ``[B, T, N, 3]``."""
        row, i, j = self._bonds.unbind(dim=1)
        return (positions[row, :, i] - positions[row, :, j]).norm(dim=-1)
