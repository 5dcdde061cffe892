"""Leaps as steps: settled, judged and drawn again, in batches, restarted, and refused."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from ase.build import molecule
from leaping import leaping_ethanol

from ase_atom import PhaseState, load_operator
from ase_atom.errors import BrokenStateError, ConfigError, CoverageError, HorizonError
from ase_atom.molecules.handedness import Handedness, HandednessOfBatch, rotatable_bonds
from ase_atom.operator.engine.choice import evaluated_by
from ase_atom.propagation import NVE, Bussi, Langevin, Propagator, equilibrate, sample_velocities
from ase_atom.propagation.leaps.band import ThermalBand, floors
from ase_atom.propagation.restart import read_restart, write_restart
from ase_atom.units import KB


@pytest.fixture(scope="module")
def operator():
    return leaping_ethanol()


@pytest.fixture(scope="module")
def start(operator):
    state = PhaseState.from_atoms(molecule("CH3CH2OH")).repeat(3)
    state = sample_velocities(state, 600.0, torch.Generator().manual_seed(1))
    return equilibrate(operator, state, 300.0, duration=400.0, friction=0.05, seed=2).state


def leaping(operator, state, **settings) -> Propagator:
    given = {"ensemble": Langevin(300.0, 0.01), "stride": 1000.0, "seed": 5, **settings}
    return Propagator(operator, state, **given)


def positions(frames) -> torch.Tensor:
    return torch.cat([each.positions for each in frames], dim=1)


def test_a_run_of_leaps_has_a_frame_at_each(operator, start):
    propagator = leaping(operator, start)
    frames = list(propagator.run(3000.0))
    assert torch.cat([each.times for each in frames]).tolist() == [0.0, 1000.0, 2000.0, 3000.0]
    assert all(bool(each.valid.all()) for each in frames)
    tally = propagator.leaping.tally
    assert tally.kept == 9
    assert tally.settled / 9 < 3 * tally.expected / 9
    last = propagator.leaping.last
    assert torch.allclose(last.settled, operator.energy(propagator.state))


def test_the_centre_of_mass_stays_where_it_is_fixed_and_moves_where_it_is_free(operator, start):
    held, free = (
        leaping(operator, start, ensemble=Langevin(300.0, 0.01, fix_com=fixed))
        for fixed in (True, False)
    )
    before = start.center_of_mass()[0]
    for propagator, moves in ((held, False), (free, True)):
        positions([*propagator.run(1000.0)])
        away = (propagator.state.center_of_mass()[0] - before).norm(dim=-1)
        assert bool((away > 0.05).all()) if moves else bool((away < 1e-9).all())


def test_frames_at_every_other_leap(operator, start):
    every = positions(leaping(operator, start).run(4000.0))
    other = positions(leaping(operator, start, frame_interval=2000.0).run(4000.0))
    assert torch.equal(every[:, ::2], other)


@pytest.mark.parametrize(
    "engine",
    [
        "torch",
        "onnx",
        pytest.param(
            "numba",
            marks=pytest.mark.skipif(find_spec("numba") is None, reason="Numba is an extra"),
        ),
    ],
)
def test_a_run_goes_on_bit_for_bit(operator, start, tmp_path, engine):
    # An engine of its own for each, as in another process: it compares its first answer anew.
    whole = leaping(evaluated_by(operator, engine), start)
    expected = positions(whole.run(5000.0))
    first = leaping(evaluated_by(operator, engine), start)
    head = positions(first.run(2000.0))
    write_restart(tmp_path / "run.restart", first.state_dict())
    second = leaping(evaluated_by(operator, engine), start, seed=99)
    second.load_state_dict(read_restart(tmp_path / "run.restart"))
    tail = positions(second.run(3000.0))
    assert torch.equal(torch.cat([head, tail], dim=1), expected)
    assert second.leaping.tally == whole.leaping.tally


def test_a_run_does_not_go_on_with_other_leaps(operator, start):
    saved = leaping(operator, start).state_dict()
    other = leaping(leaping_ethanol(passes=4), start)
    with pytest.raises(ConfigError, match="leaps"):
        other.load_state_dict(saved)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ensemble": NVE()}, "not of NVE|microcanonical"),
        ({"ensemble": Bussi(300.0)}, "Bussi"),
        ({"ensemble": Langevin(300.0, 0.02)}, "10 per ps, not 20"),
        ({"ensemble": Langevin(250.0, 0.01)}, "300 to 500 K"),
        ({"stride": 20000.0}, "500 fs to 16 ps"),
        ({"frame_interval": 500.0}, "1 ps fits"),
        ({"frame_interval": 2500.0}, "2 ps fits"),
        ({"frame_interval": 16.0}, "1 ps fits"),
    ],
)
def test_what_leaps_have_not_learned_is_refused(operator, start, settings, named):
    with pytest.raises(ConfigError, match=named):
        leaping(operator, start, **settings)


def test_a_stride_between_horizon_and_leaps_is_refused(operator, start):
    with pytest.raises(HorizonError, match="horizon"):
        leaping(operator, start, stride=200.0)


def test_an_operator_without_leaps_names_what_trains_them(start):
    with pytest.raises(ConfigError, match="ase-atom leap-train ethanol-pbe"):
        leaping(load_operator("ethanol-pbe"), start)


def test_leaps_of_another_molecule_are_refused(start):
    operator = leaping_ethanol(smiles=["CO"])
    with pytest.raises(CoverageError, match="CO, not for CCO"):
        leaping(operator, start)


class Spoilt:
    """Leaps whose first samples of one replica are spoilt."""

    def __init__(self, leaps, times, spoil):
        self.leaps, self.times, self.spoil = leaps, times, spoil
        self.card, self.fingerprint = leaps.card, leaps.fingerprint

    def __call__(self, *arguments):
        return self.leaps(*arguments)

    def draw(self, state, *arguments):
        drawn = self.leaps.draw(state, *arguments)
        if self.times > 0:
            self.times -= 1
            drawn = drawn.replace(positions=self.spoil(drawn.positions.clone()))
        return drawn


def no_numbers(x):
    x[0] = float("nan")
    return x


def torn(x):
    x[0, -1] += 3.0
    return x


def swapped(x):
    """Two hydrogens of the methyl group change places: the mirror image, all atoms told apart."""
    x[0, [6, 7]] = x[0, [7, 6]]
    return x


@pytest.mark.parametrize(
    ("spoil", "reason"), [(no_numbers, "broken"), (torn, "broken"), (swapped, "handedness")]
)
def test_what_is_no_molecule_is_drawn_again_and_counted(start, spoil, reason):
    operator = leaping_ethanol()
    operator.leaps = Spoilt(operator.leaps, 2, spoil)
    propagator = leaping(operator, start)
    frames = [*propagator.run(1000.0)]
    assert torch.isfinite(positions(frames)).all()
    assert propagator.leaping.tally.redrawn[reason] == 2
    assert propagator.leaping.tally.kept == 3
    assert propagator.leaping.last.redrawn.tolist() == [2, 0, 0]


def test_a_hot_sample_is_drawn_again(start):
    operator = leaping_ethanol(settling_jumps=0)

    def strained(x):
        x[0, 2] += 0.25 * (x[0, 2] - x[0, 1])  # a bond
        return x

    operator.leaps = Spoilt(operator.leaps, 1, strained)
    propagator = leaping(operator, start)
    [*propagator.run(1000.0)]
    assert propagator.leaping.tally.redrawn["energy"] == 1


def test_a_replica_of_which_no_sample_is_a_molecule_is_lost(start):
    operator = leaping_ethanol()
    operator.leaps = Spoilt(operator.leaps, 10**6, swapped)
    with pytest.raises(BrokenStateError, match="keeps its stereocentres") as caught:
        [*leaping(operator, start).run(2000.0)]
    assert caught.value.replica == 0
    assert caught.value.time == 1000.0
    kept = leaping(operator, start, drop_broken=True)
    last = [*kept.run(1000.0)][-1]
    assert last.valid[:, 0].tolist() == [False, True, True]


def test_a_minimum_is_settled_first_and_it_is_said(operator):
    state = PhaseState.from_atoms(molecule("CH3CH2OH"))
    with pytest.warns(UserWarning, match="settled for 640 fs before the first leap"):
        [*leaping(operator, state).run(1000.0)]


def test_a_thermal_start_leaps_at_once(operator, start):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [*leaping(operator, start).run(1000.0)]


# -- the band --------------------------------------------------------------------------------------


def test_the_floor_is_a_minimum_of_the_potential(operator, start):
    floor = floors(operator, start)
    assert torch.equal(floor, floor[:1].expand(3))
    assert bool((operator.energy(start) > floor).all())
    atoms = molecule("CH3CH2OH")
    from_minimum = floors(operator, PhaseState.from_atoms(atoms))
    assert abs(float(from_minimum[0] - floor[0])) < 0.1  # another conformer at most


def test_the_band_is_that_of_harmonic_vibrations():
    band = ThermalBand.at(300.0, torch.zeros(1, dtype=torch.float64), torch.tensor([9]))
    rng = np.random.default_rng(0)
    energies = torch.from_numpy(0.5 * KB * 300.0 * rng.chisquare(21, 200_000))
    wide = ThermalBand(*(getattr(band, name).expand(len(energies)) for name in vars(band)))
    assert int((~wide.holds(energies)).sum()) <= 3
    assert int((~wide.is_thermal(energies)).sum()) <= 3
    assert not wide.is_thermal(torch.zeros(len(energies))).any()
    assert abs(float(energies.mean()) / float(band.expected) - 1) < 0.01


# -- handedness ------------------------------------------------------------------------------------


def test_a_mirror_image_is_another_molecule_and_a_turned_one_is_not():
    atoms = molecule("CH3CH2OH")
    handed = Handedness.of(atoms.numbers, atoms.positions)
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3))
    mirror = atoms.positions * [1, 1, -1]
    assert handed.kept(np.array([turned.positions, mirror])).tolist() == [True, False]


def test_a_batch_is_judged_as_its_molecules_are():
    atoms = molecule("CH3CH2OH")
    mirror = atoms.positions * [1, 1, -1]
    ethene = np.zeros_like(mirror)
    ethene[:6] = molecule("C2H4").positions
    batch = HandednessOfBatch(
        [
            Handedness.of(atoms.numbers, atoms.positions),
            Handedness.of(molecule("C2H4").numbers, ethene[:6]),
            Handedness.of(atoms.numbers, mirror),
        ]
    )
    given = [(atoms.positions, ethene, mirror), (mirror, ethene, mirror)]
    assert batch.kept(np.array(given[0])).tolist() == [True, True, True]
    assert batch.kept(np.array(given[1])).tolist() == [False, True, True]
    lost = np.full_like(mirror, np.nan)
    assert batch.kept(np.array([lost, ethene, mirror])).tolist() == [False, True, True]


def test_a_double_bond_that_turns_is_told_and_an_inverted_amine_is_none():
    ethene = molecule("C2H4")
    handed = Handedness.of(ethene.numbers, ethene.positions)
    assert len(handed.double_bonds) == 1
    first, left, right, last = handed.double_bonds[0]
    turned = ethene.copy()
    lengths = np.linalg.norm(ethene.positions - ethene.positions[right], axis=1)
    side = np.flatnonzero(lengths < 1.2)
    angle = ethene.get_dihedral(first, left, right, last)
    turned.set_dihedral(first, left, right, last, angle + 180, indices=side)
    assert handed.kept(turned.positions[None]).tolist() == [False]
    ammonia = molecule("NH3")
    assert Handedness.of(ammonia.numbers, ammonia.positions).kept(
        ammonia.positions[None] * [1, 1, -1]
    ).tolist() == [True]


@pytest.mark.parametrize(
    ("name", "count"),
    [("CH3CH2OH", 2), ("C2H4", 0), ("C6H6", 0), ("CH4", 0), ("H2O", 0), ("C3H8", 2)],
)
def test_bonds_that_turn_are_counted(name, count):
    assert len(rotatable_bonds(molecule(name).numbers, molecule(name).positions)) == count


def test_handedness_of_atoms_without_any():
    assert Handedness.of(np.array([2]), np.zeros((1, 3))).kept(np.zeros((2, 1, 3))).tolist() == [
        True,
        True,
    ]


@pytest.mark.parametrize(("measured", "time"), [(None, 4.8), (30.0, 30.0)])
def test_settling_counts_in_the_lag_as_was_measured_or_as_diffusion_does(start, measured, time):
    # 3 jumps of 16 fs at ten times the friction are a tenth of their time.
    asked = []

    class Noted(Spoilt):
        def draw(self, state, lag, *arguments):
            asked.append(lag)
            return self.leaps.draw(state, lag, *arguments)

    noting = leaping_ethanol(settling_fs=measured)
    noting.leaps = Noted(noting.leaps, 0, None)
    [*leaping(noting, start).run(1000.0)]
    assert asked == [pytest.approx(1000.0 - time)]


def test_energies_are_asked_for_where_a_sample_is_judged_and_not_in_settling(start):
    counted = leaping_ethanol()
    energy, asked = counted.energy, []

    def counting(state):
        asked.append(state.batch_size)
        return energy(state)

    counted.energy = counting
    propagator = leaping(counted, start)
    [*propagator.run(1000.0)]
    asked.clear()
    [*propagator.run(1000.0)]
    assert int(propagator.leaping.last.redrawn.sum()) == 0
    assert asked == [3, 3]


def test_leaps_take_no_tolerance(operator, start):
    from ase_atom.propagation.adaptive import Adaptive

    with pytest.raises(ConfigError, match="leaps have no tolerance"):
        leaping(operator, start, adaptive=Adaptive(0.05))
