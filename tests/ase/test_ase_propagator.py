"""`ATOMPropagator` in the place of ASE's integrators: grids, observers, ensembles."""

import io
import pickle
import resource
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.constraints import FixCom
from ase.io import read
from ase.md.logger import MDLogger
from ase.md.verlet import VelocityVerlet
from ase_dynamics import FS, Counting, record, thermal
from springs import SpringOperator

from ase_atom import (
    NVE,
    ATOMCalculator,
    ATOMLangevin,
    ATOMPropagator,
    ATOMVerlet,
    Bussi,
    Langevin,
    PhaseState,
    Propagator,
)
from ase_atom.errors import BrokenStateError, StateError

THERMOSTATS = {
    "NVE": {},
    "Langevin": {"temperature_K": 300, "friction": 0.02 / FS},
    "Bussi": {"temperature_K": 300, "taut": 40 * FS},
}


@pytest.fixture
def warm(ethanol) -> Atoms:
    return thermal(ethanol)


# -- what ASE promises -----------------------------------------------------------------------------


def test_every_step_holds_the_exact_path(warm, springs):
    start = PhaseState.from_atoms(warm)
    dynamics = ATOMPropagator(warm, 0.5 * FS, stride=16 * FS, operator=springs)
    seen = record(dynamics)
    dynamics.run(32)
    times = torch.arange(33) * 0.5
    x, v = springs(start, times)
    for step, positions, momenta in seen[:32]:  # at step 32 the angular momentum is mended
        np.testing.assert_allclose(positions, x[0, step], atol=1e-10)
        velocities = momenta / warm.get_masses()[:, None] * FS
        np.testing.assert_allclose(velocities, v[0, step], atol=1e-12)
    assert [step for step, *_ in seen] == list(range(33))
    assert dynamics.get_time() == pytest.approx(16 * FS)


def test_observers_loggers_and_files_as_with_velocity_verlet(warm, springs, tmp_path):
    def run(make, name: str):
        atoms = warm.copy()
        atoms.calc = Counting(springs)
        log = io.StringIO()
        dynamics = make(atoms, trajectory=str(tmp_path / name), loginterval=5)
        dynamics.attach(MDLogger(dynamics, atoms, log), interval=10)
        once, every = [], []
        dynamics.attach(lambda: once.append(dynamics.nsteps), interval=-7)
        dynamics.attach(lambda: every.append((dynamics.nsteps, dynamics.get_time())), interval=3)
        assert dynamics.run(23)
        assert dynamics.run(17)
        return log.getvalue(), read(tmp_path / name, ":"), once, every, atoms.calc.count

    def jumps(atoms, **options):
        return ATOMPropagator(
            atoms, 0.1 * FS, stride=16 * FS, operator=springs, energy_correction=False, **options
        )

    before = run(lambda atoms, **options: VelocityVerlet(atoms, 0.1 * FS, **options), "a.traj")
    after = run(jumps, "b.traj")
    assert after[2:4] == before[2:4]
    header, *rows = after[0].splitlines()
    old_header, *old_rows = before[0].splitlines()
    assert header == old_header
    assert len(rows) == len(old_rows) == 5
    for row, old in zip(rows, old_rows, strict=True):
        np.testing.assert_allclose([*map(float, row.split())], [*map(float, old.split())], atol=0.2)
    assert len(after[1]) == len(before[1]) == 9
    for new, old in zip(after[1], before[1], strict=True):
        np.testing.assert_allclose(new.positions, old.positions, atol=1e-3)
        assert new.get_potential_energy() == pytest.approx(old.get_potential_energy(), abs=2e-3)
        np.testing.assert_allclose(new.get_forces(), old.get_forces(), atol=0.1)
    # Files are the same, but forces were computed for the steps that somebody saw.
    seen = {n for n in range(41) if n % 5 == 0 or n % 3 == 0 or n == 7}
    assert (before[4], after[4]) == (41, len(seen))


def test_nothing_is_evaluated_unless_asked_for(warm, springs):
    warm.calc = Counting(springs)
    dynamics = ATOMPropagator(
        warm, 0.5 * FS, operator=springs, stride=8 * FS, evaluate=False, energy_correction=False
    )
    record(dynamics)
    dynamics.run(40)
    assert warm.calc.count == 0
    warm.get_potential_energy()
    assert warm.calc.count == 1


