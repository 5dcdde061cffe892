"""Jumps that are reversible in time, and those that are so on average."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from ase import Atoms
from springs import SpringOperator
from torch import Tensor

from ase_atom.operator import load_operator
from ase_atom.propagation import (
    NVE,
    CachedPotential,
    Langevin,
    Propagator,
    Step,
    jump,
    jump_reversible_on_average,
    reversible_jump,
    sample_velocities,
    torch_noise,
)
from ase_atom.propagation.mechanics import array
from ase_atom.propagation.steps import decode
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, KB


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def thermal(atoms: Atoms, copies: int = 1, seed: int = 0) -> PhaseState:
    state = PhaseState.from_atoms(atoms).repeat(copies)
    return sample_velocities(state, 300.0, seeded(seed))


ONE_PASS, TWO_PASSES = math.inf, 8.0
STRIDE = torch.tensor([16.0], dtype=torch.float64)


@pytest.mark.parametrize("piece", [ONE_PASS, TWO_PASSES])
def test_reversible_jumps_share_out_what_the_operator_adds(ethanol, piece):
    start, stride = thermal(ethanol, copies=2), torch.tensor([16.0], dtype=torch.float64)

    def energy(heating: float, make) -> torch.Tensor:
        operator, state = SpringOperator(ethanol, heating=heating, piece=piece), start
        for _ in range(100):
            positions, velocities = make(operator, state, stride)
            state = state.replace(positions=positions[:, 0], velocities=velocities[:, 0])
        return state.kinetic_energy() + operator.energy(state)

    exact = energy(0.0, jump)
    gained = (energy(1e-3, jump) - exact).min()
    assert gained > 0.5  # eV
    assert (energy(1e-3, reversible_jump) - exact).abs().max() < 0.05 * gained


def missed(make, operator: SpringOperator, state: PhaseState) -> float:
    """How far a jump and its way back end from the start, relative to the velocities."""
    here, stride = state, torch.tensor([16.0], dtype=torch.float64)
    for _ in range(2):
        positions, velocities = make(operator, here, stride)
        here = here.replace(positions=positions[:, 0], velocities=-velocities[:, 0])
    return float((here.velocities - state.velocities).norm() / state.velocities.norm())


@pytest.mark.parametrize(
    ("piece", "first", "left"),
    [(ONE_PASS, False, 0.05), (TWO_PASSES, False, 0.003), (TWO_PASSES, True, 0.003)],
)
def test_reversible_jumps_retrace_their_path(ethanol, piece, first, left):
    operator, state = SpringOperator(ethanol, heating=1e-3, piece=piece), thermal(ethanol)
    make = partial(reversible_jump, adjoint_first=first)
    assert missed(jump, operator, state) > 0.02
    assert missed(make, operator, state) < left * missed(jump, operator, state)


@pytest.mark.parametrize("first", [False, True])
def test_a_jump_that_keeps_the_energy_is_reversible_too(ethanol, first):
    operator, state = SpringOperator(ethanol, heating=1e-3, piece=TWO_PASSES), thermal(ethanol)

    def keeping(operator, state, times):
        potential = CachedPotential(operator.energy)
        return reversible_jump(operator, state, times, potential, adjoint_first=first)

    x, v = keeping(operator, state, torch.tensor([16.0], dtype=torch.float64))
    end = state.replace(positions=x[:, -1], velocities=v[:, -1])
    before, after = (each.kinetic_energy() + operator.energy(each) for each in (state, end))
    assert float((after - before).abs().max()) < 1e-3 * float(state.kinetic_energy().mean())
    assert missed(keeping, operator, state) < 0.01 * missed(jump, operator, state)


def test_one_order_is_the_other_half_a_jump_later(ethanol):
    """Half a jump later, Φ and its adjoint are met in the other order."""
    operator, state = SpringOperator(ethanol, heating=1e-3, piece=TWO_PASSES), thermal(ethanol)
    stride = torch.tensor([16.0], dtype=torch.float64)

    def made(start: PhaseState, first: bool) -> PhaseState:
        x, v = reversible_jump(operator, start, stride, adjoint_first=first)
        return start.replace(positions=x[:, -1], velocities=v[:, -1])

    half = stride / 2
    x, v = operator(state, half)
    halfway = state.replace(positions=x[:, -1], velocities=v[:, -1])
    x, v = operator(made(state, False), half)
    torch.testing.assert_close(made(halfway, True).velocities, v[:, -1], rtol=0, atol=1e-6)


class Kicked(SpringOperator):
    """Springs of one period, with a kick towards the minimum at the start of each pass."""

    kick = 0.01

    def __init__(self, atoms: Atoms, half_period: float) -> None:
        self.rate = math.pi / half_period
        mass = atoms.get_masses()[0]
        super().__init__(atoms, AMU_A2_FS2_IN_EV * mass * self.rate**2 / len(atoms), piece=8.0)

    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        off = state.positions - self.reference
        kick = self.kick * self.rate * (off - off.mean(1, keepdim=True))
        return super().__call__(state.replace(velocities=state.velocities - kick), times)


def gained(operator: Kicked, atoms: Atoms, jumps: int, order: Callable[[int], bool]) -> Tensor:
    """Energies of replicas after a number of jumps over those at the start."""
    state = start = thermal(atoms, copies=8).without_drift()
    for number in range(jumps):
        x, v = reversible_jump(operator, state, STRIDE, adjoint_first=order(number))
        state = state.replace(positions=x[:, -1], velocities=v[:, -1])
    energies = [each.kinetic_energy() + operator.energy(each) for each in (start, state)]
    return energies[1] / energies[0]


TRIANGLE = Atoms("O3", [[0, 0, 0], [1.3, 0, 0], [0.6, 1.1, 0]])


def test_a_vibration_of_which_a_jump_is_half_a_period_does_not_gain_without_bounds():
    """Errors of one order add up from jump to jump, those of both in turn do not."""
    operator = Kicked(TRIANGLE, 16.0 / (1 - Kicked.kick / math.pi))
    assert gained(operator, TRIANGLE, 300, lambda number: False).mean() > 10
    found = gained(operator, TRIANGLE, 300, lambda number: number % 2 == 1)
    assert float((found - 1).abs().max()) < 0.1


@pytest.mark.parametrize("half_period", [7.0, 14.0, 30.0])
def test_other_vibrations_keep_what_they_have_when_the_orders_are_taken_in_turn(half_period):
    operator = Kicked(TRIANGLE, half_period)
    found = gained(operator, TRIANGLE, 300, lambda number: number % 2 == 1)
    assert float((found - 1).abs().max()) < 0.1


@pytest.mark.parametrize("first", [False, True])
def test_a_divided_jump_has_no_step_in_its_middle(ethanol, first):
    operator, state = SpringOperator(ethanol, heating=1e-3, piece=TWO_PASSES), thermal(ethanol)
    times = torch.linspace(0.0, 16.0, 161, dtype=torch.float64)[1:]
    potential = CachedPotential(operator.energy)
    positions, velocities = reversible_jump(operator, state, times, potential, adjoint_first=first)
    accelerations = (velocities[:, 1:] - velocities[:, :-1]).abs().amax((0, 2, 3))
    elsewhere = torch.cat([accelerations[:70], accelerations[90:]])
    assert accelerations[78:82].max() < 1.2 * elsewhere.max()
    # Velocities are the derivatives of the positions, also across the middle.
    moved = (positions[:, 2:] - positions[:, :-2]) / 0.2
    assert float((moved - velocities[:, 1:-1]).abs().max()) < 0.02 * float(velocities.abs().max())


@pytest.mark.parametrize("piece", [ONE_PASS, TWO_PASSES])
def test_reversible_jumps_decode_frames_on_the_path_to_their_end(ethanol, piece):
    operator = SpringOperator(ethanol, heating=1e-3, piece=piece)
    state = thermal(ethanol)
    times = torch.tensor([4.0, 8.0, 11.0, 16.0], dtype=torch.float64)
    path = reversible_jump(operator, state, times)
    end = reversible_jump(operator, state, times[-1:])
    for whole, alone in zip(path, end, strict=True):
        torch.testing.assert_close(whole[:, -1:], alone, rtol=0, atol=1e-12)
    exact = SpringOperator(ethanol)(state, times)[0]
    assert (path[0] - exact).abs().max() < 0.01


def test_vibrations_of_a_trained_operator_keep_their_energy_in_reversible_jumps(ethanol):
    operator = load_operator("ethanol-gfn2")
    state = thermal(ethanol, copies=4).without_drift()
    start = state.kinetic_energy() + operator.energy(state)

    def gain(ensemble: NVE) -> float:
        for frames in Propagator(operator, state, ensemble, stride=16.0).run(960.0):
            last = frames.state(-1)
        return float((last.kinetic_energy() + operator.energy(last) - start).mean())

    lost = gain(NVE(False, False))
    assert lost < -0.03  # eV
    assert abs(gain(NVE(False, True))) < -0.3 * lost


# -- on average -----------------------------------------------------------------------------------

STRIDE = torch.tensor([16.0], dtype=torch.float64)


def canonical(operator: SpringOperator, atoms: Atoms, copies: int) -> PhaseState:
    """Positions and velocities of springs at 300 K."""
    state = thermal(atoms, copies)
    size = (KB * 300.0 / AMU_A2_FS2_IN_EV) ** 0.5 / operator.omega.clamp(min=1e-30)
    size[operator.omega == 0] = 0.0
    noise = torch.randn(state.positions.shape, dtype=torch.float64, generator=seeded(3))
    moved = operator.modes @ (size[:, None] * noise) / operator.root[:, None]
    return state.replace(positions=state.positions + moved)


def gains(operator: SpringOperator, state: PhaseState, made: tuple[Tensor, Tensor]) -> Tensor:
    end = state.replace(positions=made[0][:, -1], velocities=made[1][:, -1])
    before, after = (each.kinetic_energy() + operator.energy(each) for each in (state, end))
    return after - before


@pytest.mark.parametrize("piece", [16.0, 8.0, 4.0, 2.0])
def test_jumps_that_are_reversible_on_average_gain_nothing_on_average(ethanol, piece):
    operator = SpringOperator(ethanol, heating=1e-4, piece=piece)
    state = canonical(operator, ethanol, 4000)
    gained = gains(operator, state, jump(operator, state, STRIDE)).mean()
    made = jump_reversible_on_average(operator, state, STRIDE, torch_noise(1))
    left = gains(operator, state, made)
    assert float(left.mean().abs()) < 0.03 * float(gained) + 4 * float(left.std()) / 4000**0.5
    assert 4 * float(left.std()) / 4000**0.5 < 0.2 * float(gained)


@pytest.mark.parametrize("piece", [16.0, 8.0, 4.0])
def test_they_add_half_as_many_passes(ethanol, piece):
    passed = []

    class Counted(SpringOperator):
        def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
            passed.append(state.batch_size * math.ceil(float(times[-1]) / self.piece))
            return super().__call__(state, times)

    operator, state = Counted(ethanol, heating=1e-3, piece=piece), thermal(ethanol, 2000)
    jump_reversible_on_average(operator, state, STRIDE, torch_noise(1))
    assert sum(passed) / (2000 * 16.0 / piece) == pytest.approx(1.5, abs=0.06)


def test_their_paths_have_no_step_at_the_start(ethanol):
    operator, state = SpringOperator(ethanol, heating=4e-3, piece=4.0), thermal(ethanol)
    times = torch.linspace(0.0, 16.0, 161, dtype=torch.float64)[1:]
    positions, velocities = jump_reversible_on_average(operator, state, times, torch_noise(1))
    assert float((positions[:, -1] - jump(operator, state, times)[0][:, -1]).abs().max()) > 1e-3
    size = float(state.velocities.abs().max())
    first = positions[:, 0] - state.positions - 0.1 * state.velocities
    assert float(first.abs().max()) < 0.02 * 0.1 * size
    assert float((velocities[:, 0] - state.velocities).abs().max()) < 0.03 * size


def test_a_correction_is_never_larger_than_what_it_corrects(ethanol):
    # A map that doubles velocities would be answered by turning them round.
    operator, state = SpringOperator(ethanol, heating=0.06, piece=4.0), thermal(ethanol, 3)
    state.velocities[2] = 0.0
    made = jump_reversible_on_average(operator, state, STRIDE, torch_noise(1))
    assert bool(torch.isfinite(made[1]).all())
    moved = SpringOperator(ethanol)(state.replace(positions=made[0][:, 0]), -STRIDE)[0]
    assert float((moved - state.positions).abs().max()) < 0.5


def test_a_molecule_without_numbers_is_not_corrected_and_disturbs_no_other(ethanol):
    operator, state = SpringOperator(ethanol, heating=1e-3, piece=4.0), thermal(ethanol, 2)
    broken = state.replace(velocities=state.velocities.clone())
    broken.velocities[0] = math.inf
    alone = jump_reversible_on_average(operator, state, STRIDE, torch_noise(1))
    beside = jump_reversible_on_average(operator, broken, STRIDE, torch_noise(1))
    for one, other in zip(alone, beside, strict=True):
        torch.testing.assert_close(one[1], other[1], rtol=0, atol=1e-12)


def test_a_short_stride_is_corrected_where_the_usual_one_takes_several_passes(ethanol):
    operator, state = SpringOperator(ethanol, heating=1e-3, piece=8.0), thermal(ethanol, 200)
    times = torch.tensor([8.0], dtype=torch.float64)
    single = jump(operator, state, times)[0]

    def corrected() -> float:
        step = Step(8.0, torch_noise(1), operator.energy)
        found = decode(operator, Langevin(), state, times, step)[0]
        return float((found != single).flatten(1).any(1).double().mean())

    assert corrected() == 0.0
    operator.card = load_operator("organic-wb97m").card
    assert corrected() == pytest.approx(0.25, abs=0.1)


def test_langevin_dynamics_keep_each_vibration_at_the_temperature_by_them(ethanol):
    """Of a map that feeds some vibrations and starves others, with its energy restored."""
    heating = 3e-3 * torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(5)[:9]
    operator = SpringOperator(ethanol, heating=heating, piece=8.0)

    def spread(reversible: bool | None) -> float:
        ensemble = Langevin(300.0, 0.01, reversible=reversible)
        march = Propagator(operator, thermal(ethanol, 64), ensemble, stride=16.0, seed=1)
        heat = []
        for place, _ in enumerate(march.run(4000.0)):
            if place > 60:
                v = array(march.state.velocities) * operator.root[:, None].numpy()
                heat.append(((operator.modes.numpy().T @ v) ** 2).mean((0, 2)))
        kelvin = torch.as_tensor(sum(heat) / len(heat)) * AMU_A2_FS2_IN_EV / KB
        # The last mode is the centre of mass's, which is held.
        return float((kelvin[operator.omega > 0] / 300.0 - 1.0).abs().max())

    assert spread(False) > 0.15
    assert spread(None) < 0.05
