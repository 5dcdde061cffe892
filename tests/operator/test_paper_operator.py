"""The published architecture as an operator: symmetries, switches, refusals, files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import make_card
from scipy.spatial.transform import Rotation

from ase_atom.errors import ConfigError, CoverageError, HorizonError
from ase_atom.operator import (
    EnergyConfig,
    Operator,
    PaperConfig,
    SpectralConfig,
    build_operator,
    load_operator,
    parse_config,
    save_operator,
)
from ase_atom.operator.paper.equivariant import Irreps
from ase_atom.operator.paper.frames import body_axes
from ase_atom.propagation import NVE, Step, advance, torch_noise
from ase_atom.state import PhaseState

TIMES = torch.tensor([0.0, 0.5, 4.0, 7.3, 16.0])
SMALL = {"width": 32, "heads": 2, "blocks": 3, "timesteps": 4}
PROPAGATOR = {
    "horizon": 32.0,
    "segment": 16.0,
    "velocities": True,
    "update": "path",
    "frame": "centre_of_mass",
    "frame_interval": None,
    "anchor": True,
    "constant_input": True,
}
ENERGY = EnergyConfig(
    width=16, pair_width=8, vector_channels=8, blocks=1, heads=2, pair_vectors=2, radial_channels=4
)
SWITCHES = [
    {},
    {"lift": "equivariant"},
    {"lift": "plain"},
    {"walks": 3},
    {"positional": "none"},
    {"positional": "rope"},
    {"positional": "sinusoidal"},
    {"attention": "self"},
    {"attention_scale": "learned"},
    {"trunk": "equivariant"},
    {"trunk": "equivariant", "activation": "silu", "attention": "self", "positional": "rope"},
    {"activation": "silu"},
    {"value_residual": "none"},
    {"value_residual": "fixed"},
    {"output_heads": 3},
    {"update": "delta"},
    {"update": "absolute"},
    {"frame": "body"},
    {"frame": "body", "update": "delta", "walks": 2},
]


def names(changes: dict) -> str:
    return ",".join(f"{key}={value}" for key, value in changes.items()) or "propagator"


def make(seed: int = 0, **changes: object) -> Operator:
    """A small operator with random weights, in float64."""
    torch.manual_seed(seed)
    config = PaperConfig(**(SMALL | PROPAGATOR | changes))
    return build_operator(config).double().eval().requires_grad_(False)


def moving(name: str, seed: int = 1) -> PhaseState:
    """A molecule away from its minimum, off the origin, drifting and rotating."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape) + [2.0, -1.0, 0.5]
    atoms.set_velocities(rng.normal(scale=0.1, size=atoms.positions.shape) + [0.05, 0.0, 0.02])
    return PhaseState.from_atoms(atoms)


@pytest.fixture
def state() -> PhaseState:
    return moving("CH3CH2OH")


def assert_close(left: torch.Tensor, right: torch.Tensor, within: float = 1e-10) -> None:
    """Equal to a share of the largest entry."""
    torch.testing.assert_close(left, right, rtol=0, atol=within * float(right.abs().max()))


# -- exact properties ------------------------------------------------------------------------------


def test_path_starts_at_the_state(state):
    x, v = make().float()(state, torch.zeros(1))
    torch.testing.assert_close(x[:, 0], state.positions, rtol=0, atol=1e-14)
    torch.testing.assert_close(v[:, 0], state.velocities, rtol=0, atol=1e-14)


def test_path_bends_with_the_square_of_a_short_time(state):
    times = torch.tensor([1e-3, 2e-3], dtype=torch.float64)
    x, v = make()(state, times)
    lag = times[:, None, None]
    bend = (x - state.positions[:, None] - state.velocities[:, None] * lag)[0]
    turn = (v - state.velocities[:, None])[0]
    assert_close(bend[1], 4 * bend[0], within=1e-2)
    assert_close(turn[1], 2 * turn[0], within=1e-2)


