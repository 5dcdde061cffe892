"""Trivial predictors by hand, peers by their formulas and symmetries, and how they are scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.data import atomic_masses
from benchmark_files import ETHANOL, wobble
from scipy.spatial.transform import Rotation
from scipy.stats import special_ortho_group
from torch import Tensor, nn

from ase_atom.errors import ConfigError
from training.benchmarks.models import Setting, build_model, elements_of, parameters_of, predict
from training.benchmarks.peers import EGNN, EGNO
from training.benchmarks.peers.egnn import VELOCITY_TIME, Layer, Pairs
from training.benchmarks.peers.egno import TemporalConvolution
from training.benchmarks.samples import Samples, Window, make_samples
from training.benchmarks.scoring import equivariance_error, score
from training.benchmarks.significance import clusters_of, paired_test
from training.benchmarks.suites import Row
from training.benchmarks.trajectories import Trajectory
from training.benchmarks.trivial import TRIVIAL, Trivial, centres, frame_of, masked_mse

LAGS = torch.arange(1, 9, dtype=torch.float64) * 10


def samples(count: int = 6, heavy: bool = False, turning: float = 0.0, first: int = 0) -> Samples:
    x = wobble(900, turning=turning)
    weights = atomic_masses[ETHANOL] / atomic_masses[ETHANOL].sum()
    x = x - np.einsum("n,tni->ti", weights, x)[:, None]
    whole = Trajectory("e", ETHANOL, x, np.arange(900), 0.5, "none")
    whole = whole.heavy() if heavy else whole
    return make_samples(whole, np.arange(first, first + 7 * count, 7), Window(160, 8))


def moved(given: Samples, turn: Tensor, shift: Tensor) -> Samples:
    return replace(
        given,
        positions=(given.positions @ turn.T + shift) * given.mask.unsqueeze(-1),
        velocities=given.velocities @ turn.T,
    )


def orthogonal(sign: float) -> Tensor:
    return sign * torch.as_tensor(Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix())


def prepared(name: str, train: Samples) -> Trivial:
    predictor = TRIVIAL[name]()
    predictor.prepare(train, train, LAGS)
    return predictor


# -- trivial predictors ----------------------------------------------------------------------------


def hand_made() -> Samples:
    """Two atoms of masses 12 and 1 on a line, two starts, two frames."""
    x = torch.tensor([[[0.0, 0, 0], [2.0, 0, 0]], [[0.0, 0, 0], [4.0, 0, 0]]])
    v = torch.tensor([[[0.1, 0, 0], [0.0, 0, 0]], [[0.0, 0, 0], [0.0, 0.2, 0]]])
    targets = torch.stack([x + 1, x + 3], dim=1)
    return Samples(
        numbers=torch.tensor([[6, 1], [6, 1]]),
        masses=torch.tensor([[12.0, 1.0], [12.0, 1.0]]),
        positions=x,
        velocities=v,
        targets=targets,
        hops=torch.zeros(2, 2, 2, dtype=torch.long),
        molecule=torch.zeros(2, dtype=torch.long),
        start=torch.arange(2),
        first=x[:1].expand(2, -1, -1),
    )


def test_errors_of_trivial_predictors_by_hand() -> None:
    given, lags = hand_made(), torch.tensor([10.0, 20.0])
    expected = {
        # Off by 1 and by 3 in every direction.
        "stay": [[1, 9], [1, 9]],
        # One atom of the first flies 1 and 2 along x; one of the second 2 and 4 along y.
        "ballistic": [
            [(0 + 1 + 1 + 3) / 6, (1 + 9 + 9 + 27) / 6],
            [(3 + 1 + 1 + 1) / 6, (27 + 9 + 1 + 9) / 6],
        ],
        # The mean of both: the second atom's x is off by 1 either way.
        "mean, laboratory": [[1 / 6, 1 / 6], [1 / 6, 1 / 6]],
    }
    for name, errors in expected.items():
        predictor = TRIVIAL[name]()
        predictor.prepare(given, given, lags)
        assert torch.allclose(masked_mse(predictor(given), given), torch.tensor(errors).float())


def test_the_aligned_mean_of_a_turning_rigid_molecule_is_exact() -> None:
    shape = wobble(1)[0]
    turns = Rotation.random(20, random_state=1).as_matrix()
    shifts = np.random.default_rng(2).normal(size=(20, 1, 3))
    x = torch.as_tensor(np.einsum("tij,nj->tni", turns, shape) + shifts).float()
    given = samples(20)
    given = replace(given, positions=x, targets=x[:, None].expand(-1, 8, -1, -1))
    train, test = given.select(slice(0, 12)), given.select(slice(12, 20))
    assert masked_mse(prepared("mean, aligned", train)(test), test).max() < 1e-9
    assert masked_mse(prepared("mean, laboratory", train)(test), test).min() > 0.1


def test_a_known_state_has_itself_as_nearest_neighbour() -> None:
    train = samples(60, turning=0.003)
    predictor = prepared("neighbours", train)
    assert predictor.choice.startswith("1 in the")
    assert masked_mse(predictor(train), train).max() < 1e-9
    # What is between known states is better guessed from them than by their mean.
    between = samples(50, turning=0.003, first=3)
    error = masked_mse(predictor(between), between).mean()
    assert error < 0.5 * masked_mse(prepared("mean, aligned", train)(between), between).mean()


@pytest.mark.parametrize("heavy", [False, True])
def test_what_is_linear_in_a_turning_frame_is_found_by_least_squares(heavy: bool) -> None:
    # Three heavy atoms lie in a plane, across which they move all the same.
    given, rng = samples(240, heavy), np.random.default_rng(5)
    count, shape = len(given), (given.first - centres(replace(given, positions=given.first)))[:1]
    bent = replace(
        given, positions=shape + 1e-3 * torch.as_tensor(rng.normal(size=given.first.shape))
    )
    turn, centre = frame_of(bent, shape[0], "right-handed mean pose")
    u = ((bent.positions - centre) @ turn.double() - shape).numpy()
    v = rng.normal(scale=1e-3, size=u.shape)
    mix = rng.normal(size=(2, 8, u[0].size, u[0].size)) / u[0].size ** 0.5
    flat = np.stack([u, v]).reshape(2, count, -1)
    steps = np.einsum("kpab,ksb->spa", mix, flat)
    x = shape.numpy() + u
    later = x[:, None] + steps.reshape(count, 8, *u.shape[1:])
    turns = Rotation.random(count, random_state=3).as_matrix()
    turned = [np.einsum("sij,s...j->s...i", turns, side) for side in (x, v, later)]
    x, v, targets = (torch.as_tensor(side).float() for side in turned)
    given = replace(given, positions=x, velocities=v / 20, targets=targets)
    train, test = given.select(slice(0, 200)), given.select(slice(200, 240))
    error = masked_mse(prepared("linear", train)(test), test).mean()
    assert error < 1e-3 * masked_mse(stayed(test), test).mean()


def test_molecules_that_were_not_trained_on_stay() -> None:
    train = samples()
    other = replace(samples(), molecule=torch.ones(6, dtype=torch.long))
    for name in ("mean, laboratory", "mean, aligned", "neighbours", "linear"):
        assert torch.equal(prepared(name, train)(other), stayed(other))


def test_an_untrained_egnn_goes_where_velocities_take_it() -> None:
    given = samples()
    still = replace(given, velocities=torch.zeros_like(given.velocities))
    model = build_model(Row(model="egnn"), setting_of(given), given, 0)
    assert (predict(model, still) - still.positions[:, None]).abs().max() < 0.02


def stayed(given: Samples) -> Tensor:
    return given.positions[:, None].expand(-1, 8, -1, -1)


def test_padding_has_no_part_in_errors_and_predictions() -> None:
    small = replace(samples(heavy=True), molecule=torch.ones(6, dtype=torch.long))
    both = Samples.join([small, samples()])
    for name in TRIVIAL:
        alone = masked_mse(prepared(name, small)(small), small)
        together = masked_mse(prepared(name, both)(both), both)
        assert torch.allclose(together[:6], alone, rtol=1e-4), name


# -- peers -----------------------------------------------------------------------------------------


def peer(name: str) -> nn.Module:
    torch.manual_seed(1)
    model = EGNN((1, 6, 8), 16, 2) if name == "egnn" else EGNO((1, 6, 8), 8, 16, 2)
    for layer in model.layers:  # so that positions do move
        nn.init.normal_(layer.coordinate[-1].weight, std=0.3)
    return model.double().eval()


@pytest.mark.parametrize("name", ["egnn", "egno"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_peers_commute_with_rotations_reflections_and_translations(name: str, sign: float) -> None:
    model, given = peer(name), samples().to(torch.float64)
    turn, shift = orthogonal(sign), torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
    plain = model(given)
    assert (plain - given.positions[:, None]).abs().max() > 0.05
    assert torch.allclose(
        model(moved(given, turn, shift)), plain @ turn.T + shift, atol=1e-9, rtol=0
    )
    assert equivariance_error(model, given) < 1e-9


@pytest.mark.parametrize("name", ["egnn", "egno"])
def test_peers_commute_with_the_order_of_atoms(name: str) -> None:
    model, given = peer(name), samples().to(torch.float64)
    order = torch.tensor([2, 0, 1, 8, 7, 3, 4, 6, 5])
    shuffled = replace(
        given,
        numbers=given.numbers[:, order],
        masses=given.masses[:, order],
        positions=given.positions[:, order],
        velocities=given.velocities[:, order],
        hops=given.hops[:, order][:, :, order],
    )
    assert torch.allclose(model(shuffled), model(given)[:, :, order], atol=1e-10)


@pytest.mark.parametrize("name", ["egnn", "egno"])
def test_molecules_of_a_batch_do_not_hear_of_each_other(name: str) -> None:
    model, given = peer(name), samples().to(torch.float64)
    small = samples(heavy=True).to(torch.float64)
    together = model(Samples.join([small, given]))
    assert torch.allclose(together[6:], model(given), atol=1e-10)
    assert torch.allclose(together[:6, :, :3], model(small), atol=1e-10)
    assert torch.equal(together[:6, :, 3:], torch.zeros_like(together[:6, :, 3:]))


def test_an_egnn_layer_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    layer, given = Layer(8).double(), samples(1).to(torch.float64)
    x, v = given.positions[0], given.velocities[0] * VELOCITY_TIME
    h = torch.randn(9, 8, dtype=torch.float64)
    pairs = Pairs.of(given)
    new_x, new_h = layer(x[None, None], v[None, None], h[None, None], pairs)
    for i in range(9):
        push, heard = torch.zeros(3), torch.zeros(8, dtype=torch.float64)
        for j in range(9):
            if i == j:
                continue
            kind = torch.eye(3, dtype=torch.float64)[given.hops[0, i, j]]
            square = (x[i] - x[j]).square().sum()[None]
            # In the first layer the present distance is the start's.
            hidden = layer.of_receiver(h[i]) + layer.of_sender(h[j])
            message = layer.message(hidden + layer.of_pair(torch.cat([square, kind, square])))
            push = push + (x[i] - x[j]) * layer.coordinate(message) / 8
            heard = heard + message
        assert torch.allclose(new_x[0, 0, i], x[i] + layer.velocity(h[i]) * v[i] + push)
        assert torch.allclose(new_h[0, 0, i], h[i] + layer.node(torch.cat([h[i], heard])))


@pytest.mark.parametrize("activate", [True, False])
def test_a_temporal_convolution_is_a_sum_over_its_modes(activate: bool) -> None:
    torch.manual_seed(0)
    layer = TemporalConvolution(3, 2, 1.0, activate).double()
    rows = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    weights = torch.view_as_complex(layer.weights)
    times = torch.arange(8, dtype=torch.float64)
    wave = torch.zeros_like(rows)
    for mode in range(2):
        turn = torch.exp(-2j * torch.pi * mode * times / 8)
        amplitude = torch.einsum("t,btni,io->bno", turn, rows.to(turn.dtype), weights[mode])
        back = torch.einsum("t,bno->btno", turn.conj(), amplitude).real / 8
        wave += back if mode == 0 else 2 * back
    expected = rows + (nn.functional.leaky_relu(wave) if activate else wave)
    assert torch.allclose(layer(rows), expected)


def test_copies_of_the_state_in_time_come_apart() -> None:
    predicted = peer("egno")(samples().to(torch.float64))
    assert (predicted[:, 1:] - predicted[:, :-1]).abs().amax((0, 2, 3)).min() > 1e-6


# -- rows ------------------------------------------------------------------------------------------

SPECTRAL = {
    "width": 16,
    "pair_width": 8,
    "vector_channels": 8,
    "heads": 2,
    "blocks": 1,
    "energy_blocks": 1,
    "pair_vectors": 2,
    "radial_channels": 4,
    "modes": 4,
    "carrier": "bounded",
    "rest": "aligned",
    "rest_terms": 4,
}
PAPER = {"architecture": "paper", "width": 16, "heads": 2, "blocks": 2}


def setting_of(given: Samples, heavy: bool = False) -> Setting:
    return Setting(elements_of([given]), LAGS, 0.5, heavy)


@pytest.mark.parametrize("heavy", [True, False])
def test_an_untrained_spectral_row_is_about_as_good_as_the_aligned_mean(heavy: bool) -> None:
    given = samples(30, heavy=heavy, turning=0.002)
    row = Row(model="operator", settings=SPECTRAL | {"carrier_time": 2.0})
    model = build_model(row, setting_of(given, heavy), given, seed=0)
    mean = masked_mse(prepared("mean, aligned", given)(given), given).mean()
    found = masked_mse(predict(model, given), given).mean()
    assert found < 1.5 * mean < masked_mse(stayed(given), given).mean()
    assert equivariance_error(lambda some: predict(model, some), given) < 1e-4
    assert model.operator.config.centre == ("free" if heavy else "uniform")


def test_a_paper_row_predicts_the_frames_and_is_not_equivariant() -> None:
    given = samples(4, heavy=True)
    model = build_model(Row(model="operator", settings=PAPER), setting_of(given, True), given, 0)
    assert predict(model, given).shape == (4, 8, 3, 3)
    assert model.operator.config.timesteps == 8
    assert model.operator.config.frame_interval == 0.5
    assert equivariance_error(lambda some: predict(model, some), given) > 1e-3


def test_seeds_decide_the_weights() -> None:
    given = samples(2)
    row = Row(model="egno", settings={"width": 8, "layers": 1})
    first, again, other = (
        torch.cat([w.flatten() for w in build_model(row, setting_of(given), given, s).parameters()])
        for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert parameters_of(build_model(row, setting_of(given), given, 0)) == len(first)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (Row(model="egnn", settings={"depth": 3}), "depth"),
        (Row(model="operator", settings={"widht": 16}), "widht"),
        (Row(model="operator", settings={"architecture": "none"}), "architecture"),
    ],
)
def test_unknown_settings_of_rows_are_refused(row: Row, word: str) -> None:
    given = samples(2)
    with pytest.raises(ConfigError, match=word):
        build_model(row, setting_of(given), given, 0)


# -- scores and significance -----------------------------------------------------------------------


def test_equivariance_error_by_hand() -> None:
    given = samples()
    # A structure fixed in the laboratory, at the origin: it does not turn with the state.
    found = equivariance_error(lambda some: torch.zeros_like(some.targets) + 1.0, given)
    turns = torch.as_tensor(special_ortho_group.rvs(3, size=4, random_state=0)).float()
    change = torch.stack([(torch.ones(3) @ turn - torch.ones(3)).norm() for turn in turns]).mean()
    moved = (given.targets - given.positions[:, None]).norm(dim=-1).mean()
    assert found == pytest.approx(float(change / moved), rel=1e-5)


def test_scores_are_means_over_frames_and_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    given = samples()
    measured = score(stayed, given)
    errors = masked_mse(stayed(given), given)
    assert torch.equal(measured.s2s, errors[:, -1])
    assert torch.allclose(measured.s2t, errors.mean(1))
    assert measured.by_lag == pytest.approx(errors.mean(0).tolist())
    last = score(lambda some: some.positions[:, None], given)
    assert last.s2t is None
    assert torch.equal(last.s2s, errors[:, -1])
    wrong = (stayed(given) - given.targets).square().mean(-1)[:, -1]
    heavy = given.numbers > 1
    by_hand = (wrong * heavy).sum(1) / heavy.sum(1)
    torch.testing.assert_close(score(stayed, given, heavy=True).s2s, by_hand)


def test_significance_counts_stretches_of_time_and_not_starts() -> None:
    rng = np.random.default_rng(0)
    starts = np.sort(rng.choice(120_000, 2000, replace=False))
    clusters = clusters_of(starts, 3000)
    assert clusters.max() + 1 == 10
    # At short lags too, where hardly two windows overlap, a molecule remembers.
    assert clusters_of(starts, 16).max() + 1 == 30
    noise = rng.normal(size=2000)
    # A difference that holds everywhere, and one that is an accident of one stretch.
    assert paired_test(noise + 0.5, noise, clusters) == pytest.approx(2 / 2**10)
    accident = noise + 5.0 * (clusters == 3)
    assert paired_test(accident, noise, clusters) > 0.2
    assert paired_test(noise, noise + 1, np.zeros(2000, int)) == 1.0
    # A block of a split by time is one stretch, wherever it lies.
    blocks = np.concatenate([np.arange(5600), np.arange(20_000, 25_600), np.arange(40_000, 66_000)])
    assert np.bincount(clusters_of(blocks, 3000)).tolist() == [5600, 5600, 12_000, 14_000]
    molecules = np.repeat([0, 1], 1000)
    assert clusters_of(starts, 3000, molecules).max() + 1 == 10
