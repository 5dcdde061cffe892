"""What a run amounted to: temperatures and bond lengths, gathered as its frames pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ase_atom.analysis.measures.motion import (
    rotational_freedom_of,
)
from ase_atom.analysis.molecule_summary import BondDeviation, Departure, MoleculeSummary
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.propagation import Ensemble, Frames, Thermostat
from ase_atom.state import PhaseState

SETTLING = 10.0
"""Relaxation times of the thermostat in which a start out of equilibrium is forgotten."""

_TOGETHER = 64  # frames that are measured at once, so that measuring costs little


class RunSummary:
    """Running totals over the frames of a batch of molecules.

    Parameters
    ----------
    state
        The molecules as in their structures, ``[B, N]``.
    ensemble
        Counts the degrees of freedom and measures the temperature.
    molecules
        The rows of each molecule's replicas; by default, rows of the same atoms are one's.
    duration
        Length of the run in fs, if it starts out of equilibrium: the time that a thermostat takes
        to forget that is left out of temperatures, and a run that is no longer has none to judge.

    Attributes
    ----------
    frames
        Number of frames seen.
    settled
        Whether temperatures are those of equilibrium.
    """

    def __init__(
        self,
        state: PhaseState,
        ensemble: Ensemble,
        molecules: Sequence[Sequence[int]] | None = None,
        duration: float | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.frames = 0
        self._waiting: list[Frames] = []
        self._count = 0
        self._done = 0.0
        settling = 0.0
        if isinstance(ensemble, Thermostat) and duration is not None:
            settling = SETTLING * ensemble.relaxation_time
        self.settled = duration is None or settling < duration
        self._molecules = [
            _summary_of(state, ensemble, list(rows), settling if self.settled else 0.0)
            for rows in (_alike(state) if molecules is None else molecules)
        ]
        bonds = [
            (row, i, j)
            for row, atoms in enumerate(state.to_atoms())
            for i, j in perceive_bonds(atoms.numbers, atoms.positions)
        ]
        self._bonds = torch.tensor(bonds, dtype=torch.int64, device=state.device).view(-1, 3)
        self._start = self._lengths(state.positions[:, None])

    def departure(self, molecule: MoleculeSummary) -> Departure | None:
        """Say whether a molecule's mean temperature is off the thermostat's."""
        return molecule.departure if self.settled else None

    @property
    def molecules(self) -> list[MoleculeSummary]:
        """One for each molecule, of all frames so far."""
        self._take_in()
        return self._molecules

    def state_dict(self) -> dict[str, Any]:
        """Return the totals of all frames so far: numbers and arrays, in nested dictionaries."""
        molecules = {str(place): one.state_dict() for place, one in enumerate(self.molecules)}
        return {"frames": self.frames, "done": self._done, "molecules": molecules}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on with the totals of another run of the same molecules."""
        self.frames, self._done = saved["frames"], saved["done"]
        for place, one in enumerate(self._molecules):
            one.load_state_dict(saved["molecules"][str(place)])

    def add(self, frames: Frames) -> None:
        """Take in consecutive frames."""
        self.frames += len(frames)
        self._waiting.append(frames)
        self._count += len(frames)
        if self._count >= _TOGETHER:
            self._take_in()

    @property
    def last_time(self) -> float:
        """Time of the last frame in fs."""
        return float(self._waiting[-1].times[-1]) if self._waiting else self._done

    def _take_in(self) -> None:
        """Measure the frames that wait, all at once."""
        if not self._waiting:
            return
        frames, self._waiting, self._count = Frames.joined(self._waiting), [], 0
        valid = frames.valid.to(frames.positions.device)
        overall = self.ensemble.temperature(frames.flat()).view(valid.shape).cpu().numpy()
        good, times = frames.valid.cpu().numpy(), frames.times.cpu().numpy()
        step = (float(times[-1]) - self._done) / max(int((times > 0).sum()), 1)
        for one in self._molecules:
            one.add(frames, overall, good & (times > one.settling), step)
        self._done = float(times[-1])
        if len(self._bonds):
            self._add_bonds(frames, valid)

    def _add_bonds(self, frames: Frames, valid: Tensor) -> None:
        lengths = self._lengths(frames.positions)
        bad = ~valid[self._bonds[:, 0]]
        deviation, at = (lengths - self._start).abs().masked_fill(bad, -1.0).max(dim=1)
        for one in self._molecules:
            mine = torch.isin(self._bonds[:, 0].cpu(), torch.tensor(one.rows))
            if not bool(mine.any()):
                continue
            bond = int(deviation.cpu().masked_fill(~mine, -2.0).argmax())
            known = -1.0 if one.largest is None else one.largest.size
            if float(deviation[bond]) > known:
                replica, i, j = self._bonds[bond].tolist()
                frame = int(at[bond])
                one.largest = BondDeviation(
                    (i, j),
                    float(self._start[bond, 0]),
                    float(lengths[bond, frame]),
                    float(frames.times[frame]),
                    replica,
                )

    def _lengths(self, positions: Tensor) -> Tensor:
        """Return bond lengths in Å, ``[bonds, T]``, from positions ``[B, T, N, 3]``."""
        row, i, j = self._bonds.unbind(dim=1)
        lengths: Tensor = (positions[row, :, i] - positions[row, :, j]).norm(dim=-1)
        return lengths


def _alike(state: PhaseState) -> list[list[int]]:
    """Rows of the same atoms, in the order of their first."""
    rows: dict[bytes, list[int]] = {}
    for row, numbers in enumerate(state.numbers.cpu().numpy()):
        rows.setdefault(numbers.tobytes(), []).append(row)
    return list(rows.values())


def _summary_of(
    state: PhaseState, ensemble: Ensemble, rows: list[int], settling: float
) -> MoleculeSummary:
    atoms = state.select(torch.tensor(rows[:1])).to_atoms()[0]
    return MoleculeSummary(
        rows,
        int(ensemble.degrees_of_freedom(state)[rows[0]]),
        atoms.get_masses(),
        rotational_freedom_of(atoms.numbers, atoms.positions[None]),
        settling,
        ensemble,
    )
