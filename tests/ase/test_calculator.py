"""The operator as an ASE calculator: gradients, optimisers, vibrations, paths, refusals."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms, FixCom
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from ase_atom import ATOMCalculator, PhaseState
from ase_atom.errors import CheckpointError, ConfigError, CoverageError, HorizonError


@pytest.fixture
def warm(ethanol) -> Atoms:
    ethanol.rattle(0.03, rng=np.random.RandomState(0))
    ethanol.set_momenta(np.random.default_rng(0).normal(size=(9, 3)) * 0.5)
    return ethanol


@pytest.mark.parametrize(
    ("precision", "step", "error"), [("single", 1e-3, 2e-3), ("double", 1e-4, 1e-6)]
)
def test_forces_are_the_gradient_of_the_energy(warm, precision, step, error):
    warm.calc = ATOMCalculator("ethanol-gfn2", precision=precision)
    forces = warm.get_forces()
    assert (
        np.abs(forces).max() > 1.0
    )  # eV/Å: far from a minimum, so that there is something to test
    for atom, axis in [(0, 0), (2, 1), (3, 2), (8, 0)]:
        energies = []
        for sign in (1, -1):
            moved = warm.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = warm.calc
            energies.append(moved.get_potential_energy())
        assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(
            forces[atom, axis], abs=error
        )
    assert warm.get_potential_energy(force_consistent=True) == warm.get_potential_energy()


def test_the_energy_is_that_of_the_operator_in_any_frame(warm):
    warm.calc = ATOMCalculator("ethanol-gfn2")
    expected, forces = warm.calc.operator.energy_and_forces(PhaseState.from_atoms(warm))
    assert warm.get_potential_energy() == pytest.approx(float(expected[0]), abs=1e-9)
    np.testing.assert_allclose(warm.get_forces(), forces[0].numpy(), atol=1e-9)
    before = warm.get_forces()
    warm.rotate(50, (1, 2, 3))
    warm.positions += [3.0, -2.0, 1.0]
    assert warm.get_potential_energy() == pytest.approx(float(expected[0]), abs=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(warm.get_forces(), axis=1), np.linalg.norm(before, axis=1), atol=1e-4
    )


def test_optimiser_and_vibrations_as_with_any_calculator(warm, tmp_path):
    warm.calc = ATOMCalculator("ethanol-gfn2", precision="double")
    assert BFGS(warm, logfile=None).run(fmax=1e-3, steps=200)
    vibrations = Vibrations(warm, name=str(tmp_path / "vib"))
    vibrations.run()
    frequencies = vibrations.get_frequencies()
    assert np.abs(frequencies[:6]).max() < 60  # translations and rotations
    assert 200 < frequencies[6].real < 350  # torsions
    assert 3500 < frequencies[-1].real < 3800  # O-H stretch
    assert (frequencies[6:].imag == 0).all()


def test_step_by_step_dynamics_on_the_energy_head_conserve_energy(warm):
    warm.calc = ATOMCalculator("ethanol-gfn2")
    start = warm.get_total_energy()
    VelocityVerlet(warm, 0.25 * units.fs).run(80)
    assert warm.get_total_energy() == pytest.approx(start, abs=3e-3)


def test_deuterium_changes_no_energy_but_has_no_path(warm):
    calc = ATOMCalculator("ethanol-gfn2")
    plain = calc.get_potential_energy(warm)
    masses = warm.get_masses()
    masses[3] = 2.014
    warm.set_masses(masses)
    assert calc.get_potential_energy(warm) == plain
    with pytest.raises(CoverageError, match=r"H1 has a mass of 2\.014"):
        calc.propagate(warm, [units.fs])


def test_propagate_gives_the_operator_s_frames(warm):
    calc = ATOMCalculator("ethanol-gfn2")
    warm.info["label"] = "mine"
    times = np.array([0.0, 0.5, 16.0, 40.0])
    frames = calc.propagate(warm, times * units.fs)
    state = PhaseState.from_atoms(warm)
    positions, velocities = calc.operator(state, times)
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.positions, positions[0, index].numpy(), atol=1e-6)
        np.testing.assert_allclose(
            frame.get_velocities() * units.fs, velocities[0, index].numpy(), atol=1e-7
        )
        assert frame.info["label"] == "mine"
        assert frame.calc is None
    np.testing.assert_allclose(frames[0].positions, warm.positions, atol=1e-12)
    with pytest.raises(HorizonError):
        calc.propagate(warm, [100 * units.fs])


def test_propagate_keeps_a_fixed_centre_of_mass(warm):
    calc = ATOMCalculator("ethanol-gfn2")
    still = warm.copy()
    still.set_momenta(still.get_momenta() - still.get_masses()[:, None] * _drift(still))
    expected = calc.propagate(still, [8 * units.fs, 16 * units.fs])
    warm.set_constraint(FixCom())
    found = calc.propagate(warm, [8 * units.fs, 16 * units.fs])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-6)
        np.testing.assert_allclose(one.get_momenta(), other.get_momenta(), atol=1e-6)
        np.testing.assert_allclose(one.get_center_of_mass(), warm.get_center_of_mass(), atol=1e-5)
        assert isinstance(one.constraints[0], FixCom)
    warm.set_constraint(FixAtoms([0]))
    with pytest.raises(CoverageError, match="the constraint FixAtoms cannot be kept"):
        calc.propagate(warm, [units.fs])


def _drift(atoms: Atoms) -> np.ndarray:
    return atoms.get_momenta().sum(0) / atoms.get_masses().sum()


def test_the_shipped_operator_is_found_for_the_molecule(warm):
    calc = ATOMCalculator()
    assert calc.operator is None
    calc.get_potential_energy(warm)
    assert calc.operator.card.name == "ethanol-gfn2"


def test_results_are_kept_while_nothing_that_matters_changes(warm):
    warm.calc = ATOMCalculator("ethanol-gfn2")
    warm.get_forces()
    warm.set_momenta(2 * warm.get_momenta())
    assert not warm.calc.calculation_required(warm, ["energy", "forces"])
    warm.positions[0, 0] += 1e-6
    assert warm.calc.calculation_required(warm, ["energy"])


def _charged(atoms: Atoms) -> Atoms:
    atoms.set_initial_charges([1.0] + [0.0] * 8)
    return atoms


def _periodic(atoms: Atoms) -> Atoms:
    atoms.set_cell([10, 10, 10])
    atoms.pbc = True
    return atoms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda atoms: molecule("CH3SH"), "not trained for element S"),
        (lambda atoms: molecule("CH3OCH3"), "was not trained for COC"),
        (_charged, r"total charge of \+1"),
        (_periodic, "periodic cell"),
    ],
)
def test_what_the_operator_does_not_cover_is_refused(ethanol, change, message):
    with pytest.raises(CoverageError, match=message):
        ATOMCalculator("ethanol-gfn2").get_potential_energy(change(ethanol))


def test_a_molecule_that_changes_under_the_calculator_is_checked_again(warm):
    calc = ATOMCalculator("ethanol-gfn2")
    calc.get_potential_energy(warm)
    with pytest.raises(CoverageError, match="COC"):
        calc.get_potential_energy(molecule("CH3OCH3"))


def test_a_used_calculator_takes_no_isomer_and_no_fragments(warm):
    calc = ATOMCalculator("ethanol-gfn2")
    calc.get_potential_energy(warm)
    ether = molecule("CH3OCH3")
    order = np.argsort(ether.numbers, kind="stable")[::-1]
    isomer = Atoms(
        np.array(warm.numbers),
        ether.positions[order][np.argsort(np.argsort(-warm.numbers, kind="stable"))],
    )
    assert sorted(isomer.numbers) == sorted(ether.numbers)
    with pytest.raises(CoverageError, match=r"not trained for COC|no closed-shell"):
        calc.get_potential_energy(isomer)
    warm.positions[3] += [5.0, 0.0, 0.0]
    with pytest.raises(CoverageError):
        calc.get_potential_energy(warm)


def test_bad_settings():
    with pytest.raises(ConfigError, match="'single' or 'double', not 'half'"):
        ATOMCalculator("ethanol-gfn2", precision="half")
    with pytest.raises(CheckpointError, match="no-such"):
        ATOMCalculator("no-such")


def test_constraints_are_the_optimiser_s_business(warm):
    from ase.constraints import FixAtoms

    warm.set_constraint(FixAtoms([0]))
    warm.calc = ATOMCalculator("ethanol-gfn2")
    place = warm.positions[0].copy()
    BFGS(warm, logfile=None).run(fmax=0.05, steps=20)
    assert (warm.positions[0] == place).all()


def test_results_go_through_a_trajectory_file(warm, tmp_path):
    warm.calc = ATOMCalculator("ethanol-gfn2")
    warm.get_forces()
    warm.write(tmp_path / "t.traj")
    back = read(tmp_path / "t.traj")
    assert back.get_potential_energy() == warm.get_potential_energy()
    np.testing.assert_array_equal(back.get_forces(), warm.get_forces())
