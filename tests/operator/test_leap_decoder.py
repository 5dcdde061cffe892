"""The leap decoder: symmetries, the flow, rigid-body motion, and its file."""

from __future__ import annotations

import math
import pickle
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from leaping import leaping_ethanol, untrained_leaps

from ase_atom import PhaseState, load_operator
from ase_atom.errors import CheckpointError, ConfigError, CoverageError, EngineWarning
from ase_atom.operator import save_operator
from ase_atom.operator.leap import rigid
from ase_atom.operator.leap.decoder import Source
from ase_atom.operator.leap.engines import NumbaLeaps, OnnxLeaps
from ase_atom.operator.leap.flow import centred, levels, sampled
from ase_atom.operator.leap.network import conditions_of
from ase_atom.propagation import torch_noise
from ase_atom.units import thermal_speed


@pytest.fixture(scope="module")
def leaps():
    return untrained_leaps()


def ethanol(count: int = 1) -> PhaseState:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=3)
    return PhaseState.from_atoms(atoms).repeat(count)


def guess(leaps, noisy, start, level=0.7):
    species = leaps.species(ethanol(len(noisy)))
    count = len(noisy)
    conditions = conditions_of(torch.full((count,), 4000.0), torch.full((count,), 300.0))
    return leaps.network(species, noisy, start, torch.full((count,), level), conditions)


def structures(seed: int = 0, count: int = 2):
    generator = torch.Generator().manual_seed(seed)
    start = centred(ethanol(count).positions.float(), torch.ones(count, 9, 1))
    noise = 0.3 * torch.randn(start.shape, generator=generator)
    return centred(start + noise, torch.ones(count, 9, 1)), start


def test_a_guess_turns_with_the_molecule_and_is_mirrored_with_it(leaps):
    noisy, start = structures()
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    for turn in (matrix, -matrix):
        there = guess(leaps, noisy @ turn, start @ turn)
        assert torch.allclose(there, guess(leaps, noisy, start) @ turn, atol=1e-5)


def test_like_atoms_can_change_places(leaps):
    noisy, start = structures()
    order = [0, 1, 2, 5, 3, 4, 8, 6, 7]
    numbers = ethanol().numbers[0]
    assert torch.equal(numbers[order], numbers)
    there = guess(leaps, noisy[:, order], start[:, order])
    assert torch.allclose(there, guess(leaps, noisy, start)[:, order], atol=1e-5)


@pytest.mark.parametrize("level", [1e-1, 1e-3])
def test_without_noise_the_guess_is_what_is_there(leaps, level):
    noisy, start = structures()
    assert (guess(leaps, noisy, start, level) - noisy).abs().max() < 0.5 * level


def test_padding_changes_nothing(leaps):
    small, large = ethanol(), PhaseState.from_atoms(molecule("C3H8"))
    alone = leaps(small, 4000.0, 300.0, _fixed(1))
    both = leaps.shapes(PhaseState.cat([small, large]), 4000.0, 300.0, _fixed(2))
    own = leaps.shapes(small, 4000.0, 300.0, _fixed(1))
    assert torch.allclose(both[:1, :9], own, atol=1e-5)
    assert not both[0, 9:].any()
    assert torch.isfinite(alone.positions).all()


each_engine = pytest.mark.parametrize(
    "engine",
    [
        OnnxLeaps,
        pytest.param(
            NumbaLeaps,
            marks=pytest.mark.skipif(find_spec("numba") is None, reason="Numba is an extra"),
        ),
    ],
    ids=lambda engine: engine.title,
)


@each_engine
def test_engines_draw_what_torch_draws(leaps, engine):
    mixed = PhaseState.from_atoms([molecule("CH3CH2OH"), molecule("C3H8"), molecule("H2O")])
    single = PhaseState.from_atoms([Atoms("O"), Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])])
    for decoder in (leaps, untrained_leaps(spread=0.3, scale=0.5)):
        fast = engine(decoder)
        assert fast.fingerprint == decoder.fingerprint
        for state in (ethanol(), mixed, single, ethanol(3)):
            ours, theirs = (each(state, 4000.0, 300.0, torch_noise(7)) for each in (fast, decoder))
            assert torch.allclose(ours.positions, theirs.positions, atol=1e-5)
            assert torch.equal(ours.velocities, theirs.velocities)
        assert fast._trusted
    again = pickle.loads(pickle.dumps(fast))(mixed, 4000.0, 300.0, torch_noise(7))
    assert torch.equal(again.positions, fast(mixed, 4000.0, 300.0, torch_noise(7)).positions)


