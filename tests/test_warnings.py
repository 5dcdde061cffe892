"""What an operator was not trained for is warned of once, at the line that asked for it."""

import inspect
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.md.logger import MDLogger
from ase_dynamics import FS
from conftest import make_card, make_operator
from openmm_systems import simulate

from ase_atom import (
    ATOMBussi,
    ATOMCalculator,
    ATOMLangevin,
    ATOMVerlet,
    Langevin,
    PhaseState,
    propagate_replicas,
)
from ase_atom.molecules.coverage import CoverageWarning
from ase_atom.propagation import NVE, reservations

LOW, HIGH = 200.0, 400.0


@pytest.fixture(scope="module")
def general():
    """An operator for molecules in general that has seen ethanol alone, and moves little."""
    operator = make_operator(strength=0.003)
    operator.card = make_card(largest_molecule=12, temperature_range_K=(LOW, HIGH))
    return operator


def moving(atoms: Atoms, temperature: float, seed: int = 0) -> Atoms:
    """Return atoms of exactly this temperature."""
    noise = np.random.default_rng(seed).standard_normal((len(atoms), 3))
    atoms.set_momenta(noise * np.sqrt(atoms.get_masses()[:, None]))
    state = PhaseState.from_atoms(atoms)
    found = float(NVE().temperature(state)[0])
    atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / max(found, 1e-30)))
    return atoms


def said_by(go: Callable) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        go()
    return [each for each in caught if issubclass(each.category, CoverageWarning)]


def check(caught: list[warnings.WarningMessage], go: Callable, *messages: str) -> None:
    """The warnings, in any order, all at a line of the function."""
    assert sorted(any(m in str(each.message) for m in messages) for each in caught) == [
        True for _ in messages
    ], [str(each.message) for each in caught]
    lines, start = inspect.getsourcelines(go)
    for each in caught:
        assert each.filename == __file__
        assert start <= each.lineno < start + len(lines)


STRANGE = "is not among the 1 molecules that tiny was trained on"


@pytest.mark.parametrize(
    "settings",
    [
        (ATOMVerlet, {}),
        (ATOMLangevin, {"temperature_K": 300, "friction": 0.01 / FS, "seed": 1}),
        (ATOMBussi, {"temperature_K": 300, "taut": 100 * FS, "seed": 1}),
    ],
    ids=["ATOMVerlet", "ATOMLangevin", "ATOMBussi"],
)
def test_a_molecule_that_was_not_trained_for(general, settings):
    kind, options = settings
    atoms = moving(molecule("CH3OH"), 300.0)

    def script() -> None:
        atoms.calc = ATOMCalculator(general)
        dynamics = kind(atoms, FS, stride=8 * FS, energy_correction=False, **options)
        dynamics.attach(MDLogger(dynamics, atoms, "-"), interval=4)  # evaluates the calculator
        dynamics.run(8)
        dynamics.run(8)
        atoms.get_forces()

    check(said_by(script), script, STRANGE)


def test_the_calculator_alone_says_it_once_a_molecule(general):
    def script() -> None:
        calc = ATOMCalculator(general)
        for name in ("CH3OH", "H2O", "CH3OH"):
            for shift in (0.0, 0.01):
                atoms = molecule(name)
                atoms.positions[0, 0] += shift
                atoms.calc = calc
                atoms.get_potential_energy()
                atoms.get_forces()

    check(said_by(script), script, STRANGE, STRANGE)


def test_replicas_say_it_once_for_all(general):
    replicas = [moving(molecule("CH3OH"), 300.0, seed) for seed in range(4)]

    def script() -> None:
        propagate_replicas(
            replicas, FS, 8, operator=general, stride=8 * FS, energy_correction=False
        )

    check(said_by(script), script, STRANGE)


def test_openmm_says_it_once(general):
    atoms = molecule("CH3OH")
    velocities = moving(atoms.copy(), 300.0).get_velocities() * units.fs

    def script() -> None:
        simulation = simulate(
            atoms, general, stride=8.0, energy_correction=False, velocities=velocities
        )
        simulation.step(40)

    (said,) = [each for each in said_by(script) if STRANGE in str(each.message)]
    assert said.filename.endswith(("test_warnings.py", "openmm_systems.py"))


def test_nothing_is_said_of_what_was_trained_for(ethanol, general):
    def script() -> None:
        ethanol.calc = ATOMCalculator(general)
        moving(ethanol, 300.0)
        ATOMVerlet(ethanol, FS, stride=8 * FS, energy_correction=False).run(8)
        ethanol.get_forces()
        dynamics = ATOMLangevin(
            ethanol, FS, temperature_K=300, friction=0.01, energy_correction=False, seed=1
        )
        dynamics.set_temperature(350)

    assert not said_by(script)


def test_the_thermostat_s_temperature(ethanol, general):
    moving(ethanol, 300.0)

    def script() -> None:
        dynamics = ATOMLangevin(
            ethanol, FS, temperature_K=900, friction=0.01, operator=general,
            energy_correction=False, seed=1,
        )  # fmt: skip
        dynamics.set_temperature(150)
        dynamics.set_temperature(300)
        dynamics.run(8)

    check(said_by(script), script, "900 K is outside the range", "150 K is outside the range")


@pytest.mark.parametrize(("temperature", "warns"), [(1200, True), (20, True), (450, False)])
def test_the_temperature_of_the_first_momenta(ethanol, general, temperature, warns):
    """Beyond what chance makes of a temperature at the edge; of cold only without a thermostat."""
    moving(ethanol, temperature)

    def script() -> None:
        ATOMVerlet(ethanol, FS, operator=general, energy_correction=False)

    message = f"the molecule starts with velocities of {temperature} K, outside the range 200 to"
    check(said_by(script), script, *[message] * warns)

    def thermostatted() -> None:
        propagate_replicas(
            [ethanol], FS, 16, operator=general, energy_correction=False, temperature_K=300,
            friction=0.01, seed=1,
        )  # fmt: skip

    check(said_by(thermostatted), thermostatted, *[message] * (temperature > HIGH and warns))


def test_chance_alone_warns_seldom(ethanol, general):
    """Of Maxwell-Boltzmann velocities in the middle of the range hardly any, far outside most."""

    def share(temperature: float, count: int = 400) -> float:
        rng = np.random.default_rng(0)
        warned = 0
        for _ in range(count):
            noise = rng.standard_normal((9, 3))
            scale = np.sqrt(ethanol.get_masses()[:, None] * units.kB * temperature)
            ethanol.set_momenta(noise * scale)
            start = PhaseState.from_atoms(ethanol)
            warned += bool(reservations(general.card, ensemble=NVE(), start=start))
        return warned / count

    assert share(300.0) < 0.02
    assert share(HIGH) < 0.1
    assert share(1200.0) > 0.9
    assert share(40.0) > 0.9


def test_one_hot_replica_among_many_is_found(ethanol, general):
    states = [PhaseState.from_atoms(moving(ethanol.copy(), 300.0, seed)) for seed in range(32)]
    batch = PhaseState.cat(states)
    assert not reservations(general.card, ensemble=Langevin(300.0, 0.01), start=batch)
    states[7] = PhaseState.from_atoms(moving(ethanol.copy(), 1500.0))
    (line,) = reservations(
        general.card, ensemble=Langevin(300.0, 0.01), start=PhaseState.cat(states)
    )
    assert line.startswith("molecule 7 starts with velocities of 1500 K")
