"""The operator's exact properties: symmetries, initial conditions, derivatives, padding, files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ase_atom.errors import CheckpointError, CoverageError, HorizonError
from ase_atom.operator import (
    Operator,
    OperatorCard,
    SpectralConfig,
    build_operator,
    list_operators,
    load_operator,
    save_operator,
)
from ase_atom.operator.checkpoint import find_operator
from ase_atom.state import PhaseState

TIMES = torch.tensor([0.0, 0.5, 3.0, 8.0, 11.0, 16.0])


def small_operator(seed: int = 0, **changes: float) -> Operator:
    """A small operator with random weights, two segments to its horizon, in float64."""
    torch.manual_seed(seed)
    config = SpectralConfig(
        horizon=16.0,
        segment=8.0,
        width=16,
        pair_width=12,
        vector_channels=8,
        blocks=3,
        heads=2,
        pair_vectors=4,
        radial_channels=6,
        modes=6,
        **changes,
    )
    operator = build_operator(config).double().requires_grad_(False)
    # Fresh weights make small messages; larger ones leave no symmetry error in the noise.
    for parameter in operator.parameters():
        parameter.mul_(1.5)
    return operator


@pytest.fixture(params=[{}, {"vector_limit": 0.5}], ids=["plain", "limited"])
def operator(request: pytest.FixtureRequest) -> Operator:
    return small_operator(**request.param)


@pytest.fixture
def state() -> PhaseState:
    return moving("CH3CH2OH")


def moving(name: str, seed: int = 1) -> PhaseState:
    """A molecule away from its minimum, off the origin, drifting and rotating."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape) + [2.0, -1.0, 0.5]
    atoms.set_velocities(rng.normal(scale=0.1, size=atoms.positions.shape) + [0.05, 0.0, 0.02])
    return PhaseState.from_atoms(atoms)


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
def test_rotations_and_reflections_commute_with_the_map(operator, state, improper):
    matrix = torch.as_tensor(Rotation.random(rng=np.random.default_rng(3)).as_matrix())
    matrix = -matrix if improper else matrix
    turned = state.replace(
        positions=state.positions @ matrix.T, velocities=state.velocities @ matrix.T
    )
    before, after = operator(state, TIMES), operator(turned, TIMES)
    for left, right in zip(before, after, strict=True):
        assert (left - left[:, :1]).abs().max() > 1e-3  # there is something to compare
        torch.testing.assert_close(left @ matrix.T, right, rtol=0, atol=1e-11)
    torch.testing.assert_close(operator.energy(state), operator.energy(turned))


def test_rotations_commute_to_rounding_in_single_precision(operator, state):
    single = operator.float()
    matrix = torch.as_tensor(Rotation.random(rng=np.random.default_rng(4)).as_matrix())
    turned = state.replace(
        positions=state.positions @ matrix.T, velocities=state.velocities @ matrix.T
    )
    left, right = single(state, TIMES)[0], single(turned, TIMES)[0]
    torch.testing.assert_close(left @ matrix.T, right, rtol=0, atol=2e-5)


def test_translations_and_boosts_move_the_path_and_nothing_else(operator, state):
    shift = torch.tensor([5.0, -3.0, 1.0], dtype=torch.float64)
    boost = torch.tensor([0.01, 0.02, -0.03], dtype=torch.float64)
    moved = state.replace(positions=state.positions + shift, velocities=state.velocities + boost)
    x, v = operator(state, TIMES)
    y, w = operator(moved, TIMES)
    expected = x + shift + boost * TIMES.double()[None, :, None, None]
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(w, v + boost, rtol=0, atol=1e-11)


def test_permutations_of_like_atoms_permute_the_path(operator, state):
    order = torch.tensor([8, 3, 1, 0, 7, 2, 5, 4, 6])
    shuffled = PhaseState(
        state.numbers[:, order],
        state.masses[:, order],
        state.positions[:, order],
        state.velocities[:, order],
    )
    for left, right in zip(operator(state, TIMES), operator(shuffled, TIMES), strict=True):
        torch.testing.assert_close(left[:, :, order], right, rtol=0, atol=1e-11)


