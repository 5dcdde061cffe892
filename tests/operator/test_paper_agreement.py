"""The published computation: agreement with e3nn and with a literal transcription."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from published_atom import PublishedAtom

from ase_atom.operator import Operator, PaperConfig, build_operator
from ase_atom.operator.paper.equivariant import EquivariantLinear, Irreps
from ase_atom.operator.paper.lift import Lift, return_probabilities
from ase_atom.operator.paper.times import plan_times
from ase_atom.state import PhaseState

HORIZON = 1500.0
GRID = torch.arange(1, 9) * HORIZON / 8


def e3nn_linear(layer: EquivariantLinear, irreps_in: str) -> o3.Linear:
    """e3nn's linear map with the weights of ours."""
    irreps_out = f"{layer.after.vectors}x1o + {layer.after.scalars}x0e"
    theirs = o3.Linear(irreps_in, irreps_out)
    with torch.no_grad():
        weights = torch.cat([layer.vectors.T.flatten(), layer.scalars.T.flatten()])
        theirs.weight.copy_(weights)
    return theirs


@pytest.mark.parametrize(
    ("before", "after"),
    [((1, 1), (42, 2)), ((1, 10), (42, 2)), ((42, 2), (1, 0)), ((5, 3), (4, 7))],
)
def test_linear_maps_are_those_of_e3nn(before, after):
    torch.manual_seed(0)
    ours = EquivariantLinear(Irreps(*before), Irreps(*after))
    theirs = e3nn_linear(ours, f"{before[0]}x1o + {before[1]}x0e")
    rows = torch.randn(7, Irreps(*before).width)
    torch.testing.assert_close(ours(rows), theirs(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("walks", [0, 8])
@pytest.mark.parametrize("width", [128, 48, 64])
def test_lift_and_tensor_product_are_those_of_e3nn(width, walks):
    torch.manual_seed(0)
    lift = Lift(PaperConfig(horizon=HORIZON, walks=walks, width=width))
    irreps = f"{width // 3}x1o + {width % 3}x0e"
    x, v = torch.randn(2, 3, 5, 3)
    extra = torch.rand(3, 5, 1 + walks) + 1
    found = lift(x, v, extra, noise=0.0, copies=8)
    rows = [torch.cat([side, side.norm(dim=-1, keepdim=True)], -1) for side in (x, v)]
    scalars = " + 1x0e" * 2 + (f" + {walks}x0e" if walks else "")
    lifted_x = e3nn_linear(lift.positions, "1x1o + 1x0e")(rows[0])
    lifted_v = e3nn_linear(lift.velocities, "1x1o + 1x0e")(rows[1])
    # e3nn keeps one block of weights for each of the scalars' terms.
    blocks = [lift.partner.vectors.T.flatten()]
    sizes = [1, 1] + ([walks] if walks else [])
    blocks += [part.T.flatten() for part in lift.partner.scalars.split(sizes, dim=1)]
    partner = o3.Linear("1x1o" + scalars, irreps)
    product = o3.FullyConnectedTensorProduct(irreps, irreps, irreps)
    names = {(0, 0): "vector_vector", (0, 1): "vector_scalar", (1, 0): "scalar_vector"}
    with torch.no_grad():
        partner.weight.copy_(torch.cat(blocks))
        product.weight.copy_(
            torch.cat(
                [
                    getattr(lift.phase, names.get((i.i_in1, i.i_in2), "scalar_scalar")).flatten()
                    for i in product.instructions
                ]
            )
        )
    phase = product(lifted_x, partner(torch.cat([rows[1], extra], -1)))
    for ours, theirs in ((found.x, lifted_x), (found.v, lifted_v), (found.phase, phase)):
        torch.testing.assert_close(ours.rows()[:, 0], theirs, rtol=1e-5, atol=1e-5)


def transcribed(operator: Operator, state: PhaseState, times: torch.Tensor) -> torch.Tensor:
    """What the published computation gives for the (first) molecule of a state."""
    config = operator.config
    weights = {name: value.numpy() for name, value in operator.state_dict().items()}
    model = PublishedAtom(weights, config.heads, config.blocks, config.rope_base)
    plan = plan_times(times, config.segment, config.timesteps, config.anchor)
    walks = None
    if config.walks:
        walks = return_probabilities(state.positions, state.mask, config.walks, config.radius)
        walks = walks[0].numpy()
    out = model(
        state.positions[0].numpy(),
        state.velocities[0].numpy() * config.frame_interval,
        state.numbers[0].numpy().astype(float),
        plan.steps.numpy(),
        plan.context,
        walks,
    )
    return torch.as_tensor(out)[plan.read]


def small_state(atoms: int = 4) -> PhaseState:
    """Some atoms at random."""
    random = torch.Generator().manual_seed(5)
    numbers = torch.tensor([[6, 8, 1, 6, 1, 1][:atoms]])
    x, v = torch.randn(2, 1, atoms, 3, generator=random, dtype=torch.float64)
    return PhaseState(numbers, numbers.double(), 2 * x, 0.2 * v)


@pytest.fixture
def operator() -> Operator:
    torch.manual_seed(1)
    return build_operator(PaperConfig(horizon=HORIZON)).double().eval().requires_grad_(False)


def test_operator_is_the_published_computation(operator):
    state = small_state()
    expected = transcribed(operator, state, GRID)[:, :, 0]
    found = operator.positions(state, GRID)[0]
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_it_is_so_in_single_precision_too(operator):
    state = small_state()
    expected = transcribed(operator, state, GRID)[:, :, 0]
    found = operator.float().positions(state, GRID)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "changes",
    [
        {"anchor": True, "timesteps": 4},
        {"walks": 8, "rope_base": 1e4},
        {"heads": 4, "blocks": 2, "width": 32},
        {"blocks": 1},
        {"update": "delta"},
    ],
    ids=lambda changes: ",".join(changes),
)
@pytest.mark.parametrize("times", [[1500.0], [0.0, 100.0, 187.5, 1234.5]], ids=["grid", "any"])
def test_switches_and_other_times_are_transcribed_too(changes, times):
    torch.manual_seed(2)
    operator = build_operator(PaperConfig(horizon=HORIZON, **changes)).double().eval()
    operator.requires_grad_(False)
    state, times = small_state(3), torch.tensor(times)
    expected = transcribed(operator, state, times)[:, :, 0]
    if operator.config.update == "delta":
        expected = expected + state.positions
    found = operator.positions(state, times)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_sizes_are_the_published_ones():
    """The public code counts one value-residual weight more: its first block's, never used."""
    single = build_operator(PaperConfig(horizon=HORIZON))
    multitask = build_operator(PaperConfig(horizon=10_000.0, walks=8, output_heads=8))
    for operator, published in ((single, 754_468), (multitask, 762_338)):
        assert sum(p.numel() for p in operator.parameters()) + 1 == published
