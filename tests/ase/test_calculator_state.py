"""A result never outlives what it was computed for, whatever is changed and whoever asks."""

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.md.logger import MDLogger
from ase.optimize import BFGS
from ase_dynamics import FS, record, thermal

from ase_atom import (
    ATOMCalculator,
    ATOMLangevin,
    ATOMPropagator,
    ATOMVerlet,
    propagate_replicas,
)
from ase_atom.errors import AtomError, ConfigError, CoverageError, StateError

NAME = "ethanol-gfn2"


def fresh(atoms: Atoms) -> tuple[float, np.ndarray]:
    again = atoms.copy()
    again.calc = ATOMCalculator(NAME)
    return again.get_potential_energy(), again.get_forces()


@pytest.fixture
def warm(ethanol) -> Atoms:
    ethanol.rattle(0.03, rng=np.random.RandomState(0))
    return ethanol


@pytest.mark.parametrize("first", [["energy"], ["energy", "forces"], ["forces"]])
@pytest.mark.parametrize("then", [["energy"], ["free_energy"], ["forces"]])
def test_results_are_those_of_the_last_geometry(warm, first, then):
    calc, other = ATOMCalculator(NAME), warm.copy()
    other.rattle(0.05, rng=np.random.RandomState(1))
    calc.calculate(warm, first)
    calc.calculate(other, then)
    assert ("forces" in calc.results) == (then == ["forces"])
    other.calc = calc
    energy, forces = fresh(other)
    assert other.get_potential_energy() == energy
    np.testing.assert_array_equal(other.get_forces(), forces)