@each_engine
def test_engines_draw_from_the_shipped_leaps_what_torch_draws(engine):
    decoder = load_operator("ethanol-gfn2").leaps
    fast, state = engine(decoder), ethanol(4)
    for lag, temperature in ((500.0, 300.0), (4000.0, 400.0), (16000.0, 500.0)):
        ours, theirs = (
            each.shapes(state, lag, temperature, torch_noise(3)) for each in (fast, decoder)
        )
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert fast._trusted


@pytest.mark.skipif(find_spec("numba") is None, reason="Numba is an extra")
def test_numba_draws_for_a_molecule_the_same_alone_and_in_any_batch(leaps):
    molecules = [PhaseState.from_atoms(molecule(name)) for name in ("CH3CH2OH", "C3H8", "H2O")]
    together = PhaseState.cat(molecules)
    species = leaps.species(together)
    mask = (species > 0).float().unsqueeze(-1)
    start = centred(together.positions.float(), mask)
    noise = start + 0.1 * torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
    conditions = conditions_of(torch.full((3,), 4000.0), torch.full((3,), 300.0))
    fast = NumbaLeaps(leaps)
    found = fast.sample(Source(species, start, conditions, noise, mask), 3)
    for row, each in enumerate(molecules):
        n, one = each.numbers.shape[1], slice(row, row + 1)
        given = species[one, :n], start[one, :n], conditions[one], noise[one, :n], mask[one, :n]
        assert torch.equal(fast.sample(Source(*given), 3)[0], found[row, :n])
        assert not found[row, n:].any()


@each_engine
def test_torch_draws_where_the_runtime_does_not_give_its_numbers(leaps, engine, monkeypatch):
    expected = leaps(ethanol(), 4000.0, 300.0, torch_noise(7)).positions
    for spoilt, reason in (
        (lambda source, passes: source.noise + 1.0, "its first guess differs by 1"),
        (lambda *given: 1 / 0, "ZeroDivisionError"),
    ):
        fast = engine(leaps)
        monkeypatch.setattr(fast, "_sample", spoilt)
        said = f"torch evaluates the leaps instead of {engine.title}.*{reason}"
        with pytest.warns(EngineWarning, match=said):
            found = fast(ethanol(), 4000.0, 300.0, torch_noise(7))
        assert torch.equal(found.positions, expected)


@each_engine
def test_an_engine_takes_the_leaps_along(engine):
    kind = {OnnxLeaps: "onnx", NumbaLeaps: "numba"}[engine]
    assert type(load_operator("ethanol-gfn2", engine=kind).leaps) is engine


def _fixed(rows):
    """Noise whose first rows are the same for any padding."""

    def noise(shape):
        row = torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        out = torch.zeros(shape, dtype=torch.float64)
        if len(shape) == 3 and shape[0] == rows:
            out[:, :9] = row[:, : min(9, shape[1])]
        return out

    return noise


def test_the_flow_ends_at_what_is_guessed():
    target = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(3, 5, 1)
    target = centred(target, mask)
    found = sampled(lambda x, s: target, torch.randn(3, 5, 3), mask, passes=4)
    assert torch.allclose(found, target, atol=1e-6)
    # A guess that is linear in s is followed exactly from its second value on.
    slope = centred(torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(3)), mask)
    found = sampled(lambda x, s: target + slope * s[:, None, None], target, mask, passes=50)
    assert torch.allclose(found, target, atol=2e-3)
    assert levels(4).tolist() == [1.0, 9 / 16, 1 / 4, 1 / 16, 0.0]


def test_the_same_noise_gives_the_same_sample_and_other_noise_another(leaps):
    state = ethanol(3)
    first, again, other = (leaps(state, 4000.0, 300.0, torch_noise(s)) for s in (1, 1, 2))
    assert torch.equal(first.positions, again.positions)
    assert torch.equal(first.velocities, again.velocities)
    assert (first.positions - other.positions).abs().min() > 1e-6


def test_velocities_are_those_of_the_temperature(leaps):
    state = ethanol(400)
    velocities = leaps(state, 500.0, 400.0, torch_noise(0)).velocities
    scaled = velocities / thermal_speed(state.masses, 400.0).unsqueeze(-1)
    assert abs(float(scaled.square().mean()) - 1) < 4 * math.sqrt(2 / scaled.numel())


@pytest.mark.parametrize(
    ("lag", "kelvin", "named"),
    [
        (400.0, 300.0, "500 fs to 16 ps"),
        (17000.0, 300.0, "500 fs to 16 ps"),
        (math.nan, 300.0, "500 fs to 16 ps"),
        (4000.0, 299.0, "300 to 500 K"),
        (4000.0, 600.0, "300 to 500 K"),
    ],
)
def test_lags_and_temperatures_outside_training_are_refused(leaps, lag, kelvin, named):
    with pytest.raises(ConfigError, match=named):
        leaps(ethanol(), lag, kelvin, torch_noise(0))


