"""What `ATOMPropagator` refuses or warns of, and where it stops."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLength
from ase.units import Bohr
from ase_dynamics import FS, Counting, record, thermal

from ase_atom import (
    ATOMBussi,
    ATOMLangevin,
    ATOMPropagator,
    ATOMVerlet,
)
from ase_atom.errors import (
    AtomError,
    BrokenStateError,
    ConfigError,
    CoverageError,
    HorizonError,
)


@pytest.fixture
def warm(ethanol) -> Atoms:
    return thermal(ethanol)


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
        # 10 per ps is meant, which is 0.01 / fs
        ({"temperature_K": 300, "friction": 10}, ConfigError, r"cannot be 0.98.* check its unit"),
        ({"temperature_K": 300, "taut": 0.1}, ConfigError, r"cannot be 1.01.* check its unit"),
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
        (lambda atoms: atoms.positions.__setitem__((4, 1), math.nan), "position of atom H2 is not"),
        (
            lambda atoms: atoms.arrays["momenta"].__setitem__((0, 0), math.inf),
            "momentum of atom C1",
        ),
        (lambda atoms: atoms.numbers.__setitem__(2, 16), "has become C2H6S"),
        (lambda atoms: atoms.set_pbc(True), "periodic cell"),
        (lambda atoms: atoms.__delitem__(-1), "has become C2H5O"),
        (lambda atoms: atoms.append("H"), "has become C2H7O"),
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
    with pytest.raises(BrokenStateError, match="the bond of O1 and H1 is") as caught:
        dynamics.run(1000)
    assert dynamics.nsteps == seen[-1][0] == len(seen) - 1
    assert caught.value.time == pytest.approx(0.1 * (dynamics.nsteps + 1))
    np.testing.assert_array_equal(warm.positions, seen[-1][1])


def test_named_classes_take_no_other_ensemble_s_settings(warm, springs):
    with pytest.raises(ConfigError, match="ATOMVerlet is microcanonical and takes no taut"):
        ATOMVerlet(warm, FS, taut=5.0, operator=springs)
    assert ATOMBussi(warm, FS, 300, 50 * FS, operator=springs).ensemble.taut == pytest.approx(50.0)


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
    with pytest.raises(
        ConfigError, match="microcanonical dynamics have no friction: only Langevin"
    ):
        ATOMVerlet(warm, FS, operator=springs).set_friction(0.01 / FS)
    with pytest.raises(ConfigError, match="Bussi's dynamics have no friction: only Langevin"):
        ATOMBussi(warm, FS, 300, 100 * FS, operator=springs).set_friction(0.01 / FS)
    with pytest.raises(ConfigError, match="friction must be above 0 1/fs, not -1 1/fs"):
        dynamics.set_friction(-1 / FS)
    with pytest.raises(ConfigError, match="friction cannot be 1 1/fs"):
        dynamics.set_friction(1 / FS)
    with pytest.raises(ConfigError, match=r"standard_normal, as np.random.default_rng\(42\)"):
        ATOMVerlet(warm, FS, operator=springs, rng=42)


def test_a_temperature_that_the_operator_does_not_know_is_a_warning(warm):
    with pytest.warns(UserWarning, match="3000 K is outside the range 300 to 500 K"):
        ATOMLangevin(
            *(warm, FS),
            temperature_K=3000,
            friction=0.1,
            operator="ethanol-gfn2",
            accept_error=True,
        )


@pytest.mark.parametrize("value", ["yes", 1, None, np.array([True])])
@pytest.mark.parametrize("flag", ["evaluate", "accept_error", "energy_correction"])
def test_what_is_no_flag_does_not_count_as_true(warm, springs, flag, value):
    with pytest.raises(ConfigError, match=f"{flag} is True"):
        ATOMPropagator(warm, 0.5 * FS, operator=springs, **{flag: value})
    with pytest.raises(ConfigError, match="reversible is True or False, not 'no'"):
        ATOMPropagator(warm, 0.5 * FS, operator=springs, reversible="no")
    ATOMPropagator(warm, 0.5 * FS, operator=springs, evaluate=np.False_, reversible=np.True_)


@pytest.mark.parametrize("steps", ["10", None, True, 2.5, -1, math.nan])
def test_steps_are_whole_numbers(warm, springs, steps):
    dynamics = ATOMPropagator(warm, 0.5 * FS, operator=springs)
    with pytest.raises(ConfigError, match="steps is a whole number from 0 on"):
        dynamics.run(steps)


@pytest.mark.parametrize("interval", [2.5, math.nan, math.inf, "2", None])
def test_observers_between_steps_are_refused(warm, springs, tmp_path, interval):
    """An interval of 2.5 steps once kept a run from ever coming to its end."""
    log = tmp_path / "log"
    with pytest.raises(ConfigError, match="loginterval is a whole number"):
        ATOMPropagator(warm, 0.5 * FS, operator=springs, logfile=log, loginterval=interval)
    assert not log.exists()
    dynamics = ATOMPropagator(warm, 0.5 * FS, operator=springs)
    dynamics.attach(record, interval=interval)
    with pytest.raises(ConfigError, match="the interval of the observer record is a whole"):
        dynamics.run(10)


@pytest.mark.parametrize("atoms", ["ethanol.xyz", [Atoms("H")], Atoms("H")[0], None])
def test_what_is_no_molecule_is_called_so(springs, atoms):
    with pytest.raises(ConfigError, match=r"a molecule is an ase\.Atoms"):
        ATOMPropagator(atoms, 0.5 * FS, operator=springs)


@pytest.mark.parametrize(
    ("factor", "unit"), [(0.1, "nm"), (1 / Bohr, "bohr"), (100.0, "pm"), (Bohr, "for bohr")]
)
def test_lengths_in_another_unit_are_called_by_it(warm, factor, unit):
    warm.positions *= factor
    with pytest.raises(CoverageError, match=f"times as far apart as bonded atoms are: .* {unit}"):
        ATOMPropagator(warm, 0.5 * FS, operator="ethanol-gfn2")


@pytest.mark.parametrize("name", ["trajectory", "logfile", "restart"])
@pytest.mark.parametrize("value", [5, True, [], b"run.dcd"])
def test_what_is_no_name_of_a_file_is_called_so(warm, springs, name, value):
    warm.calc = Counting(springs)
    with pytest.raises(ConfigError, match=f"{name} is the name of a file, not "):
        ATOMPropagator(warm, 0.5 * FS, operator=springs, **{name: value})


def test_momenta_that_an_observer_deletes_are_zero(ethanol, springs):
    """As ASE's own `Atoms.get_momenta` has it."""
    ends = []
    for change in (lambda a: a.arrays.pop("momenta"), lambda a: a.set_momenta(np.zeros((9, 3)))):
        atoms = thermal(ethanol.copy())
        dynamics = ATOMVerlet(atoms, 0.5 * FS, operator=springs)
        dynamics.run(5)
        change(atoms)
        dynamics.run(40)
        ends.append((atoms.get_positions(), atoms.get_momenta()))
    np.testing.assert_array_equal(*(end[0] for end in ends))
    np.testing.assert_array_equal(*(end[1] for end in ends))
    assert np.abs(ends[0][1]).max() > 0