REFUSED = {
    "charge": (lambda atoms: atoms.info.update(charge=1), r"total charge of \+1"),
    "charge that is none": (lambda atoms: atoms.info.update(charge="?"), "not a number"),
    "spin": (lambda atoms: atoms.info.update(spin=3), r'info\["spin"\] = 3'),
    "multiplicity": (lambda atoms: atoms.info.update(multiplicity=2), r'"multiplicity"\] = 2'),
    "charges": (lambda atoms: atoms.set_initial_charges([1.0] + [0.0] * 8), r"charge of \+1"),
    "moments": (lambda atoms: atoms.set_initial_magnetic_moments([1.0] * 9), "magnetic moments"),
    "cell": (lambda atoms: (atoms.set_cell([9, 9, 9]), atoms.set_pbc(True)), "periodic cell"),
    "one direction": (lambda atoms: atoms.set_pbc([True, False, False]), "periodic cell"),
    "numbers": (lambda atoms: atoms.numbers.__setitem__(2, 16), "element S"),
    "position": (lambda atoms: atoms.positions.__setitem__((0, 0), np.nan), "not finite"),
    "fragments": (lambda atoms: atoms.positions.__setitem__((3, 0), 9.0), "molecules|no closed"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_changes_after_the_first_evaluation_is_seen(warm, change, message):
    warm.calc = ATOMCalculator(NAME)
    energy, before = warm.get_potential_energy(), warm.copy()
    change(warm)
    for _ in range(2):  # a refusal leaves nothing behind that could be taken for an answer
        with pytest.raises(AtomError, match=message):
            warm.get_potential_energy()
        assert not warm.calc.results
    with pytest.raises(AtomError, match=message):
        warm.get_forces()
    assert warm.calc.get_potential_energy(before) == energy


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_a_propagator_sees_the_same(warm, change):
    dynamics = ATOMVerlet(thermal(warm), FS, operator=NAME)
    dynamics.run(3)
    change[0](warm)
    with pytest.raises(AtomError):
        for _ in range(20):
            dynamics.step()


def test_what_changes_no_energy_is_no_reason_to_refuse(warm):
    warm.calc = ATOMCalculator(NAME)
    energy = warm.get_potential_energy()
    warm.info |= {"charge": 0, "spin": 1, "multiplicity": 1, "label": np.arange(3)}
    warm.set_cell([20.0, 20.0, 20.0])
    warm.set_initial_charges([0.1, -0.1] + [0.0] * 7)
    warm.set_tags(range(9))
    assert warm.calc.check_state(warm)
    assert warm.get_potential_energy() == energy
    assert not warm.calc.check_state(warm)


def test_an_interrupted_calculation_leaves_no_results_behind(warm):
    calc = warm.calc = ATOMCalculator(NAME)
    warm.get_forces()
    energy_and_forces = calc.operator.energy_and_forces

    def fail(state):
        raise KeyboardInterrupt

    calc.operator.energy_and_forces = fail
    warm.positions[0, 0] += 0.01
    with pytest.raises(KeyboardInterrupt):
        warm.get_forces()
    assert not calc.results
    calc.operator.energy_and_forces = energy_and_forces
    np.testing.assert_array_equal(warm.get_forces(), fresh(warm)[1])


def test_copies_and_other_processes(warm):
    warm.calc = ATOMCalculator(NAME, precision="double")
    expected = warm.get_forces()
    assert warm.copy().calc is None
    for other in (copy.deepcopy(warm.calc), pickle.loads(pickle.dumps(warm.calc))):
        again = warm.copy()
        again.calc = other
        np.testing.assert_array_equal(again.get_forces(), expected)
        again.positions[0, 0] += 0.1
        again.get_forces()
        assert other.precision == "double"
    assert not warm.calc.check_state(warm)
    found = warm.get_forces()
    found += 1.0  # what a caller does with an answer changes no answer
    np.testing.assert_array_equal(warm.get_forces(), expected)


def test_what_ase_asks_of_calculators(warm):
    calc = ATOMCalculator(NAME)
    with pytest.raises(ConfigError, match="has seen no atoms yet"):
        calc.get_potential_energy()
    warm.calc = calc
    assert calc.get_property("forces", warm, allow_calculation=False) is None
    with pytest.raises(PropertyNotImplementedError):
        warm.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        FrechetCellFilter(warm).get_forces()
    warm.set_constraint(FixAtoms([0, 1]))
    BFGS(warm, logfile=None).run(fmax=0.05, steps=3)
    assert not warm.get_forces()[:2].any()
    assert warm.get_forces(apply_constraint=False)[:2].any()
    calc.reset()
    assert not calc.results
    assert warm.get_potential_energy() == fresh(warm)[0]


# -- frames that carry results of their own --------------------------------------------------------


def _frame(atoms: Atoms) -> Atoms:
    """Return atoms as a file gives them, with the energy and forces of that frame alone."""
    atoms = thermal(atoms.copy())
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((9, 3)))
    return atoms


@pytest.mark.parametrize("correction", [True, False])
def test_a_frame_from_a_file_runs_where_nobody_needs_its_energy(
    ethanol, springs, tmp_path, correction
):
    atoms, plain = _frame(ethanol), thermal(ethanol.copy())
    settings = {"operator": springs, "stride": 8 * FS, "energy_correction": correction}
    dynamics = ATOMVerlet(atoms, FS, trajectory=str(tmp_path / "a.traj"), **settings)
    seen = record(dynamics)
    dynamics.run(20)
    ATOMVerlet(plain, FS, **settings).run(20)
    assert len(seen) == 21
    np.testing.assert_array_equal(atoms.positions, plain.positions)
    ATOMLangevin(
        _frame(ethanol), FS, temperature_K=300, friction=0.01, seed=1, **settings
    ).run(10)  # fmt: skip
    propagate_replicas([_frame(ethanol)], FS, 8, **settings)


def test_a_frame_from_a_file_is_refused_where_energies_are_needed(ethanol, springs, tmp_path):
    atoms = _frame(ethanol)
    log = tmp_path / "log"
    with pytest.raises(ConfigError, match=r"logfile needs energies, .* results of one frame alone"):
        ATOMVerlet(atoms, FS, operator=springs, stride=8 * FS, logfile=str(log))
    assert not log.exists()
    with pytest.raises(ConfigError, match="a calculator that holds the energy of one frame"):
        ATOMVerlet(atoms, FS, operator=springs, energy_correction=atoms.calc)
    with pytest.raises(ConfigError, match="the atoms have SinglePointCalculator"):
        ATOMPropagator(atoms, FS)
    atoms.calc = None
    with pytest.raises(ConfigError, match=r"logfile needs energies, .* no calculator"):
        ATOMVerlet(atoms, FS, operator=springs, stride=8 * FS, logfile=str(log))
    dynamics = ATOMVerlet(_frame(ethanol), FS, operator=springs, stride=8 * FS)
    dynamics.attach(MDLogger(dynamics, dynamics.atoms, str(log)), interval=4)
    with pytest.raises(PropertyNotImplementedError):
        dynamics.run(8)


def test_what_the_atoms_state_may_change_but_not_the_molecule(ethanol, springs):
    atoms = thermal(ethanol)
    dynamics = ATOMVerlet(atoms, FS, operator=springs, stride=8 * FS)
    dynamics.run(3)
    atoms.info["charge"] = 0
    dynamics.run(10)
    atoms.info["charge"] = 1
    with pytest.raises((StateError, CoverageError), match=r"charge has become \+1"):
        dynamics.run(1)


def test_no_energy_that_is_no_number_is_given():
    """Two atoms at one place still look like the molecule."""
    atoms = molecule("C2H6")
    atoms.calc = ATOMCalculator("tg80-gfn2")
    energy = atoms.get_potential_energy()
    moved = atoms.positions[7].copy()
    atoms.positions[7] = atoms.positions[6]
    for ask in (atoms.get_potential_energy, atoms.get_forces):
        with pytest.raises(StateError, match=r"H5 and H6 are 0\.000 Å apart"):
            ask()
        assert atoms.calc.results == {}
    atoms.positions[7] = moved
    assert atoms.get_potential_energy() == energy
