"""Nested Monte Carlo: exact for the reference, whatever the surrogate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from ase_atom.errors import ConfigError
from ase_atom.propagation import Guard
from ase_atom.propagation.nested import NestedMonteCarlo, walled
from ase_atom.state import PhaseState
from ase_atom.units import KB

HEIGHT, WIDTH, TILT = 0.06, 0.5, 0.02  # eV, Å, eV/Å
KELVIN = 300.0


def double_well(x: torch.Tensor) -> torch.Tensor:
    return HEIGHT * ((x / WIDTH) ** 2 - 1) ** 2 + TILT * x


def walkers(count: int) -> PhaseState:
    """Return single atoms that move along x in a double well, and along y and z on springs."""
    return PhaseState(
        torch.full((count, 1), 6),
        torch.full((count, 1), 12.0, dtype=torch.float64),
        torch.zeros((count, 1, 3), dtype=torch.float64),
        torch.zeros((count, 1, 3), dtype=torch.float64),
    )


def reference(state: PhaseState) -> torch.Tensor:
    x = state.positions[:, 0]
    return double_well(x[:, 0]) + 2.0 * x[:, 1:].square().sum(1)


def wrong(state: PhaseState) -> tuple[torch.Tensor, torch.Tensor]:
    """A surrogate with a lower barrier, another tilt, and softer springs."""
    with torch.enable_grad():
        x = state.positions.detach().clone().requires_grad_(True)
        along, across = x[:, 0, 0], x[:, 0, 1:]
        energy = 0.5 * double_well(along) - 0.05 * along + 1.4 * across.square().sum(1)
        (gradient,) = torch.autograd.grad(energy.sum(), x)
    return energy.detach(), -gradient


def exact(value) -> float:
    """Return the canonical mean of a function of x in the double well."""

    def weight(x: float) -> float:
        return float(np.exp(-float(double_well(torch.tensor(x))) / (KB * KELVIN)))

    top = quad(lambda x: value(x) * weight(x), -1.6, 1.6)[0]
    return top / quad(weight, -1.6, 1.6)[0]


def test_a_wrong_surrogate_leaves_the_right_distribution() -> None:
    sampler = NestedMonteCarlo(
        wrong, reference, walkers(200), KELVIN, chain=3, steps=10, timestep=8.0, seed=1
    )
    right, square, across, energies = [], [], [], []
    for proposal in range(400):
        sampler.step()
        if proposal >= 50:
            x = sampler.state.positions[:, 0]
            right.append(float((x[:, 0] > 0).double().mean()))
            square.append(float(x[:, 0].square().mean()))
            across.append(float(x[:, 1].square().mean()))
            energies.append(float(sampler.energies.mean()))
    assert np.mean(right) == pytest.approx(exact(lambda x: x > 0), abs=0.012)
    assert np.mean(square) == pytest.approx(exact(lambda x: x * x), rel=0.015)
    assert np.mean(across) == pytest.approx(KB * KELVIN / 4.0, rel=0.03)
    counts = sampler.counts
    assert 0.2 < counts.accepted / counts.proposed < 0.95
    assert counts.inner_accepted / counts.inner_proposed > 0.7
    # The surrogate alone has most of its weight on the other side.

    def weight(x: float) -> float:
        return float(
            np.exp(-(0.5 * float(double_well(torch.tensor(x))) - 0.05 * x) / (KB * KELVIN))
        )

    alone = quad(weight, 0, 1.6)[0] / quad(weight, -1.6, 1.6)[0]
    assert alone - exact(lambda x: x > 0) > 0.2


def test_an_exact_surrogate_is_always_accepted_and_energies_are_those_of_the_state() -> None:
    def surrogate(state):
        with torch.enable_grad():
            x = state.positions.detach().clone().requires_grad_(True)
            energy = reference(state.replace(positions=x))
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        return energy.detach(), -gradient

    sampler = NestedMonteCarlo(surrogate, reference, walkers(50), KELVIN, timestep=5.0)
    for _ in range(20):
        sampler.step()
    assert sampler.counts.accepted == sampler.counts.proposed == 1000
    torch.testing.assert_close(sampler.energies, reference(sampler.state))


def test_the_wall_is_the_gradient_of_its_energy_and_holds_a_molecule(ethanol) -> None:
    state = PhaseState.from_atoms(ethanol)
    guard = Guard.watch(state)

    def flat(asked: PhaseState) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, dtype=torch.float64), torch.zeros_like(asked.positions)

    potential = walled(flat, guard)
    assert float(potential(state)[0]) == 0.0
    far = state.replace(positions=1.6 * state.positions)
    energy, force = potential(far)
    assert float(energy) > 0.1
    step = 1e-5
    moved = far.positions.clone()
    moved[0, 2, 1] += step
    slope = (potential(far.replace(positions=moved))[0] - energy) / step
    assert float(slope) == pytest.approx(-float(force[0, 2, 1]), rel=1e-3)


@pytest.mark.parametrize("settings", [{"chain": 0}, {"steps": -1}, {"timestep": float("nan")}])
def test_numbers_that_cannot_be_meant(settings) -> None:
    with pytest.raises(ConfigError, match="must be above zero"):
        NestedMonteCarlo(wrong, reference, walkers(1), KELVIN, **settings)
