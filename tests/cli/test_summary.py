"""Mean temperatures: by molecule, with errors, by parts, and called where they are wrong."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from springs import SpringOperator

from ase_atom.analysis.statistics import Blocks, correlated_mean, mean_of_blocks
from ase_atom.analysis.summary import RunSummary
from ase_atom.propagation import (
    NVE,
    Bussi,
    Frames,
    Langevin,
    Propagator,
    equilibrate,
    sample_velocities,
)
from ase_atom.state import PhaseState

KELVIN = 300.0
PLAIN = {"energy_correction": False, "reversible": False}  # what an operator does by itself


def thermal(operator: SpringOperator, atoms: Atoms, replicas: int) -> PhaseState:
    state = PhaseState.from_atoms(atoms).repeat(replicas)
    drawn = sample_velocities(state, KELVIN, torch.Generator().manual_seed(1))
    return equilibrate(operator, drawn, KELVIN, seed=2).state


def summary_of(operator, start, ensemble, duration, *, each=False, settles=False) -> RunSummary:
    rows = [[row] for row in range(start.batch_size)] if each else None
    summary = RunSummary(start, ensemble, rows, duration if settles else None)
    march = Propagator(operator, start, ensemble, 16.0, seed=3, drop_broken=True)
    for frames in march.run(duration):
        summary.add(frames)
    return summary


# -- called where they are wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ensemble"),
    [
        ("CH3CH2OH", Langevin(KELVIN, 0.01, **PLAIN)),
        ("H2O", Langevin(KELVIN, 0.001, **PLAIN)),
        ("CO2", Langevin(KELVIN, 0.1, **PLAIN)),
        ("H2O", Bussi(KELVIN, 100.0, **PLAIN)),
    ],
    ids=["ethanol 10 per ps", "water 1 per ps", "CO2 100 per ps", "water bussi"],
)
def test_sound_runs_are_never_called_however_short(name, ensemble):
    """Single runs of an exact operator, judged from their second frame on: no false alarm."""
    atoms = molecule(name)
    operator = SpringOperator(atoms)
    start = thermal(operator, atoms, 100)
    summary = RunSummary(start, ensemble, [[row] for row in range(100)])
    judged = 0
    for number, frames in enumerate(Propagator(operator, start, ensemble, 16.0, seed=3).run(800)):
        summary.add(frames)
        if number in (2, 3, 5, 8, 15, 30, 50):
            judged += len(summary.molecules)
            assert [one for one in summary.molecules if summary.departure(one)] == []
    assert judged == 700


@pytest.mark.parametrize("replicas", [1, 8])
@pytest.mark.parametrize(
    "ensemble", [Langevin(KELVIN, 0.01, **PLAIN), Bussi(KELVIN, 100.0, **PLAIN)]
)
def test_an_operator_that_heats_is_called(ethanol, ensemble, replicas):
    start = thermal(SpringOperator(ethanol), ethanol, replicas)
    wrong = SpringOperator(ethanol, heating=0.005)
    summary = summary_of(wrong, start, ensemble, 4800.0)
    (one,) = summary.molecules
    found = summary.departure(one)
    assert found is not None
    assert found.target == KELVIN
    assert found.temperature.value > 1.05 * KELVIN
    assert found.errors > 5


@pytest.mark.parametrize(("kelvin", "called"), [(KELVIN, False), (1000.0, True)])
def test_a_short_hot_run_of_few_atoms_is_called(kelvin, called):
    """Its error is in proportion to its temperature, and five of them are more than it is off."""
    count = 64
    state = PhaseState.from_atoms(molecule("H2O")).repeat(count)
    hot = sample_velocities(state, kelvin, torch.Generator().manual_seed(1))
    summary = RunSummary(state.select(torch.tensor([0])), Langevin(KELVIN, 0.01, **PLAIN))
    frames = Frames(
        numbers=state.numbers[:1],
        masses=state.masses[:1],
        charge=state.charge[:1],
        times=16.0 * torch.arange(1, count + 1, dtype=torch.float64),
        positions=hot.positions[None],
        velocities=hot.velocities[None],
        valid=torch.ones(1, count, dtype=torch.bool),
    )
    summary.add(frames)
    (one,) = summary.molecules
    assert abs(one.temperature.value - KELVIN) < 5 * one.temperature.error
    assert (summary.departure(one) is not None) == called


def test_one_that_cools_is_called(ethanol):
    start = thermal(SpringOperator(ethanol), ethanol, 4)
    summary = summary_of(
        SpringOperator(ethanol, heating=-0.004), start, Langevin(KELVIN, 0.01, **PLAIN), 4800.0
    )
    found = summary.departure(summary.molecules[0])
    assert found is not None
    assert found.temperature.value < 0.95 * KELVIN


def test_a_small_error_is_the_operators_own(ethanol):
    """Less than 5 %, however sure."""
    start = thermal(SpringOperator(ethanol), ethanol, 64)
    summary = summary_of(
        SpringOperator(ethanol, heating=0.0005), start, Langevin(KELVIN, 0.01, **PLAIN), 4800.0
    )
    (one,) = summary.molecules
    assert one.temperature.value > KELVIN + 3 * one.temperature.error
    assert summary.departure(one) is None


def test_each_molecule_of_a_batch_is_judged_by_itself(ethanol):
    start = thermal(SpringOperator(ethanol), ethanol, 2)

    class OneHeats(SpringOperator):
        def __call__(self, state, times):
            positions, velocities = super().__call__(state, times)
            factor = 1 + 0.005 * times * torch.tensor([[0.0], [1.0]])[: len(velocities)]
            return positions, velocities * factor[:, :, None, None]

    summary = summary_of(
        OneHeats(ethanol), start, Langevin(KELVIN, 0.01, **PLAIN), 4800.0, each=True
    )
    assert [summary.departure(one) is not None for one in summary.molecules] == [False, True]


def test_nve_has_no_thermostat_to_be_off(ethanol, springs):
    start = thermal(springs, ethanol, 2)
    hot = start.replace(velocities=2 * start.velocities)
    summary = summary_of(springs, hot, NVE(), 1600.0)
    assert summary.departure(summary.molecules[0]) is None


def test_a_start_out_of_equilibrium_is_left_out(ethanol, springs):
    """Of a run from 900 K, what the thermostat has not yet cooled is no mean and no alarm."""
    state = PhaseState.from_atoms(ethanol).repeat(16)
    hot = sample_velocities(state, 3 * KELVIN, torch.Generator().manual_seed(1))
    ensemble = Langevin(KELVIN, 0.01, **PLAIN)
    naive = summary_of(springs, hot, ensemble, 4000.0)
    fair = summary_of(springs, hot, ensemble, 4000.0, settles=True)
    assert fair.settled
    assert fair.molecules[0].settling == 1000.0
    assert fair.molecules[0].temperature.value == pytest.approx(KELVIN, abs=15)
    assert naive.molecules[0].temperature.value > fair.molecules[0].temperature.value
    assert fair.departure(fair.molecules[0]) is None
    short = summary_of(springs, hot, ensemble, 480.0, settles=True)
    assert not short.settled
    assert short.molecules[0].temperature.value > 1.05 * KELVIN
    assert short.departure(short.molecules[0]) is None


# -- by parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "turning"), [("CO2", 2), ("H2O", 3), ("CH3CH2OH", 3)])
def test_in_equilibrium_all_parts_have_the_temperature(name, turning):
    atoms = molecule(name)
    operator = SpringOperator(atoms)
    start = thermal(operator, atoms, 64)
    for fix_com in (True, False):
        ensemble = Langevin(KELVIN, 0.02, fix_com=fix_com, **PLAIN)
        summary = summary_of(operator, start, ensemble, 3200.0)
        (one,) = summary.molecules
        assert one.turning == turning
        assert one.degrees_of_freedom == 3 * len(atoms) - 3 * fix_com
        names = ["vibration", "rotation", "translation"]
        assert list(one.parts) == (names[:2] if fix_com else names)
        for part in one.parts.values():
            assert part.value == pytest.approx(KELVIN, abs=5 * part.error)
            assert part.error < 30


# -- in bounded memory -----------------------------------------------------------------------------


def test_blocks_give_the_mean_and_error_of_the_whole_series():
    random = np.random.default_rng(1)
    memory, values = 0.95, np.empty(50_000)
    values[0] = random.normal()
    kicks = np.sqrt(1 - memory**2) * random.normal(size=len(values))
    for place in range(1, len(values)):
        values[place] = memory * values[place - 1] + kicks[place]
    blocks, place = Blocks(most=512), 0
    while place < len(values):  # in pieces of all sizes
        step = int(random.integers(0, 700))
        blocks.add(values[place : place + step])
        place += step
    assert blocks.count == len(values)
    assert len(blocks.blocks) <= 512
    assert blocks.size == 128
    np.testing.assert_allclose(blocks.blocks[3], values[3 * 128 : 4 * 128].mean())
    found, whole = mean_of_blocks([blocks]), correlated_mean([values])
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    assert found.error == pytest.approx(whole.error, rel=0.3)


def test_few_values_are_blocks_of_one():
    blocks = Blocks()
    blocks.add(np.array([1.0, 2.0]))
    blocks.add(np.array([6.0]))
    assert blocks.blocks.tolist() == [1.0, 2.0, 6.0]
    assert mean_of_blocks([blocks]).error == correlated_mean([[1.0, 2.0, 6.0]]).error
    assert np.isnan(mean_of_blocks([Blocks()]).value)
