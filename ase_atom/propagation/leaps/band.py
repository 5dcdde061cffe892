"""The thermal band: potential energies that a molecule in equilibrium can have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.operator.protocol import OperatorLike
from ase_atom.state import PhaseState
from ase_atom.units import KB

CHANCE = 1e-6
"""How likely harmonic vibrations are to have more energy than the band allows; or less than a start
that is called cold."""

DEPTH = 20.0
"""k_B T below the minimum that the start leads to, where other conformers may lie."""

_ITERATIONS = 200
_RATTLE = 0.03  # Å


@dataclass(frozen=True)
class ThermalBand:
    """Limits of the potential energy, from the minimum that the first structure leads to.

    Of f harmonic vibrations at a temperature T, 2 (V - V_min) / k_B T scatters as χ² with f
    degrees of freedom.

    Parameters
    ----------
    floor
        V_min of each molecule in eV, ``[B]``.
    low, high, cold
        Limits, and the energy below which a start is cold, eV above the floor, ``[B]``.
    expected
        f k_B T / 2, ``[B]``.
    """

    floor: Tensor
    low: Tensor
    high: Tensor
    cold: Tensor
    expected: Tensor

    @classmethod
    def at(cls, temperature: float, floor: Tensor, atoms: Tensor) -> ThermalBand:
        """Limits at a temperature in K, from minima in eV and numbers of atoms, both ``[B]``."""
        from scipy.special import chdtri  # quantiles of χ² from above

        unit = 0.5 * KB * temperature
        freedom = (3 * atoms - 6).clamp(min=1).double()

        def quantile(above: float) -> Tensor:
            return unit * torch.from_numpy(np.asarray(chdtri(freedom.numpy(), above)))

        low = torch.full_like(freedom, -2 * DEPTH * unit)
        expected = unit * freedom
        return cls(floor, low, quantile(CHANCE), quantile(1 - CHANCE), expected)

    def holds(self, energies: Tensor) -> Tensor:
        """Whether energies in eV lie inside, ``[B]``; one that is no number does not."""
        above = energies - self.floor
        return (above >= self.low) & (above <= self.high)

    def is_thermal(self, energies: Tensor) -> Tensor:
        """Whether energies in eV lie inside and above those of a minimum, ``[B]``."""
        return self.holds(energies) & (energies - self.floor >= self.cold)


def floors(operator: OperatorLike, state: PhaseState) -> Tensor:
    """Energies in eV of the minima that molecules lead to, ``[B]``; one search a kind of molecule.

    Replicas of one molecule, the same atoms in the same order, have the minimum of the first.
    """
    exact = operator.in_double_precision()  # line searches stumble over rounding
    found: dict[tuple[object, ...], float] = {}
    energies = []
    for row in range(state.batch_size):
        kind = (*state.numbers[row].tolist(), int(state.charge[row]))
        if kind not in found:
            found[kind] = _minimum(exact, state.select(torch.tensor([row])))
        energies.append(found[kind])
    return torch.tensor(energies, dtype=torch.float64)


def _minimum(operator: OperatorLike, state: PhaseState) -> float:
    from scipy.optimize import minimize

    first = float(operator.energy(state)[0])

    def slope(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        positions = torch.from_numpy(x.reshape(1, -1, 3)).to(state.positions)
        energy, forces = operator.energy_and_forces(state.replace(positions=positions))
        return float(energy[0]) - first, -forces.double().numpy().ravel()

    begin = state.positions.double().cpu().numpy().ravel()
    # A symmetric start would stay on a saddle.
    begin = begin + _RATTLE * np.random.default_rng(0).standard_normal(begin.shape)
    found = minimize(
        slope, begin, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS, "gtol": 1e-2}
    )
    return first + (float(found.fun) if math.isfinite(found.fun) else 0.0)
