"""`ATOMPropagator` in the place of ASE's integrators: grids, observers, ensembles, refusals."""

import io
import math
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms, FixBondLength, FixCom
from ase.io import Trajectory, read
from ase.md.logger import MDLogger
from ase.md.verlet import VelocityVerlet
from springs import SpringOperator

from ase_atom import (
    NVE,
    ATOMBussi,
    ATOMCalculator,
    ATOMLangevin,
    ATOMPropagator,
    ATOMVerlet,
    Bussi,
    Langevin,
    PhaseState,
    Propagator,
)
from ase_atom.errors import (
    AtomError,
    BrokenStateError,
    ConfigError,
    CoverageError,
    HorizonError,
    StateError,
    TrajectoryError,
)
from ase_atom.io import read_trajectory

FS = units.fs
THERMOSTATS = {
    "NVE": {},
    "Langevin": {"temperature_K": 300, "friction": 0.02 / FS},
    "Bussi": {"temperature_K": 300, "taut": 40 * FS},
}


class Counting(Calculator):
    """Springs, as in `SpringOperator`, that count how often they are evaluated."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as ASE has it

    def __init__(self, springs: SpringOperator) -> None:
        super().__init__()
        self.springs = springs
        self.count = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.count += 1
        u = self.atoms.positions - self.springs.reference.numpy()
        forces = -self.springs.stiffness * (len(u) * u - u.sum(axis=0))
        energy = float(self.springs.energy(PhaseState.from_atoms(self.atoms))[0])
        self.results = {"energy": energy, "forces": forces}


@pytest.fixture
def springs(ethanol) -> SpringOperator:
    return SpringOperator(ethanol)


def thermal(atoms: Atoms, seed: int = 0) -> Atoms:
    masses = atoms.get_masses()[:, None]
    noise = np.random.default_rng(seed).standard_normal((len(atoms), 3))
    atoms.set_momenta(noise * np.sqrt(masses * units.kB * 300))
    return atoms


@pytest.fixture
def warm(ethanol) -> Atoms:
    return thermal(ethanol)


def record(dynamics: ATOMPropagator) -> list[tuple[int, np.ndarray, np.ndarray]]:
    seen = []

    def look() -> None:
        atoms = dynamics.atoms
        seen.append((dynamics.nsteps, atoms.get_positions(), atoms.get_momenta()))

    dynamics.attach(look, interval=1)
    return seen


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
    with pytest.raises(StateError, match=r"O2 and H3 are 0\.173 Å apart"):
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
            Bussi(350.0, 40.0, reversible=True),
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


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"stride": 16 * FS, "timestep": 0.7 * FS}, ConfigError, "near ones are 15.4 fs or 16.1"),
        ({"stride": 100 * FS}, HorizonError, "horizon of 64 fs"),
        ({"timestep": -FS}, ConfigError, "time step must be above 0"),
        ({"temperature_K": 300}, ConfigError, "temperature_K=300 needs a thermostat"),
        ({"friction": 0.1}, ConfigError, "friction makes a thermostat, which needs temperature_K"),
        ({"temperature_K": 300, "friction": 0.1, "taut": 1}, ConfigError, "give one of them"),
        ({"temperature_K": -1, "friction": 0.1}, ConfigError, "above 0 K"),
        ({"energy_correction": "gfn2"}, ConfigError, "True, False or an ASE calculator, not str"),
        ({"operator": None}, ConfigError, "no calculator: set atoms.calc = ATOMCalculator"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_touched(
    warm, springs, tmp_path, settings, error, message
):
    settings = {"timestep": 0.5 * FS, "operator": springs, **settings}
    momenta = warm.get_momenta()
    with pytest.raises(error, match=message):
        ATOMPropagator(warm, logfile=str(tmp_path / "log"), **settings)
    assert not (tmp_path / "log").exists()
    np.testing.assert_array_equal(warm.get_momenta(), momenta)


@pytest.mark.parametrize("constraint", [FixAtoms([0]), FixBondLength(0, 1)])
def test_constraints_that_no_jump_can_keep_are_refused(warm, springs, constraint):
    warm.set_constraint(constraint)
    with pytest.raises(CoverageError, match=f"the constraint {type(constraint).__name__} cannot"):
        ATOMPropagator(warm, 0.5 * FS, operator=springs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda atoms: atoms.set_constraint(FixAtoms([1])), "FixAtoms cannot be kept"),
        (lambda atoms: atoms.positions.__setitem__((4, 1), math.nan), "position of atom H4 is not"),
        (
            lambda atoms: atoms.arrays["momenta"].__setitem__((0, 0), math.inf),
            "momentum of atom C0",
        ),
        (lambda atoms: atoms.numbers.__setitem__(2, 16), "has become C2H6S"),
        (lambda atoms: atoms.set_pbc(True), "periodic cell"),
        (lambda atoms: atoms.set_masses([2.0] * 9), "has a mass of 2.000"),
    ],
)
def test_changes_that_no_jump_can_follow_are_refused(warm, change, message):
    dynamics = ATOMPropagator(warm, 0.5 * FS, operator="ethanol-gfn2")
    dynamics.run(3)
    change(warm)
    with pytest.raises(AtomError, match=message):
        dynamics.run(40)


def test_a_broken_state_stops_the_run_after_the_good_frames(warm, springs):
    bond = warm.positions[3] - warm.positions[2]
    momenta = warm.get_momenta()
    momenta[3] = 2.0 * bond / np.linalg.norm(bond) / FS
    warm.set_momenta(momenta)
    dynamics = ATOMPropagator(
        warm, 0.1 * FS, operator=springs, stride=8 * FS, energy_correction=False
    )
    seen = record(dynamics)
    with pytest.raises(BrokenStateError, match="the bond of O2 and H3 is") as caught:
        dynamics.run(1000)
    assert dynamics.nsteps == seen[-1][0] == len(seen) - 1
    assert caught.value.time == pytest.approx(0.1 * (dynamics.nsteps + 1))
    np.testing.assert_array_equal(warm.positions, seen[-1][1])


def test_named_classes_take_no_other_ensemble_s_settings(warm, springs):
    with pytest.raises(ConfigError, match="ATOMVerlet is microcanonical and takes no taut"):
        ATOMVerlet(warm, FS, taut=5.0, operator=springs)
    assert ATOMBussi(warm, FS, 300, 50 * FS, operator=springs).ensemble.taut == pytest.approx(50.0)


def test_trajectories_say_how_they_were_made(warm, springs, tmp_path):
    warm.calc = Counting(springs)
    dynamics = ATOMLangevin(
        warm,
        0.5 * FS,
        temperature_K=300,
        friction=0.01 / FS,
        operator=springs,
        trajectory=str(tmp_path / "t.traj"),
    )
    dynamics.run(2)
    with Trajectory(tmp_path / "t.traj") as trajectory:
        assert trajectory.description["md-type"] == "ATOMLangevin"
        assert "friction=0.01" in trajectory.description["ensemble"]


@pytest.mark.parametrize("ending", [".dcd", ".XYZ", ".nc", ".h5"])
def test_the_ending_of_a_trajectory_chooses_its_format(warm, springs, tmp_path, ending):
    def run(name: str, start: Atoms, append: bool = False) -> Atoms:
        atoms = start.copy()
        with ATOMPropagator(
            atoms,
            0.5 * FS,
            operator=springs,
            energy_correction=False,
            trajectory=tmp_path / name,
            append_trajectory=append,
            loginterval=4,
        ) as dynamics:
            dynamics.run(18)
            dynamics.run(22)
        return atoms

    path = tmp_path / f"t{ending}"
    path.write_text("what was here before")
    end = run(path.name, warm)
    run("ase.traj", warm)
    frames = read(tmp_path / "ase.traj", ":")
    with read_trajectory(path) as reader:
        (block,) = reader
    np.testing.assert_allclose(block.times, 2.0 * np.arange(11), rtol=1e-6)
    np.testing.assert_allclose(block.positions, [frame.positions for frame in frames], atol=1e-5)
    run(path.name, end, append=True)  # its first frame is the last that is there
    with read_trajectory(path) as reader:
        (block,) = reader
    np.testing.assert_allclose(block.times, 2.0 * np.arange(21), rtol=1e-6)


def test_trajectories_that_cannot_be_written(warm, springs, tmp_path, ethanol):
    before = warm.get_momenta()
    (tmp_path / "t.pdb").write_text("HETATM    1 AR   MOL     1       0.000   0.000   0.000\n")
    for name, message in (
        ("t.foo", r"no writer for .*t\.foo': the ending must be one of \.dcd"),
        ("t.pdb", r"no writer for .*t\.pdb'"),
        ("t.dcd", r"t\.pdb, where the topology of t\.dcd would be, describes other atoms"),
        ("none/t.xyz", "the folder .*none of the output"),
    ):
        with pytest.raises(TrajectoryError, match=message):
            ATOMPropagator(warm, 0.5 * FS, operator=springs, trajectory=str(tmp_path / name))
    assert [file.name for file in tmp_path.iterdir()] == ["t.pdb"]
    np.testing.assert_array_equal(warm.get_momenta(), before)


def test_a_hundred_thousand_steps_leave_memory_flat(warm, springs):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    dynamics = ATOMPropagator(warm, 0.5 * FS, operator=springs, stride=64 * FS)
    dynamics.run(5000)
    before = resident()
    dynamics.run(100_000)
    assert resident() - before < 2**22


@pytest.mark.parametrize("kind", [ATOMLangevin, ATOMPropagator])
def test_settings_may_change_between_runs_but_not_the_time_step(warm, springs, kind):
    dynamics = kind(
        warm, 0.5 * FS, temperature_K=300, friction=0.01 / FS, operator=springs, stride=8 * FS
    )
    dynamics.run(5)
    dynamics.set_temperature(400)
    dynamics.set_friction(0.02 / FS)
    assert dynamics.ensemble.temperature_K == 400
    assert dynamics.ensemble.friction == pytest.approx(0.02)
    dynamics.dt = 1.0 * FS
    with pytest.raises(ConfigError, match=r"time step was 0\.5 fs and is now 1 fs"):
        dynamics.run(5)
    with pytest.raises(ConfigError, match="no temperature to set"):
        ATOMVerlet(warm, FS, operator=springs).set_temperature(300)
    with pytest.raises(ConfigError, match="microcanonical dynamics have no friction to set"):
        ATOMVerlet(warm, FS, operator=springs).set_friction(0.01 / FS)
    with pytest.raises(ConfigError, match="Bussi's dynamics have no friction to set"):
        ATOMBussi(warm, FS, 300, 100 * FS, operator=springs).set_friction(0.01 / FS)
    with pytest.raises(ConfigError, match="the friction must be above zero, not -1 per fs"):
        dynamics.set_friction(-1 / FS)
    with pytest.raises(ConfigError, match=r"standard_normal, as np.random.default_rng\(42\)"):
        ATOMVerlet(warm, FS, operator=springs, rng=42)


def test_a_temperature_that_the_operator_does_not_know_is_a_warning(warm):
    with pytest.warns(UserWarning, match="3000 K is outside the range 300 to 500 K"):
        ATOMLangevin(warm, FS, temperature_K=3000, friction=0.1, operator="ethanol-gfn2")
