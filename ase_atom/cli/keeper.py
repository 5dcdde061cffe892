"""Where the frames of a run go: trajectories, log, summary and restart file."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.ase.replicas import ReplicaFiles
from ase_atom.cli.batch import Batch
from ase_atom.cli.bursts import Bursts
from ase_atom.cli.log import EnergyLog
from ase_atom.cli.restart import save_run
from ase_atom.propagation import Frames


class Keeper:
    """Keep the frames of a run, and what it takes to go on behind them.

    Parameters
    ----------
    batch
        The run.
    files
        Its trajectories.
    log
        Its log, or None.
    bursts
        What makes bursts of its frames, or None.
    """

    def __init__(
        self,
        batch: Batch,
        files: ReplicaFiles,
        log: EnergyLog | None,
        bursts: Bursts | None = None,
    ) -> None:
        self._batch, self._files, self._log, self._bursts = batch, files, log, bursts
        self._saved = -1
        wants = log is not None or any(writer.holds_energies for writer in files.writers)
        self._wants_energies = wants and batch.plan.operator.has_energy

    def take(self, frames: Frames) -> None:
        """Take frames as they come."""
        if self._batch.watch is not None:
            frames = self._batch.watch.look(frames)
        energies = self._energies(frames) if self._wants_energies else None
        self._files.write(frames, energies)
        if self._log is not None:
            leaping = self._batch.propagator.leaping
            self._log.write(frames, energies, None if leaping is None else leaping.last)
        if self._bursts is not None:
            self._bursts.take(frames)
        self._batch.summary.add(frames)
        jumps, every = self._batch.propagator.jumps, self._batch.request.restart_interval
        due = self._saved < 0 or jumps - self._saved >= every
        if due and not self._batch.propagator.has_failed:
            self.save()

    def save(self) -> None:
        """Write the restart file, if one is asked for."""
        if self._batch.request.restart is not None:
            size = 0 if self._log is None else self._log.size
            save_run(self._batch.request.restart, self._batch, self._files.given, size)
            self._saved = self._batch.propagator.jumps

    def _energies(self, frames: Frames) -> Tensor:
        """Return the operator's potential energies in eV, ``[B, T]``; not a number where broken."""
        with torch.no_grad():
            found = self._batch.plan.operator.energy(frames.flat())
        return found.view(frames.valid.shape).cpu()
