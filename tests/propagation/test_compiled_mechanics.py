"""The mechanics that Numba compiles give the numbers of those in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule

from ase_atom.propagation import Guard, sample_velocities
from ase_atom.propagation.bodies import with_bodies
from ase_atom.propagation.mechanics import Bodies, array
from ase_atom.state import PhaseState

pytest.importorskip("numba")
compiled_mechanics = pytest.importorskip("ase_atom.propagation.compiled_mechanics")

# The second and the fourth are linear; all but the last are padded.
NAMES = ("CH3CH2OH", "C2H2", "H2O", "CO2", "isobutane")


@pytest.fixture
def pair() -> tuple[PhaseState, PhaseState]:
    """Start and end of a jump, neither with its centre at rest or at the origin."""
    draw = torch.Generator().manual_seed(3)
    start = PhaseState.from_atoms([molecule(name) for name in NAMES])
    start = sample_velocities(start, 300.0, draw, fix_com=False)
    end = sample_velocities(start, 400.0, draw, fix_com=False)
    there = start.mask[..., None]
    return start, end.replace(positions=(end.positions + 3.0) * there)


def both(state: PhaseState) -> tuple[Bodies, Bodies]:
    compiled = Bodies.of(with_bodies(state, "numba"))
    assert isinstance(compiled, compiled_mechanics.CompiledBodies)
    plain = Bodies.of(with_bodies(state, "onnx"))
    assert type(plain) is Bodies
    return plain, compiled


def bent(state: PhaseState) -> PhaseState:
    draw = torch.Generator().manual_seed(4)
    shift = 0.05 * torch.randn(state.positions.shape, generator=draw, dtype=torch.float64)
    return state.replace(positions=state.positions + shift * state.mask[..., None])


def assert_same(mine: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-15)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("turn", [True, False])
@pytest.mark.parametrize("gain", [None, [0.1, -0.1, 0.05, 0.0, -100.0]])
def test_what_a_jump_keeps(pair, linear, turn, gain) -> None:
    """The last molecule has less energy left than its rigid motion."""
    start, end = pair if linear else map(bent, pair)
    numbers = [array(each) for each in (end.positions, end.velocities)]
    numbers += [array(each) for each in (start.positions, start.velocities)]
    found, wanted = (
        bodies.kept(*numbers, None if gain is None else np.array(gain), turn)
        for bodies in reversed(both(end))
    )
    assert_same(found, wanted)
    assert (turn or gain is not None) == bool((found != numbers[1]).any())


@pytest.mark.parametrize("rest", [True, False])
def test_thermostats(pair, rest) -> None:
    v = array(pair[1].velocities)
    noise = np.random.default_rng(5).standard_normal(v.shape)
    freedom = 3 * pair[1].num_atoms.numpy() - 3
    flat = noise.reshape(len(noise), -1)
    plain, compiled = both(pair[1])
    assert_same(
        compiled.ornstein_uhlenbeck(v, 0.9, 0.02, noise, rest),
        plain.ornstein_uhlenbeck(v, 0.9, 0.02, noise, rest),
    )
    assert_same(
        compiled.rescaled(v, freedom, flat, 0.9, 0.01, rest),
        plain.rescaled(v, freedom, flat, 0.9, 0.01, rest),
    )


def test_first_frame_that_is_broken(pair) -> None:
    state = pair[1]
    guard, (plain, compiled) = Guard.watch(state), both(state)
    x = np.stack([array(state.positions)] * 4, axis=1)
    v = np.stack([array(state.velocities)] * 4, axis=1)
    x[1, 2] *= 3.0  # bonds are too long
    x[2, 1, 0] = x[2, 1, 1]  # two atoms are in one place
    v[3, 3, 0, 0], x[4, 0, 0, 0] = np.nan, np.inf
    for bodies in plain, compiled:
        assert bodies.first_outside(x, v, guard._squares).tolist() == [4, 2, 1, 3, 0]
        assert bodies.are_finite(x[:, 1], v[:, 1]) is True
        assert bodies.are_finite(x[:, 3], v[:, 3]) is False
        assert bodies.are_finite(x[:, 0], v[:, 0]) is False
        # The same of frames that do not lie one behind the other in memory.
        turned = [np.asfortranarray(each) for each in (x, v)]
        assert bodies.first_outside(*turned, guard._squares).tolist() == [4, 2, 1, 3, 0]


def test_a_molecule_does_not_depend_on_its_batch(pair) -> None:
    start, end = map(bent, pair)
    gain = np.full(len(NAMES), 0.05)

    def kept(row: slice) -> np.ndarray:
        rows = torch.arange(len(NAMES))[row]
        one, other = start.select(rows), end.select(rows)
        numbers = other.positions, other.velocities, one.positions, one.velocities
        return both(other)[1].kept(*map(array, numbers), gain[row], True)

    together = kept(slice(None))
    for row in range(len(NAMES)):
        assert np.array_equal(kept(slice(row, row + 1))[0], together[row])
