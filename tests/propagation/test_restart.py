"""A run that goes on from a saved state gives what it would have given, to the last bit."""

from itertools import islice

import numpy as np
import pytest
import torch
from springs import SpringOperator

from ase_atom.errors import BrokenStateError, ConfigError, FileFormatError
from ase_atom.operator import load_operator
from ase_atom.propagation import NVE, Bussi, Langevin, Propagator, sample_velocities
from ase_atom.propagation.restart import read_restart, write_restart
from ase_atom.state import PhaseState

CORRECTED = {"energy_correction": True}


@pytest.fixture
def state(ethanol):
    start = PhaseState.from_atoms(ethanol).repeat(3)
    return sample_velocities(start, 300.0, torch.Generator().manual_seed(0))


def gather(parts):
    """Return times, positions and velocities of consecutive blocks of frames."""
    parts = list(parts)
    return (
        torch.cat([part.times for part in parts]),
        torch.cat([part.positions for part in parts], dim=1),
        torch.cat([part.velocities for part in parts], dim=1),
    )


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("taken", [1, 2, 5])
@pytest.mark.parametrize("interval", [16.0, 5.0, 40.0])
@pytest.mark.parametrize(
    "ensemble",
    [
        NVE(reversible=True, **CORRECTED),
        Langevin(fix_com=False),
        Langevin(**CORRECTED),
        Bussi(reversible=True, **CORRECTED),
    ],
    ids=["nve", "langevin-free", "langevin", "bussi"],
)
def test_a_run_goes_on_from_its_file(springs, state, ensemble, interval, taken, tmp_path):
    def fresh(seed):
        return Propagator(springs, state, ensemble, 16.0, interval, seed=seed)

    expected = gather(fresh(3).run(200.0))
    cut = fresh(3)
    before = list(islice(cut.run(200.0), taken))
    write_restart(tmp_path / "run.restart", cut.state_dict())

    resumed = fresh(99)
    resumed.load_state_dict(read_restart(tmp_path / "run.restart"))
    assert resumed.frames_given == sum(map(len, before))
    assert resumed.time == 200.0
    assert_same(gather([*before, *resumed.go_on()]), expected)


@pytest.mark.parametrize(
    ("name", "ensemble"),
    [
        ("ethanol-gfn2", Langevin(**CORRECTED)),
        ("organic-wb97m", NVE(reversible=True, **CORRECTED)),
        ("organic-wb97m", Langevin(reversible=None, **CORRECTED)),
    ],
)
def test_a_trained_operator_goes_on_and_is_prolonged(state, tmp_path, name, ensemble):
    operator = load_operator(name)

    def fresh():
        return Propagator(operator, state, ensemble, 16.0, 8.0, seed=3)

    whole = fresh()
    expected = gather([*whole.run(64.0), *whole.run(32.0)])
    cut = fresh()
    before = list(islice(cut.run(64.0), 2))
    write_restart(tmp_path / "run.restart", cut.state_dict())
    resumed = fresh()
    resumed.load_state_dict(read_restart(tmp_path / "run.restart"))
    assert_same(gather([*before, *resumed.go_on(), *resumed.run(32.0)]), expected)


def test_broken_replicas_stay_broken(ethanol, state, tmp_path):
    hot = SpringOperator(ethanol, heating=2e-3)
    start = state.replace(
        velocities=state.velocities * torch.tensor([0.1, 1.0, 3.0])[:, None, None]
    )

    def fresh():
        return Propagator(hot, start, NVE(False, False), 16.0, drop_broken=True)

    def listing(propagator):
        return [(e.replica, e.time, e.atoms, str(e)) for e in propagator.broken]

    whole = fresh()
    blocks = []
    with pytest.raises(BrokenStateError):
        blocks.extend(whole.run(1e5))
    first = min(error.time for error in whole.broken)
    last = max(error.time for error in whole.broken)
    assert first < last
    cut = fresh()
    before = []
    for frames in cut.run(1e5):
        before.append(frames)
        if cut.broken:
            break
    write_restart(tmp_path / "run.restart", cut.state_dict())
    resumed = fresh()
    resumed.load_state_dict(read_restart(tmp_path / "run.restart"))
    assert listing(resumed) == listing(cut)
    after = []
    with pytest.raises(BrokenStateError):
        after.extend(resumed.go_on())
    assert_same(gather([*before, *after]), gather(blocks))
    assert listing(resumed) == listing(whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ensemble": Langevin(310.0)}, "temperature_K=310.0"),
        ({"ensemble": NVE(False, False)}, "the ensemble was Langevin"),
        ({"stride": 8.0}, "the stride was 16.0 fs and is now 8.0 fs"),
        ({"frame_interval": 8.0}, "the frame interval was 16.0 fs and is now 8.0 fs"),
    ],
)
def test_other_settings_are_refused_by_name(springs, state, change, named):
    settings = {"ensemble": Langevin(), "stride": 16.0, "frame_interval": 16.0}
    saved = Propagator(springs, state, **settings).state_dict()
    other = Propagator(springs, state, **{**settings, **change})
    with pytest.raises(ConfigError, match=named.replace("(", r"\(")):
        other.load_state_dict(saved)


def test_other_molecules_are_refused(springs, state):
    saved = Propagator(springs, state).state_dict()
    with pytest.raises(ConfigError, match="molecules are others"):
        Propagator(springs, state.select(torch.tensor([0, 1]))).load_state_dict(saved)


def test_noise_without_a_state_is_refused(springs, state):
    rng = np.random.default_rng(0)
    propagator = Propagator(
        springs, state, Langevin(), seed=lambda shape: torch.tensor(rng.standard_normal(shape))
    )
    with pytest.raises(ConfigError, match="give a seed"):
        propagator.state_dict()


def test_a_damaged_file_is_one_line(tmp_path, springs, state):
    path = tmp_path / "run.restart"
    write_restart(path, Propagator(springs, state).state_dict())
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileFormatError) as caught:
            read_restart(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileFormatError):
        read_restart(tmp_path / "missing.restart")