@pytest.mark.parametrize("settings", THERMOSTATS.values(), ids=THERMOSTATS)
@pytest.mark.parametrize("cuts", [(7, 30, 13), (16, 34), (1,) * 50])
def test_a_run_does_not_depend_on_how_it_is_cut(ethanol, springs, settings, cuts):
    def run(pieces) -> list:
        dynamics = ATOMPropagator(
            thermal(ethanol.copy()),
            0.5 * FS,
            operator=springs,
            stride=8 * FS,
            rng=np.random.default_rng(5),
            **settings,
        )
        seen = record(dynamics)
        for piece in pieces:
            dynamics.run(piece)
        return seen

    for one, other in zip(run((50,)), run(cuts), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


def test_irun_yields_at_every_step(warm, springs):
    dynamics = ATOMPropagator(warm, 0.5 * FS, operator=springs, stride=8 * FS)
    assert list(dynamics.irun(20)) == [False] * 20 + [True]
    assert dynamics.nsteps == 20
    assert list(dynamics.irun(5)) == [False] * 5 + [True]


def test_the_same_with_a_trained_operator(warm):
    warm.calc = ATOMCalculator("ethanol-gfn2")
    start = PhaseState.from_atoms(warm)
    dynamics = ATOMPropagator(warm, 0.5 * FS, stride=16 * FS)
    seen = record(dynamics)
    dynamics.run(200)
    below = Propagator(
        warm.calc.operator, start, NVE(energy_correction=True, reversible=True), 16.0, 0.5
    )
    positions = torch.cat([frames.positions for frames in below.run(100.0)], dim=1)[0].numpy()
    for step, x, _ in seen:
        np.testing.assert_allclose(x, positions[step], atol=1e-6)


# -- observers that interfere ----------------------------------------------------------------------


@pytest.mark.parametrize("step", [5, 16, 21])
def test_a_change_by_an_observer_is_where_the_next_step_starts(warm, springs, step):
    """From there on the path is that of the changed state, inside a jump and at its end."""
    dynamics = ATOMPropagator(
        warm, 0.5 * FS, operator=springs, stride=8 * FS, energy_correction=False
    )
    changed = []

    def interfere() -> None:
        if dynamics.nsteps == step:
            warm.positions[3] += [0.02, 0.0, -0.01]
            warm.set_momenta(0.5 * warm.get_momenta())
            changed.append(PhaseState.from_atoms(warm))

    dynamics.attach(interfere, interval=1)
    seen = record(dynamics)
    left = 16 - step % 16
    dynamics.run(step + left)
    x, v = springs(changed[0], torch.arange(left + 1) * 0.5)
    for n in range(1, left):
        np.testing.assert_allclose(seen[step + n][1], x[0, n], atol=1e-10)
        velocities = seen[step + n][2] / warm.get_masses()[:, None] * FS
        np.testing.assert_allclose(velocities, v[0, n], atol=1e-12)


def meddle_with_nothing(dynamics: ATOMPropagator) -> None:
    """Write the momenta back as they are, up to rounding."""
    atoms = dynamics.atoms
    dynamics.attach(lambda: atoms.set_velocities(atoms.get_velocities()), interval=1)


def nudge(dynamics: ATOMPropagator) -> None:
    """Change the momenta by next to nothing, but more than rounding."""
    atoms = dynamics.atoms
    dynamics.attach(lambda: atoms.set_momenta(atoms.get_momenta() * (1 + 1e-8)), interval=1)


@pytest.mark.parametrize("meddle", [meddle_with_nothing, nudge])
def test_observers_that_cut_every_jump_do_not_heat(warm, meddle):
    """The path of a learned operator strays from its energy within a jump; that must not add up."""
    warm.calc = ATOMCalculator("ethanol-gfn2")
    dynamics = ATOMVerlet(warm, 0.5 * FS, evaluate=False)
    start = warm.get_total_energy()
    meddle(dynamics)
    dynamics.run(192)
    assert warm.get_total_energy() == pytest.approx(start, abs=0.005)


def test_an_observer_that_changes_nothing_changes_nothing(ethanol, springs):
    def run(touch: bool) -> np.ndarray:
        atoms = thermal(ethanol.copy())
        dynamics = ATOMLangevin(
            atoms,
            0.5 * FS,
            temperature_K=300,
            friction=0.02 / FS,
            operator=springs,
            rng=np.random.default_rng(1),
        )
        if touch:
            dynamics.attach(lambda: atoms.set_positions(atoms.get_positions()), interval=3)
        dynamics.run(100)
        return atoms.positions

    np.testing.assert_array_equal(run(True), run(False))


def test_momenta_set_between_runs_are_taken_up(warm, springs):
    dynamics = ATOMPropagator(
        warm, 0.5 * FS, operator=springs, stride=8 * FS, energy_correction=False
    )
    dynamics.run(4)
    warm.set_momenta(np.zeros((9, 3)))
    place = PhaseState.from_atoms(warm)
    dynamics.run(6)
    x, _ = springs(place, torch.tensor([3.0]))
    np.testing.assert_allclose(warm.positions, x[0, 0], atol=1e-10)


def test_the_guard_takes_its_limits_from_where_an_observer_put_the_atoms(warm, springs):
    dynamics = ATOMPropagator(warm, 0.5 * FS, operator=springs, stride=8 * FS)
    dynamics.run(3)
    warm.positions[3] = warm.positions[2] + 0.1
    with pytest.raises(StateError, match=r"O1 and H1 are 0\.173 Å apart"):
        dynamics.run(1)


# -- ensembles -------------------------------------------------------------------------------------


class TorchNoise:
    """The noise of `Propagator`, with numpy's interface."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def standard_normal(self, size: tuple[int, ...]) -> np.ndarray:
        return torch.randn(size, generator=self.generator, dtype=torch.float64).numpy()


@pytest.mark.parametrize(
    ("settings", "ensemble", "dof"),
    [
        ({}, NVE(True, reversible=True), 24),
        ({"temperature_K": 350, "friction": 0.02 / FS}, Langevin(350.0, 0.02, True, True), 24),
        (
            {"temperature_K": 350, "friction": 0.02 / FS, "fixcm": False},
            Langevin(350.0, 0.02, False, True),
            27,
        ),
        (
            {"temperature_K": 350, "taut": 40 * FS, "energy_correction": False},
            Bussi(350.0, 40.0, energy_correction=False),
            24,
        ),
    ],
)
def test_ensembles_are_those_of_the_propagator_below(warm, springs, settings, ensemble, dof):
    """Whose statistics are tested on their own."""
    start = PhaseState.from_atoms(warm)
    dynamics = ATOMPropagator(
        warm, 2 * FS, operator=springs, stride=16 * FS, rng=TorchNoise(3), **settings
    )
    seen = record(dynamics)
    dynamics.run(200)
    assert dynamics.degrees_of_freedom == dof
    below = Propagator(springs, start, ensemble, 16.0, 2.0, seed=3)
    frames = list(below.run(400.0))
    positions = torch.cat([each.positions for each in frames], dim=1)[0].numpy()
    for step, x, _ in seen:
        np.testing.assert_allclose(x, positions[step], atol=1e-9)
    temperature = float(ensemble.temperature(below.state)[0])
    assert dynamics.get_temperature() == pytest.approx(temperature, rel=1e-9)


def test_a_fixed_centre_of_mass_is_fixed_and_ase_counts_it_with_fixcom(warm, springs):
    warm.set_constraint(FixCom())
    place = warm.get_center_of_mass()
    dynamics = ATOMLangevin(
        warm, 0.5 * FS, temperature_K=300, friction=0.01 / FS, operator=springs, fixcm=False
    )
    dynamics.run(100)
    np.testing.assert_allclose(warm.get_center_of_mass(), place, atol=1e-10)
    assert dynamics.degrees_of_freedom == 24
    assert warm.get_temperature() == pytest.approx(dynamics.get_temperature(), rel=1e-6)


def test_fixcom_stops_the_drift_of_microcanonical_dynamics(warm, springs):
    warm.set_constraint(FixCom())
    place = warm.get_center_of_mass()
    ATOMVerlet(warm, 0.5 * FS, operator=springs, stride=8 * FS).run(40)
    np.testing.assert_allclose(warm.get_center_of_mass(), place, atol=1e-10)


def test_noise_comes_from_rng_or_from_numpy_s_own(ethanol, springs):
    def run(rng: object) -> np.ndarray:
        atoms = thermal(ethanol.copy())
        ATOMLangevin(
            atoms, FS, temperature_K=300, friction=0.02 / FS, operator=springs, rng=rng
        ).run(32)
        return atoms.positions

    np.random.seed(4)
    first = run(None)
    np.testing.assert_array_equal(first, run(np.random.RandomState(4)))
    assert np.abs(first - run(np.random.RandomState(5))).max() > 1e-3


def test_the_energy_correction_takes_any_calculator(ethanol):
    """A map that heats is held at the energy of the calculator that is named."""
    hot = SpringOperator(ethanol, heating=1e-3)
    drifts = []
    for correction in (False, True, Counting(hot)):
        atoms = thermal(ethanol.copy())
        judge = Counting(hot)
        energy = judge.get_potential_energy(atoms) + atoms.get_kinetic_energy()
        settings = {"energy_correction": correction, "reversible": False}
        ATOMPropagator(atoms, FS, operator=hot, stride=16 * FS, **settings).run(160)
        drifts.append(judge.get_potential_energy(atoms) + atoms.get_kinetic_energy() - energy)
    assert abs(drifts[0]) > 0.01
    np.testing.assert_allclose(drifts[1:], 0.0, atol=1e-9)


def test_another_calculator_may_stand_beside_the_operator(warm, springs):
    warm.calc = Counting(springs)
    dynamics = ATOMVerlet(warm, 0.5 * FS, operator="ethanol-gfn2")
    record(dynamics)
    dynamics.run(32)
    assert warm.calc.count == 33
    assert dynamics.operator.card.name == "ethanol-gfn2"


def test_a_hundred_thousand_steps_leave_memory_flat(warm, springs):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    dynamics = ATOMPropagator(warm, 0.5 * FS, operator=springs, stride=64 * FS)
    dynamics.run(5000)
    before = resident()
    dynamics.run(100_000)
    assert resident() - before < 2**22


@pytest.mark.parametrize("intervals", [(7,), (7, -5), ()])
def test_a_run_from_look_to_look_is_the_run_step_by_step(warm, springs, intervals):
    """Same frames at the same steps for observers, and the same state at the end, to the bit."""

    def seen(run):
        atoms = warm.copy()
        dynamics = ATOMLangevin(
            atoms,
            FS,
            operator=springs,
            stride=4 * FS,
            temperature_K=300,
            friction=0.02 / FS,
            seed=5,
        )
        looks = []
        for interval in intervals:
            dynamics.attach(
                lambda: looks.append((dynamics.nsteps, atoms.positions.copy())), interval=interval
            )
        run(dynamics)
        return dynamics.nsteps, looks, atoms.positions, atoms.get_momenta()

    steps, looks, *arrays = seen(lambda dynamics: dynamics.run(30))
    others = seen(lambda dynamics: list(dynamics.irun(30)))
    assert steps == others[0] == 30
    assert [step for step, _ in looks] == [step for step, _ in others[1]]
    for (_, ours), (_, theirs) in zip(looks, others[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(arrays, others[2:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_whoever_has_steps_of_their_own_gets_each(warm, springs):
    class Counting(ATOMLangevin):
        count = 0

        def step(self):
            self.count += 1
            super().step()

    dynamics = Counting(
        warm.copy(), FS, operator=springs, stride=4 * FS, temperature_K=300, friction=0.02 / FS
    )
    dynamics.run(10)
    assert dynamics.count == 10


def test_a_molecule_that_breaks_between_looks_stops_where_it_does_step_by_step(warm):
    def broken(run):
        atoms = warm.copy()
        operator = SpringOperator(warm, heating=0.02)
        dynamics = ATOMVerlet(
            atoms, FS, operator=operator, stride=4 * FS, energy_correction=False, reversible=False
        )
        with pytest.raises(BrokenStateError) as caught:
            run(dynamics)
        return dynamics.nsteps, str(caught.value), caught.value.time, atoms.positions

    ours = broken(lambda dynamics: dynamics.run(4000))
    theirs = broken(lambda dynamics: list(dynamics.irun(4000)))
    assert ours[:3] == theirs[:3]
    np.testing.assert_array_equal(ours[3], theirs[3])


@pytest.mark.parametrize("copied", [deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
@pytest.mark.parametrize("rng", [None, 7])
def test_copies_go_on_as_the_original_does(ethanol, springs, copied, rng):
    """Also with the noise of numpy itself, which copies share."""
    atoms = thermal(ethanol)
    source = {} if rng is None else {"rng": np.random.default_rng(rng)}
    first = ATOMPropagator(
        atoms, 0.5 * FS, operator=springs, temperature_K=300, friction=0.01 / FS, **source
    )
    first.run(5)
    second = copied(first)
    assert second.atoms is not atoms
    for dynamics in (first, second):
        np.random.seed(11)
        dynamics.run(40)
    np.testing.assert_array_equal(first.atoms.positions, second.atoms.positions)
    np.testing.assert_array_equal(first.atoms.get_momenta(), second.atoms.get_momenta())


def test_positions_in_single_precision_follow_the_same_path(ethanol, springs):
    plain, single = thermal(ethanol), thermal(ethanol)
    single.arrays["positions"] = single.positions.astype(np.float32)
    plain.positions = single.positions
    for atoms in (plain, single):
        ATOMPropagator(atoms, 0.5 * FS, operator=springs).run(70)
    np.testing.assert_array_equal(single.positions, plain.positions)