def test_elements_that_it_does_not_know_are_refused(leaps):
    with pytest.raises(CoverageError, match="7"):
        leaps(PhaseState.from_atoms(molecule("NH3")), 4000.0, 300.0, torch_noise(0))


# -- rigid-body motion -----------------------------------------------------------------------------


def test_the_centre_of_mass_moves_as_langevin_dynamics_have_it():
    count, lag, friction, kelvin = 4000, 700.0, 0.01, 300.0
    state = ethanol(count)
    speed = 0.002
    state = state.replace(velocities=torch.full_like(state.velocities, speed))
    moved = rigid.moved_centre(state, lag, kelvin, friction, torch_noise(1))
    away = (moved - state.center_of_mass()[0]).flatten()
    x = friction * lag
    unit = thermal_speed(float(state.masses[0].sum()), kelvin) ** 2
    # Uhlenbeck and Ornstein, Phys. Rev. 36, 823 (1930).
    variance = unit / friction**2 * (2 * x - 3 + 4 * math.exp(-x) - math.exp(-2 * x))
    mean = speed * (1 - math.exp(-x)) / friction
    error = math.sqrt(variance / len(away))
    assert abs(float(away.mean()) - mean) < 4 * error
    assert abs(float(away.var()) / variance - 1) < 4 * math.sqrt(2 / len(away))


def test_an_integrated_process_has_the_moments_of_many_small_steps():
    friction, time = 0.01, 40.0
    reach, width, along = rigid.integrated(time, friction)
    steps, rng = 400, np.random.default_rng(0)
    h = time / steps
    keep = math.exp(-friction * h)
    v = np.zeros(20000)
    x = np.zeros_like(v)
    for _ in range(steps):
        new = keep * v + math.sqrt(1 - keep**2) * rng.standard_normal(len(v))
        x += 0.5 * h * (v + new)
        v = new
    assert x.std() == pytest.approx(width, rel=0.03)
    assert np.mean(x * v) == pytest.approx(along, rel=0.05)
    assert reach == pytest.approx((1 - math.exp(-friction * time)) / friction)
    tiny = rigid.integrated(0.5, friction)
    assert tiny[1] == pytest.approx(math.sqrt(2 * friction * 0.5**3 / 3), rel=0.01)


def test_turning_without_noise_keeps_the_spin():
    state = ethanol()
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    arms = state.about_center()
    # A rotation about a principal axis keeps it as a free top does.
    squares = (state.masses.unsqueeze(-1) * arms).transpose(1, 2) @ arms
    axis = torch.linalg.eigh(squares)[1][0, :, 0]
    rate = 0.004
    spinning = state.replace(velocities=rate * torch.linalg.cross(axis.expand_as(arms), arms))
    friction = 1e-9
    rotation = rigid.turned(spinning, 300.0, 1e-9, friction, torch_noise(0))[0]
    angle = math.acos((float(rotation.trace()) - 1) / 2)
    assert angle == pytest.approx(rate * 300.0, rel=1e-3)
    assert torch.allclose(rotation @ axis, axis, atol=1e-4)
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12)


def test_a_product_of_rotations_keeps_their_order():
    angles = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrices = rigid.as_matrices(rigid.quaternions(angles))
    expected = matrices[0]
    for each in matrices[1:]:
        expected = expected @ each
    assert torch.allclose(rigid.as_matrices(rigid.product(rigid.quaternions(angles))), expected)


# -- the file --------------------------------------------------------------------------------------


def test_one_file_holds_both_decoders(tmp_path):
    bare = load_operator("ethanol-gfn2")
    operator = leaping_ethanol()
    assert operator.fingerprint == bare.fingerprint
    path = save_operator(operator, tmp_path / "both.safetensors")
    for engine in ("torch", "auto"):
        found = load_operator(path, engine=engine)
        assert found.fingerprint == bare.fingerprint
        assert found.leaps.fingerprint == operator.leaps.fingerprint
        assert found.leaps.card == operator.leaps.card
        state = ethanol(2)
        leaps = operator.leaps if engine == "torch" else OnnxLeaps(operator.leaps)
        ours, theirs = (each(state, 1000.0, 350.0, torch_noise(4)) for each in (leaps, found.leaps))
        assert torch.equal(ours.positions, theirs.positions)


def test_a_file_without_leaps_has_none():
    assert load_operator("ethanol-pbe").leaps is None


def test_leaps_of_other_settings_than_they_say_are_refused(tmp_path):
    operator = leaping_ethanol()
    narrow = operator.leaps.network.config.model_copy(update={"blocks": 2})
    operator.leaps.network.config = narrow
    path = save_operator(operator, tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match="leaps are of other settings"):
        load_operator(path)
