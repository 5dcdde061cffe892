"""Unknown keywords and settings without effect are refused, with the nearest that is known."""

import inspect
import re

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase_dynamics import FS, thermal

import ase_atom
import ase_atom.io
from ase_atom import (
    ATOMCalculator,
    ATOMLangevin,
    ATOMPropagator,
    ATOMVerlet,
    Langevin,
    propagate_replicas,
)
from ase_atom.errors import ConfigError, UnknownKeywordError
from ase_atom.propagation import Settings

NOT_CALLED = (
    "TrajectoryReader",
    "TrajectoryWriter",
    "FrameBlock",
    "FORMATS",
    "__version__",
)  # made by what is called


def _callables() -> dict[str, object]:
    found = {}
    for package in (ase_atom, ase_atom.io):
        for name in package.__all__:
            value = getattr(package, name)
            exception = isinstance(value, type) and issubclass(value, Exception)
            if name not in NOT_CALLED and not exception and not isinstance(value, type(ase_atom)):
                found[f"{package.__name__}.{name}"] = value
    return found


CALLABLES = _callables()


@pytest.mark.parametrize("called", CALLABLES.values(), ids=CALLABLES)
def test_every_way_in_names_the_keyword_and_the_nearest(called):
    """Whatever else is missing or wrong."""
    parameters = [name for name in inspect.signature(called).parameters if name != "self"]
    nearest = next((name for name in reversed(parameters) if name != "kwargs"), None)
    wrong = f"{nearest or 'keyword'}x"
    with pytest.raises(UnknownKeywordError, match=f"takes no '{wrong}'") as caught:
        called(**{wrong: 1})
    if nearest:
        assert str(caught.value).endswith(f"did you mean {nearest!r}?")
    assert isinstance(caught.value, TypeError)  # as Python itself has it
    assert isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("kind", "wrong", "nearest"),
    [
        (ATOMCalculator, "precison", "precision"),
        (ATOMPropagator, "temperature", "temperature_K"),
        (ATOMPropagator, "energy_corection", "energy_correction"),
        (ATOMVerlet, "trajectroy", "trajectory"),
        (ATOMVerlet, "log_interval", "loginterval"),
        (ATOMLangevin, "fricton", "friction"),
        (ATOMLangevin, "Stride", "stride"),
        (ATOMLangevin, "fix_com", "fixcm"),
        (propagate_replicas, "frame_interval", "interval"),
        (Langevin, "temperature", "temperature_K"),
        (Settings, "fixcom", "fix_com"),
    ],
)
def test_the_nearest_keyword_is_the_one_that_is_meant(kind, wrong, nearest):
    message = f"{kind.__name__} takes no '{wrong}'.*'{nearest}'"
    with pytest.raises(UnknownKeywordError, match=message):
        kind(**{wrong: 1})


def test_where_nothing_is_near_all_are_named():
    with pytest.raises(
        UnknownKeywordError, match="takes no 'device': it takes operator, precision, threads, atoms"
    ):
        ATOMCalculator("ethanol-gfn2", device="cuda")