@pytest.mark.parametrize("changes", SWITCHES, ids=names)
def test_centre_of_mass_moves_uniformly(state, changes):
    x, v = make(**changes)(state, TIMES)
    weights = (state.masses / state.masses.sum())[0, :, None]
    centre, drift = state.center_of_mass()
    expected = centre[:, None] + drift[:, None] * TIMES.double()[None, :, None]
    torch.testing.assert_close((weights * x).sum(2), expected, rtol=0, atol=1e-10)
    momentum = (weights * v).sum(2)
    torch.testing.assert_close(momentum, drift[:, None].expand_as(momentum), rtol=0, atol=1e-10)


def test_translations_and_boosts_move_the_path_and_nothing_else(state):
    shift = torch.tensor([5.0, -3.0, 1.0], dtype=torch.float64)
    boost = torch.tensor([0.01, 0.02, -0.03], dtype=torch.float64)
    moved = state.replace(positions=state.positions + shift, velocities=state.velocities + boost)
    operator = make()
    (x, v), (y, w) = operator(state, TIMES), operator(moved, TIMES)
    expected = x + shift + boost * TIMES.double()[None, :, None, None]
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(w, v + boost, rtol=0, atol=1e-10)


def test_in_the_laboratory_frame_translations_matter(state):
    operator = make(frame="laboratory", update="absolute", horizon=16.0)
    moved = state.replace(positions=state.positions + 1)
    x, _ = operator(state, TIMES)
    y, _ = operator(moved, TIMES)
    assert (y - x - 1).abs().max() > 0.1


@pytest.mark.parametrize(
    "changes", [c for c in SWITCHES if c.get("positional") not in ("rope", "sinusoidal")], ids=names
)
def test_permutations_of_like_atoms_permute_the_path(state, changes):
    order = torch.tensor([8, 3, 1, 0, 7, 2, 5, 4, 6])
    fields = (state.numbers, state.masses, state.positions, state.velocities)
    shuffled = PhaseState(*(field[:, order] for field in fields))
    operator = make(**changes)
    for left, right in zip(operator(state, TIMES), operator(shuffled, TIMES), strict=True):
        assert_close(left[:, :, order], right)


@pytest.mark.parametrize("changes", SWITCHES, ids=names)
def test_padding_and_company_change_nothing(state, changes):
    operator = make(energy=ENERGY, **changes)
    alone = operator(state, TIMES)
    together = operator(PhaseState.cat([moving("H2O"), state, moving("C3H8")]), TIMES)
    atoms = state.numbers.shape[1]
    for left, right in zip(alone, together, strict=True):
        assert_close(left[0], right[1, :, :atoms])
        assert not right[1, :, atoms:].any()


@pytest.mark.parametrize("changes", SWITCHES, ids=names)
def test_answer_at_a_time_does_not_depend_on_the_others(state, changes):
    operator = make(**changes)
    x, v = operator(state, TIMES)
    for index, time in enumerate(TIMES):
        for many, one in zip((x, v), operator(state, time[None]), strict=True):
            assert_close(many[:, index], one[:, 0])


def test_propagation_ends_alike_whatever_frames_are_watched(state):
    """Jumps land where they land, to the last bit that differing sums allow."""
    step = Step(stride=16.0, noise=torch_noise(0), potential=lambda _: torch.zeros(1).double())
    ends = []
    for offsets in ([16.0], [0.7, 4.0, 11.1, 16.0]):
        now = state
        for _ in range(3):
            x, v = advance(
                make(), NVE(False, False), now, torch.tensor(offsets, dtype=torch.float64), step
            )
            now = now.replace(positions=x[:, -1], velocities=v[:, -1])
        ends.append(now)
    assert_close(ends[0].positions, ends[1].positions)
    assert_close(ends[0].velocities, ends[1].velocities)


