"""Molecules of three and four atoms, which a general operator forgets first, stay at 300 K."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ase_atom import PhaseState, load_operator
from ase_atom.analysis.molecule.harmonic import NormalModes
from ase_atom.analysis.molecule.minima import HeadCalculator, modes_at, relax
from ase_atom.ase.conformer import from_smiles
from ase_atom.operator import OperatorLike
from ase_atom.propagation import NVE, Langevin, Propagator, equilibrate, sample_velocities
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

REPLICAS, DURATION, FRICTION = 8, 1600.0, 0.01


@pytest.mark.parametrize("smiles", ["O", "N", "C#N", "O=C=O", "C=O"])
def test_the_general_operator_keeps_it_whole_and_at_the_temperature(smiles: str) -> None:
    operator = load_operator("organic-wb97m", engine="auto")
    state = PhaseState.from_atoms(from_smiles(smiles, 0)).repeat(REPLICAS)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(0))
    state = equilibrate(operator, state, 300.0, duration=640.0, seed=1).state
    propagator = Propagator(operator, state, Langevin(300.0, FRICTION), stride=16.0, seed=2)
    # A bond that breaks raises an error.
    found = [float(propagator.state.kinetic_energy().mean()) for _ in propagator.run(DURATION)]
    degrees = 3 * int(state.num_atoms[0]) - 3
    temperature = 2 * np.mean(found) / (degrees * KB)
    # Kinetic energies forget themselves within 1/friction or sooner.
    error = 300.0 * np.sqrt(2 / degrees / (REPLICAS * DURATION * FRICTION))
    assert abs(temperature - 300.0) < 5 + 4 * error


def test_no_vibration_gathers_the_energy_of_others_at_constant_energy() -> None:
    smiles = "C=O"
    operator = load_operator("organic-wb97m", engine="auto")
    modes = _modes(operator, smiles)
    state = PhaseState.from_atoms(from_smiles(smiles, 0)).repeat(REPLICAS)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(0))
    state = equilibrate(operator, state, 300.0, duration=640.0, seed=1).state
    propagator = Propagator(operator, state, NVE(), stride=16.0)
    kelvin = np.array([_mode_temperatures(modes, propagator.state) for _ in propagator.run(4800.0)])
    early, late = (np.median(part.mean(0), axis=0) for part in np.split(kelvin[1:], 2))
    assert np.all(late > early / 3)
    assert np.all(late < early * 3)


def _modes(operator: OperatorLike, smiles: str) -> NormalModes:
    minimum = relax(from_smiles(smiles, 0), HeadCalculator(operator))
    assert minimum is not None
    return modes_at(minimum)


def _mode_temperatures(modes: NormalModes, state: PhaseState) -> np.ndarray:
    """Kinetic temperature of each normal mode and replica in K, ``[B, M]``."""
    x, v = state.positions.double().numpy(), state.velocities.double().numpy()
    fractions = modes.masses / modes.masses.sum()
    x, v = (side - np.einsum("n,bnd->bd", fractions, side)[:, None] for side in (x, v))
    turned = [Rotation.align_vectors(modes.positions, one, modes.masses)[0] for one in x]
    x, v = (
        np.stack([turn.apply(one) for turn, one in zip(turned, side, strict=True)])
        for side in (x, v)
    )
    _, internal, _ = modes.in_eckart_frame(x, v)
    speeds = (internal * np.sqrt(modes.masses)[:, None]).reshape(len(x), -1) @ modes.vectors
    return speeds**2 * AMU_A2_FS2_IN_EV / KB
