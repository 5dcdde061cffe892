"""Grids of jumps and frames, replicas, and the guard."""

import math

import numpy as np
import pytest
import torch
from conftest import make_card
from springs import SpringOperator
from torch import Tensor

from ase_atom.analysis.summary import RunSummary
from ase_atom.errors import (
    BrokenStateError,
    ConfigError,
    CoverageError,
    HorizonError,
    StateError,
)
from ase_atom.propagation import NVE, Bussi, Frames, Langevin, Propagator, sample_velocities
from ase_atom.state import PhaseState


@pytest.fixture
def state(ethanol):
    start = PhaseState.from_atoms(ethanol).repeat(3)
    return sample_velocities(start, 300.0, torch.Generator().manual_seed(0))


def collect(propagator: Propagator, *durations: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return times, positions and velocities of runs of the given lengths, one after another."""
    parts: list[Frames] = [f for duration in durations for f in propagator.run(duration)]
    return (
        torch.cat([part.times for part in parts]),
        torch.cat([part.positions for part in parts], dim=1),
        torch.cat([part.velocities for part in parts], dim=1),
    )


# -- grids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [16.0, 4.0, 5.0, 0.5, 40.0, 0.1])
def test_frames_lie_on_their_grid(springs, state, interval):
    propagator = Propagator(springs, state, NVE(False, False), stride=16.0, frame_interval=interval)
    times, *_ = collect(propagator, 80.0)
    expected = torch.arange(round(80.0 / interval) + 1, dtype=torch.float64) * interval
    torch.testing.assert_close(times, expected, rtol=1e-15, atol=0)


def test_nve_frames_are_the_exact_path(springs, state):
    """Springs do not keep the angular momentum, so only within the first jump is nothing mended."""
    propagator = Propagator(springs, state, NVE(False, False), stride=64.0, frame_interval=5.0)
    times, positions, velocities = collect(propagator, 60.0)
    x, v = springs(state, times)
    torch.testing.assert_close(positions, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(velocities, v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ensemble", [NVE(False, False), Langevin(), Langevin(fix_com=False)])
@pytest.mark.parametrize("cuts", [(10.0, 6.0, 101.0, 43.0), (80.0, 80.0), (1.0, 159.0)])
def test_a_run_does_not_depend_on_how_it_is_cut(springs, state, ensemble, cuts):
    def make() -> Propagator:
        return Propagator(springs, state, ensemble, stride=16.0, frame_interval=5.0, seed=7)

    whole, pieces = collect(make(), 160.0), collect(make(), *cuts)
    for one, other in zip(whole, pieces, strict=True):
        assert torch.equal(one, other)


def test_a_run_does_not_depend_on_the_frames_asked_for(springs, state):
    def run(interval: float) -> dict[float, Tensor]:
        propagator = Propagator(springs, state, Langevin(), 16.0, interval, seed=7)
        times, positions, _ = collect(propagator, 160.0)
        return {time: positions[:, i] for i, time in enumerate(times.tolist())}

    fine, coarse, odd = run(1.0), run(32.0), run(5.0)
    for other in (coarse, odd):
        for time, positions in other.items():
            torch.testing.assert_close(positions, fine[time], rtol=0, atol=1e-12)


def test_seeds_give_different_and_repeatable_noise(springs, state):
    def last(seed: int) -> Tensor:
        return collect(Propagator(springs, state, Langevin(), 16.0, seed=seed), 64.0)[1][:, -1]

    assert torch.equal(last(1), last(1))
    assert float((last(1) - last(2)).abs().max()) > 1e-3


def test_replicas_have_noise_of_their_own(springs, state):
    same = state.select(torch.tensor([0, 0]))
    positions = collect(Propagator(springs, same, Langevin(), 16.0), 64.0)[1]
    assert float((positions[0, -1] - positions[1, -1]).abs().max()) > 1e-3


def test_run_is_lazy_and_chunks_are_single_jumps(springs, state):
    propagator = Propagator(springs, state, NVE(False, False), stride=16.0, frame_interval=4.0)
    chunks = propagator.run(1e9)
    assert [len(next(chunks)) for _ in range(4)] == [1, 4, 4, 4]
    assert propagator.frames_given == 13


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"stride": 100.0}, HorizonError, "beyond the operator's horizon of 64 fs"),
        ({"stride": 0.0}, ConfigError, "stride must be above 0"),
        ({"stride": -16.0}, ConfigError, "stride must be above 0"),
        ({"stride": math.nan}, ConfigError, "stride must be above 0"),
        ({"frame_interval": 0.0}, ConfigError, "frame interval must be above 0"),
    ],
)
def test_impossible_grids_are_refused(springs, state, settings, error, message):
    with pytest.raises(error, match=message):
        Propagator(springs, state, **settings)


@pytest.mark.parametrize("duration", [0.0, -1.0, math.inf])
def test_impossible_durations_are_refused(springs, state, duration):
    with pytest.raises(ConfigError, match="time must be above 0"):
        Propagator(springs, state).run(duration)


def test_an_operator_with_a_card_refuses_other_masses(springs, state):
    springs.card = make_card()
    masses = state.masses.clone()
    masses[1, 5] = 2.014
    with pytest.raises(CoverageError, match=r"H3 has a mass of 2\.014"):
        Propagator(springs, state.replace(masses=masses))


# -- the guard -----------------------------------------------------------------------------------


def tear(state: PhaseState, replica: int) -> PhaseState:
    """Return the state with the hydroxyl hydrogen of one replica flying off."""
    velocities = state.velocities.clone()
    bond = state.positions[replica, 3] - state.positions[replica, 2]
    velocities[replica, 3] = 2.0 * bond / bond.norm()
    return state.replace(velocities=velocities)


def test_a_torn_bond_stops_the_run_after_the_good_frames(springs, state):
    propagator = Propagator(
        springs, tear(state, 1), NVE(False, False), stride=16.0, frame_interval=0.1
    )
    times = []
    with pytest.raises(
        BrokenStateError, match=r"replica 1 broke at .* fs: the bond of O1 and H1 is"
    ) as caught:
        for frames in propagator.run(1000.0):
            times += frames.times.tolist()
            lengths = (frames.positions[:, :, 3] - frames.positions[:, :, 2]).norm(dim=-1)
            assert float(lengths.max()) <= 1.5 * float(
                (state.positions[1, 3] - state.positions[1, 2]).norm()
            )
    error = caught.value
    assert (error.replica, error.atoms) == (1, (2, 3))
    assert error.frames_written == len(times) == propagator.frames_given
    assert error.time == pytest.approx(times[-1] + 0.1)
    with pytest.raises(BrokenStateError):  # and stays stopped
        next(iter(propagator.run(10.0)))


def test_broken_replicas_can_be_dropped_without_touching_the_others(springs, state):
    healthy = Propagator(springs, state, Langevin(), 16.0, 4.0, seed=3)
    hurt = Propagator(springs, tear(state, 1), Langevin(), 16.0, 4.0, seed=3, drop_broken=True)
    _, expected, _ = collect(healthy, 160.0)
    parts = list(hurt.run(160.0))
    positions = torch.cat([part.positions for part in parts], dim=1)
    valid = torch.cat([part.valid for part in parts], dim=1)
    assert torch.equal(positions[[0, 2]], expected[[0, 2]])
    assert bool(valid[[0, 2]].all())
    assert not bool(valid[1].all())
    assert bool(positions[1][~valid[1]].isnan().all())
    assert bool(positions[1][valid[1]].isfinite().all())
    assert [error.replica for error in hurt.broken] == [1]
    assert bool(torch.isfinite(hurt.state.positions).all())


def test_dropping_ends_when_nothing_is_left(springs, state):
    alone = tear(state, 1).select(torch.tensor([1]))
    propagator = Propagator(springs, alone, NVE(False, False), 16.0, 0.1, drop_broken=True)
    good = 0
    with pytest.raises(BrokenStateError, match="the molecule broke"):
        for frames in propagator.run(100.0):
            assert bool(frames.valid.all())
            good += len(frames)
    assert good == propagator.frames_given > 0


def test_numbers_that_are_none_stop_the_run(springs, state):
    class Failing(SpringOperator):
        def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
            positions, velocities = super().__call__(state, times)
            positions[2, times > 10.0, 4] = math.nan
            return positions, velocities

    failing = Failing.__new__(Failing)
    failing.__dict__ = springs.__dict__
    for ensemble in (NVE(True, False), Langevin()):
        propagator = Propagator(failing, state, ensemble, stride=16.0, frame_interval=4.0)
        with pytest.raises(BrokenStateError, match="replica 2 broke at 12 fs") as caught:
            collect(propagator, 100.0)
        assert caught.value.frames_written == 3
        assert 4 in caught.value.atoms


@pytest.mark.parametrize("first", [0, 1])
def test_atoms_on_top_of_each_other_are_refused_at_the_start(springs, state, first):
    positions = state.positions.clone()
    positions[first, 8] = positions[first, 7] + 0.1
    with pytest.raises(
        StateError, match=f"replica {first} starts out broken: H5 and H6 are 0.173 Å apart"
    ):
        Propagator(springs, state.replace(positions=positions))


def test_the_guard_looks_between_frames_too(springs, state):
    """A bond that is torn and back before the next frame is seen at the ends of jumps."""
    propagator = Propagator(
        springs, tear(state, 0), NVE(False, False), stride=2.0, frame_interval=1000.0
    )
    with pytest.raises(BrokenStateError) as caught:
        collect(propagator, 2000.0)
    assert caught.value.time < 20.0
    assert caught.value.frames_written == 1


def test_padding_does_not_trip_the_guard(tiny_operator, ethanol):
    from ase.build import molecule

    state = PhaseState.from_atoms([ethanol, molecule("CH3OH")])
    tiny_operator.card = make_card(smiles=["CCO", "CO"])
    propagator = Propagator(tiny_operator, state, NVE(False, False), stride=1.0)
    _, positions, _ = collect(propagator, 3.0)
    assert float(positions[1, :, 6:].abs().max()) == 0.0


# -- the summary ---------------------------------------------------------------------------------


def test_summary_counts_good_frames_only(springs, state):
    ensemble = Langevin()
    hurt = Propagator(springs, tear(state, 1), ensemble, 16.0, 4.0, seed=3, drop_broken=True)
    summary = RunSummary(hurt.state, ensemble)
    start = hurt.state
    temperatures, largest = [], 0.0
    for frames in hurt.run(160.0):
        summary.add(frames)
        for index in range(len(frames)):
            now = frames.state(index)
            for row in range(3):
                if not frames.valid[row, index]:
                    continue
                if frames.times[index] > 0:
                    temperatures.append(float(ensemble.temperature(now)[row]))
                for i, j in [(0, 1), (0, 6), (0, 7), (0, 8), (1, 2), (1, 4), (1, 5), (2, 3)]:
                    before = (start.positions[row, i] - start.positions[row, j]).norm()
                    after = (now.positions[row, i] - now.positions[row, j]).norm()
                    largest = max(largest, abs(float(after - before)))
    (molecule,) = summary.molecules
    assert (molecule.degrees_of_freedom, molecule.rows) == (24, [0, 1, 2])
    assert (summary.frames, summary.last_time) == (41, 160.0)
    assert molecule.temperature.value == pytest.approx(sum(temperatures) / len(temperatures))
    assert molecule.largest.size == pytest.approx(largest)


def test_bussi_from_a_minimum_is_warned_of_once(springs, ethanol):
    state = sample_velocities(PhaseState.from_atoms(ethanol), 300.0, torch.Generator())
    propagator = Propagator(springs, state, Bussi(), 16.0)
    with pytest.warns(UserWarning, match="near a minimum") as caught:
        _ = [*propagator.run(32.0), *propagator.run(32.0)]
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("seed", [1.5, "1", True, -1, None, 2**64])
def test_a_seed_is_a_whole_number(springs, state, seed):
    with pytest.raises(ConfigError, match="seed is"):
        Propagator(springs, state, NVE(), seed=seed)


def test_a_seed_of_numpy_is_that_number(springs, state):
    paths = []
    for seed in (7, np.int64(7), np.uint8(7), 7.0):
        ensemble = Langevin(300.0, 0.01, energy_correction=False)
        paths.append(collect(Propagator(springs, state, ensemble, seed=seed), 32.0)[1])
    assert all(torch.equal(path, paths[0]) for path in paths)


@pytest.mark.parametrize("flag", ["fix_com", "energy_correction", "reversible"])
def test_what_is_no_flag_is_refused(flag):
    with pytest.raises(ConfigError, match=f"{flag} is True or False, not 'no'"):
        Langevin(300.0, 0.01, **{flag: "no"})