def test_times_on_the_grid_and_beside_it_join(state):
    """The grid's own tokens and those of other times are one function of time."""
    operator = make()
    x, v = operator(state, torch.tensor([8.0, 8.0 + 1e-6], dtype=torch.float64))
    torch.testing.assert_close(x[:, 1], x[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(v[:, 1], v[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("anchor", [False, True])
@pytest.mark.parametrize("time", [0.3, 4.0])
def test_a_lone_time_is_told_by_its_lags(state, time, anchor):
    """With one token of context, 16 fs, and the anchor or not, answers depend on the time asked."""
    operator = make(timesteps=1, horizon=16.0, update="delta", anchor=anchor)
    at, last = (torch.tensor([t], dtype=torch.float64) for t in (time, 16.0))
    assert (operator(state, at)[0] - operator(state, last)[0]).abs().max() > 1e-3


# -- equivariance ----------------------------------------------------------------------------------


def turned(state: PhaseState, matrix: torch.Tensor) -> PhaseState:
    return state.replace(
        positions=state.positions @ matrix.T, velocities=state.velocities @ matrix.T
    )


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
@pytest.mark.parametrize("positional", ["temporal_rope", "rope", "none"])
def test_the_equivariant_trunk_is_so_exactly(state, improper, positional):
    operator = make(trunk="equivariant", positional=positional, walks=2, output_heads=2)
    assert operator.equivariant
    matrix = torch.as_tensor(Rotation.random(rng=np.random.default_rng(3)).as_matrix())
    matrix = -matrix if improper else matrix
    for left, right in zip(
        operator(state, TIMES), operator(turned(state, matrix), TIMES), strict=True
    ):
        assert (left - left[:, :1]).abs().max() > 1e-3
        assert_close(left @ matrix.T, right)


@pytest.mark.parametrize("update", ["path", "delta", "absolute"])
def test_along_the_bodys_axes_rotations_do_not_matter(state, update):
    operator = make(frame="body", update=update, walks=2)
    matrix = torch.as_tensor(Rotation.random(rng=np.random.default_rng(3)).as_matrix())
    (x, v), (y, w) = operator(state, TIMES), operator(turned(state, matrix), TIMES)
    assert_close(x @ matrix.T, y)
    assert_close(v @ matrix.T, w)
    # A mirror image is another matter: training shows it those as well.
    assert not operator.equivariant
    mirrored = operator(turned(state, -torch.eye(3).double()), TIMES)[0]
    assert (mirrored + x).abs().max() > 1e-3


def test_the_bodys_axes_follow_the_skeleton():
    state = moving("CH3CH2OH")
    axes = body_axes(state.positions, state.masses)[0]
    assert_close(axes.T @ axes, torch.eye(3).double())
    assert float(torch.linalg.det(axes)) == pytest.approx(1)
    x = (state.positions @ axes)[0]
    heavy = x[(state.numbers == 6)[0] | (state.numbers == 8)[0]]
    # Short, middle and long axis: next to nothing out of the plane of three heavy atoms.
    spread = heavy.std(0)
    assert spread[0] < 0.05 < spread[1] < spread[2]


def test_the_published_map_is_equivariant_in_its_lift_alone(state):
    operator = make(frame="laboratory", update="absolute", horizon=16.0)
    assert not operator.equivariant
    matrix = torch.as_tensor(Rotation.random(rng=np.random.default_rng(3)).as_matrix())
    other = turned(state, matrix)
    irreps = Irreps.of_width(32)
    extra = state.numbers.double().unsqueeze(-1)
    sides = [operator.lift(s.positions, s.velocities, extra, 0.0, 4) for s in (state, other)]
    for name in ("x", "v", "phase"):
        vectors, scalars = irreps.split(getattr(sides[0], name).rows())
        turned_vectors, same = irreps.split(getattr(sides[1], name).rows())
        assert_close(vectors @ matrix.T, turned_vectors)
        assert_close(scalars, same)
    x, y = operator(state, TIMES)[0], operator(other, TIMES)[0]
    assert (x @ matrix.T - y).abs().mean() > 0.1 * x.abs().mean()


# -- sizes, refusals, files ------------------------------------------------------------------------


def test_unknown_elements_and_times_are_refused(state):
    operator = make()
    with pytest.raises(CoverageError, match=r"\[17\]"):
        operator(moving("HCl"), TIMES)
    for time in (-1.0, 32.1, float("nan")):
        with pytest.raises(HorizonError):
            operator(state, torch.tensor([1.0, time]))


def test_positions_alone_cannot_be_propagated(state):
    operator = make(velocities=False, update="delta", horizon=16.0)
    assert operator.positions(state, TIMES).shape == (1, 5, 9, 3)
    with pytest.raises(ConfigError, match="predicts no velocities"):
        operator(state, TIMES)


def test_no_energy_head_says_so(state):
    operator = make()
    assert not operator.has_energy
    with pytest.raises(ConfigError, match="no energy head"):
        operator.energy_and_forces(state)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 100}, "multiple of twice the heads"),
        ({"horizon": 32.0, "segment": 16.0}, "needs velocities"),
        ({"update": "path"}, "needs velocities"),
        ({"trunk": "equivariant", "lift": "plain"}, "equivariant lift"),
        ({"trunk": "equivariant", "heads": 32}, "six channels"),
        ({"trunk": "equivariant", "positional": "sinusoidal"}, "sinusoidal"),
        ({"segment": 32.0, "horizon": 16.0}, "longer than the horizon"),
        ({"frozen": 1}, "frozen"),
    ],
)
def test_config_refuses_what_cannot_be_built(changes, words):
    with pytest.raises(ValueError, match=words):
        PaperConfig(**({"horizon": 16.0} | changes))


