"""Errors on held-out bursts while a run is under way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ase_atom.operator import Operator
from ase_atom.state import PhaseState
from training.data.frames import FrameData, States, select_states
from training.evaluation.metrics import squared_errors

_BATCH = 128


class Validation:
    """Fixed states of held-out bursts, and the sums that their errors add up to.

    Errors are relative as in `training.evaluate`: RMS position error over RMS displacement at
    that lag, RMS velocity error over RMS velocity, both over all atoms.

    Parameters
    ----------
    data
        Held-out frames.
    lags
        Frames.
    starts
        States per burst, evenly spaced in time.
    """

    def __init__(self, data: FrameData, lags: Sequence[int], starts: int) -> None:
        self.data = data
        self.lags = list(lags)
        self.frames = torch.cat(data.starts(max(lags), starts))
        self.sums = torch.zeros(0)

    @property
    def batches(self) -> int:
        """Number of batches of states."""
        return -(-len(self.frames) // _BATCH)

    def reset(self, device: torch.device) -> None:
        """Start counting anew, on a device."""
        self.data = self.data.to(device)
        self.frames = self.frames.to(device)
        # Per lag: squared position error, displacement, velocity error, velocity; then force and
        # energy error with their counts.
        self.sums = torch.zeros(4 * len(self.lags) + 4, dtype=torch.float64, device=device)

    def add(self, operator: Operator, batch: int) -> None:
        """Add the errors of one batch."""
        frames = self.frames[batch * _BATCH : (batch + 1) * _BATCH]
        states = select_states(self.data, frames)
        state = PhaseState(
            states.numbers,
            states.masses,
            states.positions,
            self.data.velocities[frames],
            states.charge,
        )
        times = torch.tensor(self.lags, dtype=torch.float64) * self.data.interval
        later = frames[:, None] + torch.tensor(self.lags, device=frames.device)
        reference = self.data.positions[later], self.data.velocities[later]
        predicted = operator(state, times.to(frames.device))
        paths = squared_errors(states.positions, reference, predicted).sum((0, 2))
        rest = torch.zeros(4, dtype=torch.float64, device=frames.device)
        if operator.has_energy:
            rest = self._energy_errors(operator, state, states)
        self.sums += torch.cat([paths.flatten(), rest])

    @staticmethod
    def _energy_errors(operator: Operator, state: PhaseState, states: States) -> Tensor:
        """Squared errors of forces and energies, each with their number."""
        if operator.potential is not None:
            given = states.numbers, states.positions, states.charge
            energy, forces = operator.potential.energy_and_forces(*given, graded=False)
        else:
            _, forces = operator.energy_and_forces(state)
            with torch.no_grad():
                species = operator.index(states.numbers, states.charge)
                output = operator.energy_output(species, states.masses, states.positions)
                energy = output * operator.energy_scale
        wrong = (forces - states.forces).double().square().sum()
        count = 3 * state.num_atoms.sum().double()
        energy = energy - states.energies
        number = energy.new_tensor(len(energy), dtype=torch.float64)
        return torch.stack([wrong, count, energy.double().square().sum(), number])

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """Names and values of the errors that sums stand for.

        Returns
        -------
        dict
            ``position_16fs`` and ``velocity_16fs`` per lag; where there is an energy head,
            ``force_meV_A`` and ``energy_meV``.
        """
        paths, rest = sums[:-4].view(len(self.lags), 4).tolist(), sums[-4:].tolist()
        found = {}
        for lag, (wrong_x, moved, wrong_v, speed) in zip(self.lags, paths, strict=True):
            label = f"{lag * self.data.interval:g}fs"
            found[f"position_{label}"] = (wrong_x / max(moved, 1e-30)) ** 0.5
            found[f"velocity_{label}"] = (wrong_v / max(speed, 1e-30)) ** 0.5
        if rest[1]:
            found["force_meV_A"] = 1000 * (rest[0] / rest[1]) ** 0.5
        if rest[3]:
            found["energy_meV"] = 1000 * (rest[2] / rest[3]) ** 0.5
        return found