def test_keywords_of_ase_are_known_and_signatures_are_kept(ethanol, springs, tmp_path):
    dynamics = ATOMVerlet(
        thermal(ethanol), FS, operator=springs, stride=8 * FS, trajectory=str(tmp_path / "a.traj"),
        loginterval=4, append_trajectory=False,
    )  # fmt: skip
    dynamics.run(8)
    assert list(inspect.signature(ATOMLangevin).parameters)[:2] == ["atoms", "timestep"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fixcm": True}, "fixcm is a setting of thermostats"),
        ({"fixcm": False}, "fixcm is a setting of thermostats"),
        ({"seed": 1}, "seed has no effect in microcanonical dynamics"),
        ({"friction": 0.1}, "friction makes a thermostat, which needs temperature_K"),
        ({"temperature_K": 300, "friction": 0.1, "seed": 1, "rng": np.random}, "give one of them"),
        ({"temperature_K": 300, "friction": 0.1, "seed": -1}, "a whole number from 0 on, not -1"),
        ({"temperature_K": 300, "friction": 0.1, "seed": True}, "a whole number from 0 on"),
        ({"temperature_K": 300, "friction": 0.1, "seed": 1.5}, "a whole number from 0 on"),
        ({"temperature_K": "hot", "friction": 0.1}, "temperature_K is a number"),
        ({"temperature_K": 300, "friction": "much"}, "friction is a number in ASE's units"),
        ({"temperature_K": 300, "friction": 1e13}, "friction cannot be"),
        ({"temperature_K": 300, "taut": 1e-13}, "taut cannot be"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(ethanol, springs, settings, message):
    for go in (
        lambda atoms: ATOMPropagator(atoms, FS, operator=springs, **settings),
        lambda atoms: propagate_replicas([atoms], FS, 8, operator=springs, **settings),
    ):
        with pytest.raises(ConfigError, match=message):
            go(thermal(ethanol))


@pytest.mark.parametrize(
    ("name", "value"), [("fixcm", True), ("seed", 3), ("rng", np.random), ("friction", 0.1)]
)
def test_microcanonical_dynamics_take_nothing_of_a_thermostat(ethanol, springs, name, value):
    with pytest.raises(ConfigError, match=f"ATOMVerlet is microcanonical and takes no {name}"):
        ATOMVerlet(thermal(ethanol), FS, operator=springs, **{name: value})


@pytest.mark.parametrize("settings", [{"interval": 5}, {"overwrite": True}])
def test_settings_of_files_need_files(ethanol, springs, settings):
    with pytest.raises(ConfigError, match="has no effect without trajectory="):
        propagate_replicas([thermal(ethanol)], FS, 8, operator=springs, **settings)


@pytest.mark.parametrize(
    ("timestep", "stride", "message"),
    [
        (5e-16, None, "shorter than any motion in a molecule: check its unit"),
        (1e-6 * FS, None, "shorter than any motion in a molecule: check its unit"),
        (500 * FS, None, "longer than the stride of 16 fs"),
        (16, None, "longer than the stride of 16 fs"),
        (0.5, None, "no multiple of the time step of 5.09"),
        (0.5 * FS, 16e-15, "a stride of .* fs is shorter than any motion"),
        (np.nan, None, "must be above 0 fs"),
        ("0.5 fs", None, "timestep is a number in ASE's units, not '0.5 fs'"),
        (None, None, "timestep is a number in ASE's units, not None"),
    ],
)
def test_times_in_another_unit_are_refused_with_what_would_be_right(
    ethanol, springs, timestep, stride, message
):
    atoms = thermal(ethanol)
    with pytest.raises(ConfigError, match=message) as caught:
        ATOMPropagator(atoms, timestep, stride=stride, operator=springs)
    if isinstance(timestep, float) and timestep == timestep:
        assert "half a femtosecond is 0.5 * ase.units.fs" in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        propagate_replicas([atoms], timestep, 8, stride=stride, operator=springs)


@pytest.mark.parametrize("steps", [-1, 2.5, np.nan])
def test_steps_are_whole_numbers(ethanol, springs, steps):
    dynamics = ATOMVerlet(thermal(ethanol), FS, operator=springs, stride=8 * FS)
    with pytest.raises(ConfigError, match="steps is a whole number from 0 on"):
        dynamics.run(steps)


def test_a_seed_repeats_a_run_and_leaves_numpy_alone(ethanol, springs):
    def run(**source) -> tuple[np.ndarray, np.ndarray]:
        atoms = thermal(ethanol.copy())
        ATOMLangevin(
            atoms, FS, temperature_K=300, friction=0.02 / FS, operator=springs, stride=8 * FS,
            **source,
        ).run(24)  # fmt: skip
        return atoms.positions

    np.testing.assert_array_equal(run(seed=7), run(seed=7))
    np.testing.assert_array_equal(run(seed=7), run(rng=np.random.default_rng(7)))
    assert np.abs(run(seed=7) - run(seed=8)).max() > 1e-4

    replicas = [[thermal(ethanol.copy())] for _ in range(2)]
    for atoms in replicas:
        propagate_replicas(
            atoms, FS, 24, temperature_K=300, friction=0.02 / FS, operator=springs, seed=7
        )
    np.testing.assert_array_equal(replicas[0][0].positions, replicas[1][0].positions)


# -- the calculator's settings ---------------------------------------------------------------------


def test_what_is_set_later_holds(ethanol):
    def energy(atoms: Atoms, **settings) -> float:
        atoms.calc = ATOMCalculator("ethanol-gfn2", **settings)
        return atoms.get_potential_energy()

    single, double = energy(ethanol), energy(ethanol.copy(), precision="double")
    assert single != double
    assert ethanol.calc.set(precision="double") == {"precision": "double"}
    assert not ethanol.calc.results
    assert ethanol.get_potential_energy() == double
    ethanol.calc.precision = "single"
    assert ethanol.get_potential_energy() == single
    assert ethanol.calc.set(precision="single", threads=2) == {"threads": 2}
    assert ethanol.calc.results  # threads change no result
    assert (ethanol.calc.precision, ethanol.calc.threads) == ("single", 2)


def test_what_cannot_be_set_is_refused_and_changes_nothing(ethanol):
    calc = ethanol.calc = ATOMCalculator("ethanol-gfn2")
    ethanol.get_potential_energy()
    for wrong, message in (
        ({"precision": "half"}, "precision is 'single' or 'double', not 'half'"),
        ({"threads": 0}, "threads is a whole number from 1 on, not 0"),
        ({"threads": True}, "threads is a whole number"),
        ({"precison": "double"}, "did you mean 'precision'"),
        ({"operator": "ethanol-pbe"}, "takes no 'operator'"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            calc.set(**wrong)
        assert (calc.precision, calc.threads) == ("single", 1)
        assert calc.results
    with pytest.raises(ConfigError, match="threads is a whole number"):
        ATOMCalculator("ethanol-gfn2", threads="many")
    with pytest.raises(PropertyNotImplementedError, match="stress"):
        calc.calculate(ethanol, ["energy", "stress"])


def test_parameters_are_what_files_note(ethanol, tiny_operator):
    assert ATOMCalculator("ethanol-gfn2").todict() == {"operator": "ethanol-gfn2"}
    assert ATOMCalculator(tiny_operator, precision="double").todict() == {
        "operator": "tiny",
        "precision": "double",
    }
    calc = ATOMCalculator(atoms=ethanol)
    assert ethanol.calc is calc
    ethanol.get_potential_energy()
    assert calc.todict() == {"operator": "ethanol-gfn2"}