def test_settings_are_told_apart_by_architecture():
    assert isinstance(parse_config({"horizon": 32.0}), SpectralConfig)
    paper = parse_config({"architecture": "paper", "horizon": 1500.0})
    assert isinstance(paper, PaperConfig)
    assert paper.segment == 1500.0
    assert parse_config(paper.model_dump_json()) == paper
    with pytest.raises(ValueError, match="must be one of spectral, paper"):
        parse_config({"architecture": "egno"})


def test_checkpoint_round_trip_changes_nothing(state, tmp_path):
    operator = make(energy=ENERGY, output_heads=2, walks=2).float()
    operator.set_energy_scale({1: -10.0, 6: -1000.0, 8: -2000.0}, 0.7)
    operator.card = make_card()
    loaded = load_operator(save_operator(operator, tmp_path / "paper.safetensors"))
    assert loaded.config == operator.config
    for left, right in zip(operator(state, TIMES), loaded(state, TIMES), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(operator.energy(state), loaded.energy(state))


def test_energy_of_another_operator_can_be_taken(state):
    sizes = ENERGY.model_dump() | {"blocks": 2, "energy_blocks": 1, "modes": 4}
    other = build_operator(SpectralConfig(**sizes)).double()
    other.set_energy_scale({1: -10.0, 6: -1000.0, 8: -2000.0}, 0.7)
    operator = make(energy=ENERGY)
    operator.take_energy(other)
    for left, right in zip(
        operator.energy_and_forces(state), other.energy_and_forces(state), strict=True
    ):
        torch.testing.assert_close(left, right)
    with pytest.raises(ConfigError, match="other sizes"):
        make(energy=EnergyConfig()).take_energy(other)
    with pytest.raises(ConfigError, match="no energy head"):
        make().take_energy(other)


def test_weights_that_change_are_noticed(state):
    """What is kept between calls follows from the weights as they are."""
    operator = make()
    before = operator(state, TIMES)[0]
    with torch.no_grad():
        operator.trunk.blocks[1].attention.value.weight.mul_(1.5)
        operator.lift.phase.vector_scalar.mul_(1.5)
    changed = operator(state, TIMES)[0]
    assert (changed - before).abs().max() > 1e-6
    operator.load_state_dict(make().state_dict())
    assert torch.equal(operator(state, TIMES)[0], before)
    # A fused optimiser changes weights without counting it as a change.
    optimiser = torch.optim.AdamW(operator.parameters(), lr=0.1, fused=True)
    with torch.no_grad():
        before = operator(state, TIMES)[0]
    with torch.enable_grad():
        for weight in operator.parameters():
            weight.requires_grad_(True)
        operator(state, TIMES)[0].sum().backward()
    optimiser.step()
    with torch.no_grad():
        changed = operator(state, TIMES)[0]
        operator.trunk._kept = operator.lift._kept = None
        assert torch.equal(operator(state, TIMES)[0], changed)
    assert (changed - before).abs().max() > 1e-6
    operator.load_state_dict(make().state_dict())
    before = operator(state, TIMES)[0]
    assert (operator.float()(state, TIMES)[0] - before).abs().max() > 0
