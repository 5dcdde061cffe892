"""Equilibration: every kind of motion at the temperature, wherever the molecules were."""

import warnings

import numpy as np
import pytest
import torch
from ase import units
from springs import SpringOperator

from ase_atom import ATOMBussi, ATOMCalculator, ATOMLangevin
from ase_atom import equilibrate as equilibrate_atoms
from ase_atom.analysis.summary import RunSummary
from ase_atom.errors import BrokenStateError
from ase_atom.operator import load_operator
from ase_atom.propagation import Bussi, Guard, Propagator, equilibrate, sample_velocities
from ase_atom.state import PhaseState
from ase_atom.units import KB

KELVIN = 300.0


def from_rest(atoms, replicas: int) -> PhaseState:
    state = PhaseState.from_atoms(atoms).repeat(replicas)
    return sample_velocities(state, KELVIN, torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("turning_springs")
def test_potential_and_kinetic_energy_come_to_the_temperature(springs, ethanol):
    replicas = 400
    found = equilibrate(springs, from_rest(ethanol, replicas), KELVIN, seed=2)
    assert not found.broken
    expected = 0.5 * 24 * KB * KELVIN
    error = expected * np.sqrt(2 / 24 / replicas)
    assert float(springs.energy(found.state).mean()) == pytest.approx(expected, abs=4 * error)
    assert float(found.state.kinetic_energy().mean()) == pytest.approx(expected, abs=4 * error)


def test_bussi_needs_it(ethanol):
    """Scaling all velocities leaves rotation hot and vibration cold, at the right total."""
    operator = load_operator("ethanol-gfn2")
    start = from_rest(ethanol, 20)
    ensemble = Bussi(KELVIN, 100.0, reversible=False)
    parts = {}
    for name in ("as drawn", "equilibrated"):
        state = start if name == "as drawn" else equilibrate(operator, start, KELVIN, seed=3).state
        summary = RunSummary(start, ensemble)
        for frames in Propagator(operator, state, ensemble, 16.0, seed=4).run(800.0):
            summary.add(frames)
        (molecule,) = summary.molecules
        assert molecule.temperature.value == pytest.approx(KELVIN, abs=45.0)
        assert list(molecule.parts) == ["vibration", "rotation"]
        parts[name] = {part: found.value for part, found in molecule.parts.items()}
        assert molecule.parts_differ == (name == "as drawn")
    assert parts["as drawn"]["rotation"] > 1.6 * parts["as drawn"]["vibration"]


def test_what_breaks_is_told_and_the_others_go_on(springs, ethanol):
    state = from_rest(ethanol, 3)
    velocities = state.velocities.clone()
    velocities[1, 3] += 3.0
    torn = state.replace(velocities=velocities)
    found = equilibrate(springs, torn, KELVIN, duration=160.0, stride=4.0, seed=5)
    assert [error.replica for error in found.broken] == [1]
    whole = equilibrate(springs, state, KELVIN, duration=160.0, stride=4.0, seed=5)
    for row in (0, 2):
        assert torch.equal(found.state.positions[row], whole.state.positions[row])


@pytest.mark.usefixtures("turning_springs")
def test_all_breaking_is_told_too(ethanol):
    state = from_rest(ethanol, 2)
    wild = SpringOperator(ethanol, heating=1.0)
    assert len(equilibrate(wild, state, KELVIN, seed=5).broken) == 2


def test_the_guard_may_know_another_structure(springs, ethanol):
    """Bonds and their lengths are the given structure's, not those that heat has left."""
    state = PhaseState.from_atoms(ethanol)
    stretched = state.positions.clone()
    stretched[0, 3] += 0.25 * (stretched[0, 3] - stretched[0, 2])
    hot = sample_velocities(
        state.replace(positions=stretched), KELVIN, torch.Generator().manual_seed(1)
    )
    own = Propagator(springs, hot)
    given = Propagator(springs, hot, guard=Guard.watch(state))
    pair = [(2, 3)]
    for one, scale in ((own, 1.25), (given, 1.0)):
        guard = one._guard
        place = [
            (int(i), int(j)) in pair for i, j in zip(guard.first, guard.second, strict=True)
        ].index(True)
        length = float((state.positions[0, 2] - state.positions[0, 3]).norm())
        assert float(guard.upper[0, place]) == pytest.approx(1.5 * scale * length)


# -- in scripts ------------------------------------------------------------------------------------


def test_atoms_are_brought_to_equilibrium_in_place(ethanol):
    ethanol.calc = ATOMCalculator("ethanol-gfn2")
    centre = ethanol.get_center_of_mass()
    potential = ethanol.get_potential_energy()
    energies = []
    for seed in range(12):
        atoms = ethanol.copy()
        atoms.calc = ethanol.calc
        equilibrate_atoms(atoms, KELVIN, duration=320 * units.fs, seed=seed)
        np.testing.assert_allclose(atoms.get_center_of_mass(), centre, atol=1e-3)
        energies.append([atoms.get_potential_energy() - potential, atoms.get_kinetic_energy()])
    expected = 0.5 * KB * KELVIN * np.array([21, 24])
    np.testing.assert_allclose(np.mean(energies, axis=0), expected, rtol=0.35)


def test_the_same_seed_is_the_same_start(ethanol, springs):
    twins = [ethanol.copy(), ethanol.copy()]
    for atoms in twins:
        equilibrate_atoms(atoms, KELVIN, operator=springs, seed=3)
    np.testing.assert_array_equal(twins[0].positions, twins[1].positions)
    np.testing.assert_array_equal(twins[0].get_momenta(), twins[1].get_momenta())


@pytest.mark.usefixtures("turning_springs")
def test_broken_atoms_stay_as_they_were(ethanol):
    before = ethanol.positions.copy()
    with pytest.raises(BrokenStateError):
        equilibrate_atoms(ethanol, KELVIN, operator=SpringOperator(ethanol, heating=1.0), seed=1)
    np.testing.assert_array_equal(ethanol.positions, before)
    assert not ethanol.get_momenta().any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"duration": 0.0}, "the duration must be above 0 fs"),
        ({"duration": 1e-6 * units.fs}, "check its unit"),
        ({"friction": 0.0}, "friction"),
        ({"temperature_K": -1.0}, "temperature"),
        ({"lenght": 1.0}, "duration|lenght"),
        ({"seed": 1, "rng": np.random.default_rng(1)}, "give one of them"),
    ],
)
def test_settings_that_cannot_be_are_refused(ethanol, springs, settings, message):
    words = {"temperature_K": KELVIN, "operator": springs} | settings
    with pytest.raises((ValueError, TypeError), match=message):
        equilibrate_atoms(ethanol, **words)
    assert not ethanol.get_momenta().any()


def test_bussi_from_a_minimum_is_warned_of(ethanol):
    ethanol.calc = ATOMCalculator("ethanol-gfn2")
    settings = {"temperature_K": KELVIN, "taut": 100 * units.fs, "seed": 1}
    ethanol.set_momenta(0.2 * np.random.default_rng(1).normal(size=(9, 3)))
    with pytest.warns(UserWarning, match=r"near a minimum.*ase_atom\.equilibrate"):
        ATOMBussi(ethanol, 0.5 * units.fs, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equilibrate_atoms(ethanol, KELVIN, duration=320 * units.fs, seed=2)
        ATOMBussi(ethanol, 0.5 * units.fs, **settings)
        ATOMLangevin(
            ethanol, 0.5 * units.fs, temperature_K=KELVIN, friction=0.01 / units.fs, seed=1
        )
