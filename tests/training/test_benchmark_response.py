"""The spectral operator's linear answer: symmetries, small vibrations, and the fit to samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.data import atomic_masses
from pydantic import ValidationError
from scipy.stats import ortho_group
from test_spectral_long_lags import SIZES
from torch import Tensor

from ase_atom import PhaseState
from ase_atom.errors import ConfigError
from ase_atom.operator import build_operator
from training.benchmarks.long_lag import LongLagConfig
from training.benchmarks.response import fit_response, ridge
from training.benchmarks.samples import Samples
from training.benchmarks.scoring import equivariance_error
from training.benchmarks.trivial import masked_mse

LAGS = torch.arange(1, 9, dtype=torch.float64) * 3.0  # fs
BENT = [[0.0, 0.1, 0.0], [0.8, -0.5, 0.0], [-0.7, -0.6, 0.0]]
SHAPES = {
    "planar": ([8, 1, 1], BENT),
    "solid": ([6, 1, 9, 17], [*BENT, [0.1, 0.3, 1.2]]),
    "line": ([8, 6, 8], [[-1.2, 0, 0], [0.1, 0, 0], [1.1, 0, 0]]),
    "pair": ([7, 8], [[0.0, 0, 0], [1.1, 0, 0]]),
}


def vibrating(shape: str, count: int = 300, amplitude: float = 1e-4) -> Samples:
    """Small vibrations of springs between all atoms, solved by normal modes, in any attitude."""
    numbers, places = SHAPES[shape]
    masses, places = atomic_masses[numbers], np.array(places)
    places = places - masses @ places / masses.sum()
    size = len(numbers)
    stiffness = np.zeros((size, 3, size, 3))
    for i in range(size):
        for j in range(size):
            if i != j:
                along = places[i] - places[j]
                block = np.outer(along, along) / (along @ along)
                stiffness[i, :, i] += block
                stiffness[i, :, j] -= block
    roots = np.repeat(np.sqrt(masses), 3)
    # A spring of 1 eV/Å² swings an atom of 1 amu by 0.1 rad/fs, nearly.
    squares, modes = np.linalg.eigh(
        0.0096 * stiffness.reshape(3 * size, -1) / np.outer(roots, roots)
    )
    omega = np.sqrt(squares.clip(0))
    rng = np.random.default_rng(3)
    swing = rng.normal(size=(count, 3 * size)) * (squares > 1e-9)
    speed = 0.05 * rng.normal(size=(count, 3 * size))
    # Modes without a force translate, which they shall not, and rotate, which they shall.
    along = np.repeat(np.eye(3)[None], size, 0).reshape(3 * size, 3) * roots[:, None]
    along = np.linalg.qr(modes.T @ along)[0]
    speed -= speed @ along @ along.T
    times = np.array([0.0, *LAGS.tolist()])[:, None, None]
    sine = times * np.sinc(omega * times / np.pi)
    moved = (swing * np.cos(omega * times) + speed * sine) @ modes.T / roots
    x = places + amplitude * moved.reshape(9, count, size, 3).swapaxes(0, 1)
    v = amplitude * (speed @ modes.T / roots).reshape(count, size, 3)
    turns = ortho_group(3, seed=1).rvs(count)
    x, v = (np.einsum("sij,s...j->s...i", turns, side) for side in (x, v))
    x, v = torch.as_tensor(x), torch.as_tensor(v)
    return Samples(
        numbers=torch.tensor([numbers] * count),
        masses=torch.as_tensor(masses).expand(count, -1),
        positions=x[:, 0],
        velocities=v,
        targets=x[:, 1:],
        hops=torch.zeros(count, size, size, dtype=torch.long),
        molecule=torch.zeros(count, dtype=torch.long),
        start=torch.arange(count),
        first=x[:1, 0].expand(count, -1, -1),
    )


def operator_of(shape: str, **changes: object):
    """Resting on the shape, and without an answer of the network's."""
    torch.manual_seed(0)
    numbers, places = SHAPES[shape]
    given = SIZES | {"elements": tuple(sorted(set(numbers))), "horizon": 24.0, "segment": 24.0}
    given |= {"rest": "aligned", "rest_numbers": tuple(numbers), "response": True}
    given |= {"frequency_range": (0.02, 0.3), "carrier_time": 20.0} | changes
    operator = build_operator(LongLagConfig(**given)).double().eval()
    operator.set_rest(torch.tensor(places, dtype=torch.float64)[None], torch.tensor([0.0]))
    with torch.no_grad():
        for name, weight in operator.named_parameters():
            if name.startswith("decoder.from_"):
                weight.zero_()
    return operator


