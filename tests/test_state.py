"""PhaseState: conversions, padding, and observables against ASE's."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ase_atom.errors import StateError
from ase_atom.state import PhaseState


@pytest.fixture
def moving():
    """Ethanol, water and helium with velocities, for a padded batch."""
    rng = np.random.default_rng(3)
    batch = [molecule("CH3CH2OH"), molecule("H2O"), Atoms("He", positions=[[1.0, 2.0, 3.0]])]
    for atoms in batch:
        atoms.set_velocities(rng.normal(scale=0.1, size=(len(atoms), 3)))
    return batch


def test_round_trip(moving):
    state = PhaseState.from_atoms(moving)
    assert state.numbers.shape == (3, 9)
    assert state.num_atoms.tolist() == [9, 3, 1]
    assert state.dtype == torch.float64
    for before, after in zip(moving, state.to_atoms(), strict=True):
        np.testing.assert_array_equal(after.numbers, before.numbers)
        np.testing.assert_array_equal(after.positions, before.positions)
        np.testing.assert_allclose(after.get_velocities(), before.get_velocities(), rtol=1e-14)
        np.testing.assert_array_equal(after.get_masses(), before.get_masses())


def test_one_molecule_is_a_batch_of_one(moving):
    state = PhaseState.from_atoms(moving[0])
    assert state.batch_size == 1
    assert bool(state.mask.all())


def test_own_masses_survive():
    atoms = molecule("H2O")
    atoms.set_masses([15.999, 2.014, 1.008])
    after = PhaseState.from_atoms(atoms).to_atoms()[0]
    np.testing.assert_allclose(after.get_masses(), [15.999, 2.014, 1.008])


def test_observables_agree_with_ase_and_ignore_padding(moving):
    state = PhaseState.from_atoms(moving)
    x_cm, _ = state.center_of_mass()
    for row, atoms in enumerate(moving):
        dof = 3 * len(atoms)
        assert float(state.kinetic_energy()[row]) == pytest.approx(atoms.get_kinetic_energy())
        assert float(state.temperature(dof)[row]) == pytest.approx(atoms.get_temperature())
        np.testing.assert_allclose(x_cm[row], atoms.get_center_of_mass(), atol=1e-12)
        # ASE's momenta are in amu Å / (its time); as velocities they convert by its femtosecond.
        from ase import units

        np.testing.assert_allclose(
            state.linear_momentum()[row], atoms.get_momenta().sum(axis=0) * units.fs, atol=1e-12
        )
        np.testing.assert_allclose(
            state.angular_momentum()[row], atoms.get_angular_momentum() * units.fs, atol=1e-12
        )


def test_without_drift(moving):
    state = PhaseState.from_atoms(moving).without_drift()
    assert float(state.linear_momentum().abs().max()) < 1e-14
    assert float(state.velocities[~state.mask].abs().max()) == 0.0


def test_cat_repeat_and_select(moving):
    small, large = PhaseState.from_atoms(moving[1]), PhaseState.from_atoms(moving[0])
    joined = PhaseState.cat([small.repeat(2), large])
    assert joined.numbers.shape == (3, 9)
    assert joined.num_atoms.tolist() == [3, 3, 9]
    picked = joined.select(torch.tensor([False, True, False]))
    np.testing.assert_array_equal(picked.to_atoms()[0].positions, moving[1].positions)


def test_precision_changes_all_but_numbers(moving):
    state = PhaseState.from_atoms(moving).to(torch.float32)
    assert state.masses.dtype == state.positions.dtype == state.velocities.dtype == torch.float32
    assert state.numbers.dtype == torch.int64


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("numbers", torch.ones(9, dtype=torch.int64), "batch, atoms"),
        ("numbers", torch.ones(1, 9), "int64"),
        ("masses", torch.ones(1, 8, dtype=torch.float64), r"masses must be \[1, 9\]"),
        ("positions", torch.ones(1, 9, 2, dtype=torch.float64), r"\[1, 9, 3\]"),
        ("velocities", torch.ones(1, 9, 3), "floating-point type"),
    ],
)
def test_inconsistent_fields_are_refused(moving, field, value, message):
    state = PhaseState.from_atoms(moving[0])
    with pytest.raises(StateError, match=message):
        state.replace(**{field: value})


def test_no_atoms_and_no_elements_are_refused():
    with pytest.raises(StateError, match="at least one"):
        PhaseState.from_atoms(Atoms())
    with pytest.raises(StateError, match="atomic number 0"):
        PhaseState.from_atoms(Atoms("HX", positions=[[0, 0, 0], [0, 0, 1]]))
    with pytest.raises(StateError, match="no state"):
        PhaseState.cat([])
