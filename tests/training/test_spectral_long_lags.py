"""The spectral operator at lags past a molecule's memory: bounded carrier, place of rest."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from pydantic import ValidationError
from torch import Tensor

from ase_atom import PhaseState
from ase_atom.errors import ConfigError, CoverageError
from ase_atom.operator import build_operator
from training.benchmarks.long_lag import LongLagConfig, best_rotation, rotate

SIZES = {
    "width": 16,
    "pair_width": 8,
    "vector_channels": 8,
    "heads": 2,
    "blocks": 1,
    "energy_blocks": 1,
    "pair_vectors": 2,
    "radial_channels": 4,
    "modes": 4,
    "horizon": 1500.0,
    "segment": 1500.0,
    "frequency_range": (0.002, 0.3),
    "carrier": "bounded",
}


def operator_of(ethanol: Atoms, **changes: object):
    torch.manual_seed(0)
    changes = {"rest": "aligned", "centre": "uniform", "rest_terms": 2} | changes
    if changes["rest"] != "aligned":
        changes["rest_terms"] = 1
    else:
        changes["rest_numbers"] = tuple(ethanol.numbers.tolist())
    operator = build_operator(LongLagConfig(**(SIZES | changes))).double().eval()
    if changes["rest"] == "aligned":
        terms = torch.linspace(1, 0.8, 6, dtype=torch.float64)[:, None, None]
        structures = torch.as_tensor(ethanol.positions) * terms
        operator.set_rest(structures, torch.linspace(0, 1500, 6))
    return operator


def states(ethanol: Atoms, count: int = 3) -> PhaseState:
    state = PhaseState.from_atoms(ethanol).repeat(count)
    draw = torch.Generator().manual_seed(3)
    shape = state.positions.shape
    shaken = 0.05 * torch.randn(shape, generator=draw, dtype=torch.float64)
    moving = 0.01 * torch.randn(shape, generator=draw, dtype=torch.float64)
    return state.replace(positions=state.positions + shaken, velocities=moving)


def orthogonal(sign: float) -> Tensor:
    draw = torch.Generator().manual_seed(5)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw, dtype=torch.float64))
    return q * torch.sign(torch.linalg.det(q)) * sign


@pytest.mark.parametrize("rest", ["none", "learned", "aligned"])
def test_paths_start_at_the_state_and_velocities_are_their_derivatives(ethanol, rest):
    operator, state = operator_of(ethanol, rest=rest), states(ethanol)
    x, v = operator(state, torch.tensor([0.0]))
    assert torch.allclose(x[:, 0], state.positions, atol=1e-12)
    assert torch.allclose(v[:, 0], state.velocities, atol=1e-12)
    h = 1e-3
    for time in (7.0, 150.0, 1400.0):
        around, _ = operator(state, torch.tensor([time - h, time + h], dtype=torch.float64))
        _, here = operator(state, torch.tensor([time], dtype=torch.float64))
        slope = (around[:, 1] - around[:, 0]) / (2 * h)
        assert torch.allclose(slope, here[:, 0], atol=1e-7)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("rest", ["learned", "aligned"])
@pytest.mark.parametrize("centre", ["uniform", "free"])
def test_rotations_and_reflections_commute(ethanol, sign, rest, centre):
    operator, state = operator_of(ethanol, rest=rest, centre=centre), states(ethanol)
    turn, times = orthogonal(sign), torch.tensor([20.0, 700.0, 1500.0])
    x, v = operator(state, times)
    turned = state.replace(
        positions=state.positions @ turn.T + 2.0, velocities=state.velocities @ turn.T
    )
    moved_x, moved_v = operator(turned, times)
    assert torch.allclose(moved_x, x @ turn.T + 2.0, atol=1e-9)
    assert torch.allclose(moved_v, v @ turn.T, atol=1e-10)


def test_uniform_centre_moves_uniformly_and_a_free_one_does_not(ethanol):
    state, times = states(ethanol), torch.tensor([100.0, 1500.0])
    start, drift = state.center_of_mass()
    weights = (state.masses / state.masses.sum(1, keepdim=True))[:, None, :, None]
    x, v = operator_of(ethanol)(state, times)
    expected = start[:, None] + drift[:, None] * times[:, None]
    assert torch.allclose((weights * x).sum(2), expected, atol=1e-9)
    assert torch.allclose((weights * v).sum(2), drift[:, None].expand(-1, 2, -1), atol=1e-12)
    x, _ = operator_of(ethanol, centre="free")(state, times)
    assert ((weights * x).sum(2) - expected).norm(dim=-1).min() > 0.01


def test_without_a_network_the_molecule_comes_to_rest_on_the_structure(ethanol):
    state = states(ethanol).without_drift()
    operator = operator_of(ethanol, carrier_time=50.0, rest_terms=1)
    operator.set_rest(torch.as_tensor(ethanol.positions)[None], torch.tensor([0.0]))
    with torch.no_grad():
        for name, parameter in operator.named_parameters():
            if name.startswith("decoder.from_"):
                parameter.zero_()
    x, v = operator(state, torch.tensor([1500.0]))
    # One term stands still.
    bond = torch.as_tensor(ethanol.positions[0] - ethanol.positions[1]).norm()
    assert torch.allclose((x[:, 0, 0] - x[:, 0, 1]).norm(dim=-1), bond.expand(3), atol=1e-5)
    assert v.abs().max() < 1e-9
    # Nowhere near where free flight would have taken it.
    assert (x[:, 0] - state.positions).norm(dim=-1).max() < 0.5


def test_the_mean_path_passes_through_the_given_structures(ethanol):
    times = torch.tensor([200.0, 800.0, 1500.0])
    structures = torch.as_tensor(ethanol.positions - ethanol.get_center_of_mass())
    structures = structures * torch.tensor([0.95, 0.9, 0.85], dtype=torch.float64)[:, None, None]
    operator = operator_of(ethanol, carrier_time=10.0, rest_terms=3)
    operator.set_rest(structures, times)
    with torch.no_grad():
        for name, parameter in operator.named_parameters():
            if name.startswith("decoder.from_"):
                parameter.zero_()
    x, _ = operator(PhaseState.from_atoms(ethanol), times)
    centre = torch.as_tensor(ethanol.get_center_of_mass())
    assert torch.allclose(x[0], structures + centre, atol=1e-5)


def test_best_rotation_finds_a_known_turn_and_ignores_padding(ethanol):
    structure = torch.as_tensor(ethanol.positions - ethanol.get_center_of_mass())
    masses = torch.as_tensor(ethanol.get_masses())[None]
    for sign in (1.0, -1.0):
        turn = orthogonal(sign)
        pose = (structure @ turn.T)[None]
        assert torch.allclose(best_rotation(structure, pose, masses)[0], turn, atol=1e-10)
        assert torch.allclose(rotate(structure, turn[None]), pose, atol=1e-10)
        padded = torch.cat([pose, torch.full((1, 2, 3), 9.0, dtype=torch.float64)], dim=1)
        longer = torch.cat([structure, torch.zeros(2, 3, dtype=torch.float64)])
        none = torch.cat([masses, torch.zeros(1, 2, dtype=torch.float64)], dim=1)
        assert torch.allclose(best_rotation(longer, padded, none)[0], turn, atol=1e-10)


def test_another_molecule_is_refused(ethanol):
    operator = operator_of(ethanol)
    other = ethanol[[1, 0, 2, 3, 4, 5, 6, 7, 8]][[2, 0, 1, 3, 4, 5, 6, 7, 8]]
    with pytest.raises(CoverageError, match="this order"):
        operator(PhaseState.from_atoms(other), torch.tensor([8.0]))
    with pytest.raises(ConfigError, match="4 atoms"):
        operator.set_rest(torch.zeros(1, 4, 3), torch.zeros(1))
    with pytest.raises(ConfigError, match="none"):
        operator_of(ethanol, rest="learned").set_rest(torch.zeros(1, 9, 3), torch.zeros(1))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"carrier": "ballistic", "rest": "learned"}, "bounded"),
        ({"rest": "aligned"}, "rest_numbers"),
        ({"rest": "learned", "rest_numbers": (6, 6)}, "rest_numbers"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, word):
    with pytest.raises(ValidationError, match=word):
        LongLagConfig(**(SIZES | changes))