def predicted(operator: torch.nn.Module, samples: Samples) -> Tensor:
    state = PhaseState(samples.numbers, samples.masses, samples.positions, samples.velocities)
    with torch.no_grad():
        return operator.positions(state, LAGS, samples.first)


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("centre", ["uniform", "free"])
def test_any_response_commutes_with_rotations_and_reflections(shape: str, centre: str) -> None:
    operator, given = operator_of(shape, centre=centre), vibrating(shape, 6, amplitude=0.05)
    still = predicted(operator, given)
    with torch.no_grad():
        operator.rest.response.copy_(0.3 * torch.randn_like(operator.rest.response))
    found = predicted(operator, given)
    assert (found - still).norm(dim=-1).max() > 1e-3
    for turn in torch.as_tensor(ortho_group(3, seed=2).rvs(4)):
        state = PhaseState(
            given.numbers,
            given.masses,
            given.positions @ turn.T + 1.0,
            given.velocities @ turn.T,
        )
        assert torch.allclose(operator.positions(state, LAGS), found @ turn.T + 1.0, atol=1e-9)


def test_with_a_response_paths_start_at_the_state_and_velocities_are_their_derivatives() -> None:
    operator, given = operator_of("solid"), vibrating("solid", 3, amplitude=0.05)
    with torch.no_grad():
        operator.rest.response.normal_(0, 0.3)
    state = PhaseState(given.numbers, given.masses, given.positions, given.velocities)
    x, v = operator(state, torch.tensor([0.0]))
    assert torch.allclose(x[:, 0], given.positions, atol=1e-12)
    assert torch.allclose(v[:, 0], given.velocities, atol=1e-12)
    around, speeds = operator(state, torch.tensor([9.999, 10.0, 10.001], dtype=torch.float64))
    assert torch.allclose((around[:, 2] - around[:, 0]) / 0.002, speeds[:, 1], atol=1e-7)


@pytest.mark.parametrize("shape", ["planar", "solid"])
def test_small_vibrations_are_answered_exactly_without_a_network(shape: str) -> None:
    operator, given = operator_of(shape), vibrating(shape)
    train, test = given.select(slice(0, 200)), given.select(slice(200, 300))
    before = masked_mse(predicted(operator, test), test).mean()
    fit_response(operator, train, LAGS)
    after = masked_mse(predicted(operator, test), test).mean()
    moved = masked_mse(test.positions[:, None].expand_as(test.targets), test).mean()
    assert after < 1e-4 * min(before, moved)
    assert equivariance_error(lambda some: predicted(operator, some), test) < 1e-5


def test_the_ridge_is_that_of_the_least_error_of_samples_left_out() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 30, generator=draw, dtype=torch.float64)
    truth = torch.zeros(30, 2, dtype=torch.float64)
    truth[:3] = 1.0
    targets = rows @ truth + 2.0 * torch.randn(40, 2, generator=draw, dtype=torch.float64)

    def by_hand(strength: float) -> tuple[float, Tensor]:
        size = strength * rows.square().sum() / 30

        def solve(some: Tensor) -> Tensor:
            square = rows[some].T @ rows[some] + size * torch.eye(30, dtype=torch.float64)
            return torch.linalg.solve(square, rows[some].T @ targets[some])

        every, errors = torch.arange(40), []
        for out in range(40):
            errors.append((targets[out] - rows[out] @ solve(every[every != out])).square().mean())
        return torch.stack(errors).mean().item(), solve(every)

    best = min((by_hand(10.0**n) for n in range(-8, 2)), key=lambda pair: pair[0])[1]
    assert torch.allclose(ridge(rows, targets), best, atol=1e-8)
    assert (best - truth).norm() < 0.8 * (torch.linalg.lstsq(rows, targets)[0] - truth).norm()


def test_what_a_response_cannot_be_is_said() -> None:
    with pytest.raises(ValidationError, match=r"response: true needs rest: aligned, not learned"):
        LongLagConfig(**(SIZES | {"rest": "learned", "response": True}))
    with pytest.raises(ConfigError, match=r"from 6 to 3 numbers .* takes 18 to 9"):
        operator_of("planar").set_response(torch.zeros(1, 6, 3), torch.ones(1))
    with pytest.raises(ConfigError, match="takes none"):
        operator_of("planar", response=False).set_response(torch.zeros(1, 18, 9), torch.ones(1))
