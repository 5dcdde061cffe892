"""Statistics of a run gathered on the fly: temperatures, bond lengths, momenta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.analysis.molecule.symmetry import BondClass
from ase_atom.analysis.statistics import block_average, mean_and_error, to_list
from ase_atom.propagation.conservation import angular_velocity
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

#: Parts of the kinetic energy, in the order in which they are kept.
PARTS = ("internal", "rotation", "vibration")


def degrees_of_freedom(atoms: int, linear: bool) -> dict[str, int]:
    """Thermal degrees of freedom of each part; internal is all motion about the centre of mass."""
    turning = 2 if linear else 3
    return {
        "internal": 3 * atoms - 3,
        "rotation": turning,
        "vibration": 3 * atoms - 3 - turning,
    }


def kinetic_parts(state: PhaseState) -> Tensor:
    """Kinetic energy of each of `PARTS`, eV, ``[B, 3]``.

    Rotation is L·I⁻¹·L/2 with the instantaneous inertia tensor, vibration what is left.
    """
    momentum = state.angular_momentum()
    spin = angular_velocity(state, momentum)
    rotation = 0.5 * AMU_A2_FS2_IN_EV * (momentum * spin).sum(-1)
    internal = state.without_drift().kinetic_energy()
    return torch.stack([internal, rotation, internal - rotation], dim=-1)


class Observables:
    """Running statistics over replicas and time, of a size that does not grow with the run
    except for one short row of mean temperatures per sample.

    Parameters
    ----------
    bonds
        Classes of equivalent bonds.
    atoms
        Atoms of the molecule.
    replicas
        Rows of the states that will be added.
    temperature
        Nominal temperature, which sets the range of the temperature histogram, K.
    linear
        Whether the molecule is linear, with one rotation fewer.
    """

    bond_edges = np.linspace(0.5, 2.5, 1001)

    def __init__(
        self,
        bonds: Sequence[BondClass],
        atoms: int,
        replicas: int,
        temperature: float,
        linear: bool = False,
    ) -> None:
        self.bonds = list(bonds)
        self.dof = degrees_of_freedom(atoms, linear)
        self.temperature = temperature
        self.temperature_edges = np.linspace(0.0, 4 * temperature, 401)
        count = len(self.bonds)
        self.samples = torch.zeros(replicas, dtype=torch.float64)
        self.bond_sums = torch.zeros(replicas, count, dtype=torch.float64)
        self.bond_squares = torch.zeros(replicas, count, dtype=torch.float64)
        self.bond_counts = torch.zeros(count, len(self.bond_edges) - 1, dtype=torch.float64)
        self.heat_sums = torch.zeros(replicas, len(PARTS), dtype=torch.float64)
        self.heat_counts = torch.zeros(len(self.temperature_edges) - 1, dtype=torch.float64)
        self.series: list[list[float]] = []
        self.elements: list[int] = []
        self.element_sums = torch.zeros(replicas, 0, dtype=torch.float64)

    def add(self, state: PhaseState, rows: Tensor) -> None:
        """Count samples.

        Parameters
        ----------
        state
            Unbroken states, ``[S, N]``.
        rows
            The replica that each belongs to, ``[S]``.
        """
        if not len(rows):
            return
        self.samples.index_add_(0, rows, torch.ones(len(rows), dtype=torch.float64))
        for index, group in enumerate(self.bonds):
            ends = state.positions[:, group.pairs]
            lengths = (ends[:, :, 0] - ends[:, :, 1]).norm(dim=-1)
            self.bond_sums[:, index].index_add_(0, rows, lengths.mean(1))
            self.bond_squares[:, index].index_add_(0, rows, (lengths**2).mean(1))
            counts, _ = np.histogram(lengths.numpy(), self.bond_edges)
            self.bond_counts[index] += torch.from_numpy(counts / len(group.pairs))
        scale = torch.tensor([2 / (KB * self.dof[part]) for part in PARTS], dtype=torch.float64)
        kelvin = kinetic_parts(state) * scale
        self.heat_sums.index_add_(0, rows, kelvin)
        counts, _ = np.histogram(kelvin[:, 0].numpy(), self.temperature_edges)
        self.heat_counts += torch.from_numpy(counts.astype(float))
        self.series.append(kelvin.mean(0).tolist())
        self._add_elements(state, rows)

    def _add_elements(self, state: PhaseState, rows: Tensor) -> None:
        """Count kinetic temperatures of each element's atoms about the centre of mass, at rest."""
        numbers, masses = state.numbers[0], state.masses[0].double()
        if not self.elements:
            self.elements = sorted(set(numbers[numbers > 0].tolist()))
            self.element_sums = torch.zeros(
                len(self.samples), len(self.elements), dtype=torch.float64
            )
        squares = state.without_drift().velocities.double().square().sum(-1)
        for column, number in enumerate(self.elements):
            own = numbers == number
            # The centre of mass takes each atom's share of its mass in three motions away.
            free = (3 * (1 - masses[own] / masses.sum())).sum()
            twice = AMU_A2_FS2_IN_EV * (masses[own] * squares[:, own]).sum(1)
            self.element_sums[:, column].index_add_(0, rows, twice / (KB * free))

    def element_temperatures(self) -> dict[str, tuple[float, float]]:
        """Mean temperature of each element's atoms and its standard error over replicas, K."""
        there = self.samples > 0
        by_replica = (self.element_sums[there] / self.samples[there, None]).numpy()
        return {
            chemical_symbols[number]: mean_and_error(by_replica[:, column])
            for column, number in enumerate(self.elements)
        }

    def temperatures(self) -> dict[str, Any]:
        """Mean temperature of each part with its standard error and degrees of freedom."""
        rows = np.array(self.series).reshape(-1, len(PARTS))
        there = self.samples > 0
        by_replica = (self.heat_sums[there] / self.samples[there, None]).numpy()
        out: dict[str, Any] = {}
        for index, part in enumerate(PARTS):
            mean, in_time = block_average(rows[:, index])
            _, over_replicas = mean_and_error(by_replica[:, index])
            # Slow exchange between replicas shows in the one, drift in the other.
            error = max((e for e in (in_time, over_replicas) if np.isfinite(e)), default=np.nan)
            out[part] = {
                "degrees_of_freedom": self.dof[part],
                "mean_K": to_list([mean])[0],
                "standard_error_K": to_list([error])[0],
            }
        return out

    def bond_lengths(self) -> list[dict[str, Any]]:
        """Mean and standard deviation of each class of bonds, with standard errors.

        The errors come from the scatter between replicas, which are independent.
        """
        there = self.samples > 0
        weight = self.samples[there, None]
        means = (self.bond_sums[there] / weight).numpy()
        squares = (self.bond_squares[there] / weight).numpy()
        share = (weight / weight.sum()).numpy()
        pooled = (share * means).sum(0)
        widths = np.sqrt(np.clip((share * squares).sum(0) - pooled**2, 0, None))
        own_widths = np.sqrt(np.clip(squares - means**2, 0, None))
        return [
            {
                "bond": group.label,
                "mean_angstrom": float(pooled[index]),
                "mean_error_angstrom": to_list([mean_and_error(means[:, index])[1]])[0],
                "width_angstrom": float(widths[index]),
                "width_error_angstrom": to_list([mean_and_error(own_widths[:, index])[1]])[0],
            }
            for index, group in enumerate(self.bonds)
        ]

    def bond_density(self, index: int) -> NDArray:
        """Probability density of one class's lengths in the bins of ``bond_edges``, 1/Å."""
        counts = self.bond_counts[index].numpy()
        return counts / max(counts.sum(), 1) / np.diff(self.bond_edges)

    def temperature_density(self) -> NDArray:
        """Probability density of single replicas' internal temperatures, 1/K."""
        counts = self.heat_counts.numpy()
        return counts / max(counts.sum(), 1) / np.diff(self.temperature_edges)