def test_path_starts_at_the_state_exactly(operator, state):
    x, v = operator.float()(state, torch.zeros(1))
    torch.testing.assert_close(x[:, 0], state.positions, rtol=0, atol=1e-14)
    torch.testing.assert_close(v[:, 0], state.velocities, rtol=0, atol=1e-14)


@pytest.mark.parametrize("time", [0.7, 5.0, 7.9])
def test_velocity_is_the_derivative_of_the_position(operator, state, time):
    species = operator.species_of[state.numbers]
    centre, drift = state.center_of_mass()
    x, v = state.positions - centre[:, None], state.velocities - drift[:, None]

    def path(t: torch.Tensor) -> torch.Tensor:
        return operator.segment(species, state.masses, x, v, t)[0]

    at = torch.tensor([time], dtype=torch.float64)
    derivative = torch.autograd.functional.jvp(path, at, torch.ones_like(at))[1]
    velocity = operator.segment(species, state.masses, x, v, at)[1]
    torch.testing.assert_close(velocity, derivative, rtol=0, atol=1e-10)


def test_segments_join_without_a_gap(operator, state):
    edge = operator.config.segment
    x, v = operator(state, torch.tensor([edge, edge + 1e-6], dtype=torch.float64))
    torch.testing.assert_close(x[:, 1], x[:, 0] + 1e-6 * v[:, 0], rtol=0, atol=1e-10)
    halfway = state.replace(positions=x[:, 0], velocities=v[:, 0])
    once = operator(state, torch.tensor([2 * edge]))
    again = operator(halfway, torch.tensor([edge]))
    for left, right in zip(once, again, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


def test_centre_of_mass_moves_uniformly(operator, state):
    x, v = operator(state, TIMES)
    weights = (state.masses / state.masses.sum())[0, :, None]
    centre, drift = state.center_of_mass()
    expected = centre[:, None] + drift[:, None] * TIMES.double()[None, :, None]
    torch.testing.assert_close((weights * x).sum(2), expected, rtol=0, atol=1e-11)
    momentum = (weights * v).sum(2)
    torch.testing.assert_close(momentum, drift[:, None].expand_as(momentum), rtol=0, atol=1e-12)


def test_padding_and_company_change_nothing(operator, state):
    alone = operator(state, TIMES)
    batch = PhaseState.cat([moving("H2O"), state, moving("C3H8")])
    together = operator(batch, TIMES)
    atoms = state.numbers.shape[1]
    for left, right in zip(alone, together, strict=True):
        torch.testing.assert_close(left[0], right[1, :, :atoms], rtol=0, atol=1e-11)
        assert not right[1, :, atoms:].any()
    energy, forces = operator.energy_and_forces(state)
    energies, all_forces = operator.energy_and_forces(batch)
    torch.testing.assert_close(energy[0], energies[1])
    torch.testing.assert_close(forces[0], all_forces[1, :atoms], rtol=0, atol=1e-11)


def test_single_atom_flies_straight(operator):
    atom = PhaseState(
        torch.tensor([[1]]),
        torch.tensor([[1.008]], dtype=torch.float64),
        torch.zeros(1, 1, 3, dtype=torch.float64),
        torch.full((1, 1, 3), 0.01, dtype=torch.float64),
    )
    x, v = operator(atom, torch.tensor([10.0]))
    torch.testing.assert_close(x, torch.full_like(x, 0.1))
    torch.testing.assert_close(v, torch.full_like(v, 0.01))


def test_forces_are_minus_the_gradient_of_the_energy(operator, state):
    operator.set_energy_scale({1: -10.0, 6: -1000.0, 8: -2000.0}, 0.7)
    _, forces = operator.energy_and_forces(state)
    step = 1e-4
    for atom, axis in [(0, 0), (2, 1), (5, 2)]:
        energies = []
        for sign in (1, -1):
            positions = state.positions.clone()
            positions[0, atom, axis] += sign * step
            energies.append(operator.energy(state.replace(positions=positions)))
        slope = -(energies[0] - energies[1]) / (2 * step)
        torch.testing.assert_close(forces[0, atom, axis], slope[0], rtol=1e-5, atol=1e-6)


def test_energy_ignores_velocities(operator, state):
    still = state.replace(velocities=torch.zeros_like(state.velocities))
    assert torch.equal(operator.energy(state), operator.energy(still))


@pytest.mark.parametrize("time", [-1.0, 16.1, float("nan"), float("inf")])
def test_times_outside_the_horizon_are_refused(operator, state, time):
    with pytest.raises(HorizonError):
        operator(state, torch.tensor([1.0, time]))


def test_a_limit_bounds_the_vectors_of_rare_states_and_leaves_usual_ones(state):
    plain, limited = small_operator(), small_operator(vector_limit=8.0)
    for operator in (plain, limited):
        for parameter in operator.parameters():
            parameter.mul_(0.5)

    def longest(operator: Operator, v: torch.Tensor) -> float:
        species = operator.species_of[state.numbers]
        speeds = torch.full_like(state.masses, 0.01).unsqueeze(-1)
        features = operator.trunk(operator.lift(species, state.positions, v, speeds))
        return float(features.vectors.norm(dim=-2).max())

    rare = 1000 * state.velocities
    assert longest(limited, rare) <= 8.0 < longest(plain, rare)
    for left, right in zip(plain(state, TIMES), limited(state, TIMES), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-3)


def test_unknown_element_is_refused(operator):
    with pytest.raises(CoverageError, match=r"\[17\]"):
        operator(moving("HCl"), TIMES)


def test_no_times_give_no_frames(operator, state):
    x, v = operator(state, torch.zeros(0))
    assert x.shape == v.shape == (1, 0, 9, 3)


def test_config_refuses_what_cannot_be_built():
    with pytest.raises(ValueError, match="longer than the horizon"):
        SpectralConfig(segment=32, horizon=16)
    with pytest.raises(ValueError, match="multiples of heads"):
        SpectralConfig(width=100, heads=8)
    with pytest.raises(ValueError, match="bloks"):
        SpectralConfig.model_validate({"bloks": 3})


# -- checkpoints -----------------------------------------------------------------------------------


@pytest.fixture
def saved(operator, tmp_path):
    operator = operator.float()
    operator.set_energy_scale({1: -10.0, 6: -1000.0, 8: -2000.0}, 0.7)
    operator.card = OperatorCard(
        name="small",
        smiles=["CCO"],
        elements=[1, 6, 8],
        masses={1: 1.008, 6: 12.011, 8: 15.999},
        temperature_range_K=(300.0, 500.0),
        horizon_fs=16.0,
        stride_fs=8.0,
        level_of_theory="none",
        training_command="none",
        data_fingerprint="none",
    )
    return operator, save_operator(operator, tmp_path / "small.safetensors")


def test_checkpoint_round_trip_changes_nothing(saved, state):
    operator, path = saved
    loaded = load_operator(path)
    assert loaded.config == operator.config
    assert loaded.card == operator.card
    assert not loaded.training
    for left, right in zip(operator(state, TIMES), loaded(state, TIMES), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(operator.energy(state), loaded.energy(state))


def test_truncated_checkpoint_is_refused(saved):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        load_operator(path)


@pytest.mark.parametrize("place", ["weights", "card"])
def test_altered_checkpoint_is_refused(saved, place):
    path = saved[1]
    content = bytearray(path.read_bytes())
    if place == "weights":
        content[-10] ^= 1
    else:
        at = content.index(b"CCO")
        content[at : at + 3] = b"COC"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="altered"):
        load_operator(path)


def test_other_files_are_no_operators(tmp_path):
    from safetensors.torch import save_file

    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, other)
    with pytest.raises(CheckpointError, match="no ase-atom operator"):
        load_operator(other)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(CheckpointError, match="no ase-atom operator"):
        load_operator(text)


def test_missing_operator_names_those_that_are_shipped():
    with pytest.raises(CheckpointError, match="ethanol-gfn9"):
        find_operator("ethanol-gfn9")


def test_operator_without_a_card_is_not_saved(operator, tmp_path):
    with pytest.raises(CheckpointError, match="card"):
        save_operator(operator, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_shipped_operators_load_and_know_their_molecules():
    cards = list_operators()
    assert [card.name for card in cards] == sorted(card.name for card in cards)
    for card in cards:
        operator = load_operator(card.name)
        assert operator.horizon == card.horizon_fs
        assert set(card.elements) <= set(operator.config.elements)
