"""Errors of an operator's energy head on reference frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ase_atom.operator import Operator
from training.data.burst import Burst
from training.evaluation.accuracy import (
    BATCH,
    chunks,
    group_by_molecule,
    start_frames,
    states_of,
)


@dataclass(frozen=True)
class EnergyErrors:
    """Errors of the energy head on reference frames.

    Attributes
    ----------
    force_rmse
        Root mean square over force components, eV/Å.
    force_rms
        The same of the reference forces themselves, eV/Å.
    energy_rmse, energy_std
        eV; each molecule's mean difference removed, and the reference's own spread.
    by_element
        Force RMSE of each element, eV/Å, by atomic number.
    frames
        Number of frames compared.
    """

    force_rmse: float
    force_rms: float
    energy_rmse: float
    energy_std: float
    by_element: dict[int, float]
    frames: int


def energy_errors(
    operator: Operator, bursts: Sequence[Burst], frames_per_burst: int
) -> EnergyErrors:
    """Compare the energy head with the reference on evenly spaced frames of every burst."""
    force_sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    energy_error, energy_spread, total = 0.0, 0.0, 0
    for key, group in group_by_molecule(bursts).items():
        chosen = [
            (burst, int(frame))
            for burst in group
            for frame in start_frames(len(burst.positions), 0, frames_per_burst)
        ]
        errors, energies = [], []
        numbers = np.asarray(key[1])
        for chunk in chunks(chosen, BATCH):
            predicted, forces = operator.energy_and_forces(states_of(chunk))
            reference = np.stack([burst.forces[frame] for burst, frame in chunk])
            difference = forces.numpy() - reference
            for element in np.unique(numbers):
                there = numbers == element
                sums = force_sums[int(element)]
                sums[0] += float((difference[:, there] ** 2).sum())
                sums[1] += float((reference[:, there] ** 2).sum())
                sums[2] += difference[:, there].size
            energies.append(np.array([burst.energies[frame] for burst, frame in chunk]))
            errors.append(predicted.numpy() - energies[-1])
        error, energy = np.concatenate(errors), np.concatenate(energies)
        energy_error += float(((error - error.mean()) ** 2).sum())
        energy_spread += float(((energy - energy.mean()) ** 2).sum())
        total += len(error)
    squared, scale, count = np.sum(list(force_sums.values()), axis=0)
    return EnergyErrors(
        force_rmse=float(np.sqrt(squared / count)),
        force_rms=float(np.sqrt(scale / count)),
        energy_rmse=float(np.sqrt(energy_error / total)),
        energy_std=float(np.sqrt(energy_spread / total)),
        by_element={z: float(np.sqrt(s[0] / s[2])) for z, s in sorted(force_sums.items())},
        frames=total,
    )
