"""What shipped leaps do: bonds, energies and torsions of ethanol, and a molecule that is new."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule

from ase_atom import PhaseState, load_operator
from ase_atom.ase.conformer import from_smiles
from ase_atom.errors import CoverageError
from ase_atom.propagation import Langevin, Propagator, equilibrate, sample_velocities
from ase_atom.units import KB

TRANS = {"ethanol-gfn2": 0.05, "ethanol-wb97m": 0.31}
"""Population in runs of the operators."""


@pytest.fixture(scope="module", params=TRANS)
def leapt(request):
    """Propagator after two leaps of 4 ps of 32 replicas, all from the trans conformer."""
    operator = load_operator(request.param, engine="auto")
    state = PhaseState.from_atoms(molecule("CH3CH2OH")).repeat(32)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(0))
    state = equilibrate(operator, state, 300.0, duration=320.0, seed=1).state
    propagator = Propagator(operator, state, Langevin(300.0, 0.01), stride=4000.0, seed=2)
    for _ in propagator.run(8000.0):
        pass
    return propagator


def test_few_samples_are_drawn_again(leapt):
    assert leapt.leaping.tally.kept == 64
    assert leapt.leaping.tally.drawn_again <= 2


def test_energies_are_thermal(leapt):
    tally = leapt.leaping.tally
    # Of harmonic vibrations, up to what the two conformers and anharmonicity add.
    spread = KB * 300.0 * np.sqrt(21 / 2 / 64)
    assert abs(tally.settled - tally.expected) / 64 < 0.03 + 4 * spread
    assert abs(tally.raw - tally.settled) / 64 < 0.05


def test_bonds_have_their_lengths(leapt):
    x = leapt.state.positions.numpy()
    for (i, j), length in {(0, 1): 1.530, (1, 2): 1.417, (2, 3): 0.968}.items():
        found = np.linalg.norm(x[:, i] - x[:, j], axis=1)
        assert found.mean() == pytest.approx(length, abs=4 * 0.032 / np.sqrt(32) + 0.005)
        assert 0.01 < found.std() < 0.06


def test_the_hydroxyl_group_has_turned(leapt):
    angles = [atoms.get_dihedral(0, 1, 2, 3) for atoms in leapt.state.to_atoms()]
    trans, expected = sum(120 < angle < 240 for angle in angles), TRANS[leapt.operator.card.name]
    # 32 samples, and what the first leap remembers of the start.
    assert abs(trans / 32 - expected) < 0.1 + 3 * np.sqrt(expected * (1 - expected) / 32)
    sides = [angle < 180 for angle in angles if not 120 < angle < 240]
    assert 0 < sum(sides) < len(sides)


def test_leaps_of_a_molecule_that_they_never_saw_are_molecules_and_turn():
    operator = load_operator("organic-wb97m", engine="auto")
    atoms = from_smiles("CCCN", 0)
    state = PhaseState.from_atoms(atoms).repeat(16)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(0))
    state = equilibrate(operator, state, 300.0, duration=640.0, seed=1).state
    propagator = Propagator(operator, state, Langevin(300.0, 0.01), stride=4000.0, seed=2)
    for _ in propagator.run(8000.0):
        pass
    tally = propagator.leaping.tally
    assert tally.kept == 32
    assert tally.drawn_again <= 3
    # Of harmonic vibrations, and what conformers and anharmonicity add.
    spread = KB * 300.0 * np.sqrt(33 / 2 / 32)
    assert abs(tally.settled - tally.expected) / 32 < 0.08 + 4 * spread
    x = propagator.state.positions.numpy()
    for i, j in ((0, 1), (1, 2), (2, 3)):
        before = np.linalg.norm(atoms.positions[i] - atoms.positions[j])
        assert np.linalg.norm(x[:, i] - x[:, j], axis=1).mean() == pytest.approx(before, abs=0.04)
    angles = np.array([each.get_dihedral(0, 1, 2, 3) for each in propagator.state.to_atoms()])
    assert len(set((angles // 120).tolist())) > 1


def test_leaps_that_learned_from_neutral_molecules_are_not_for_ions():
    operator = load_operator("organic-wb97m")
    assert operator.leaps.card.charges == [0]
    state = PhaseState.from_atoms(from_smiles("CC(=O)[O-]", 0))
    with pytest.raises(CoverageError, match=r"molecules of charge 0, and CC\(=O\)\[O-\] has -1"):
        Propagator(operator, state, Langevin(300.0, 0.01), stride=4000.0)


def test_leaps_are_not_for_molecules_larger_than_those_they_learned_from():
    operator = load_operator("organic-wb97m")
    state = PhaseState.from_atoms(from_smiles("CCCCCC", 0))
    with pytest.raises(CoverageError, match="leaps are for molecules of up to 14 atoms"):
        Propagator(operator, state, Langevin(300.0, 0.01), stride=4000.0)
