"""Molecules of three and four atoms, which a general operator forgets first, stay at 300 K."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ase_atom import PhaseState, load_operator
from ase_atom.analysis.molecule.minima import modes_at
from ase_atom.propagation import NVE, CachedPotential, Langevin, Propagator, Step, torch_noise
from ase_atom.propagation.steps import advance
from ase_atom.units import KB
from benchmarks.mode_temperatures import minimum_of, started, temperatures

REPLICAS, DURATION, FRICTION = 8, 1600.0, 0.01


@pytest.mark.parametrize("smiles", ["O", "N", "C#N", "O=C=O", "C=O"])
def test_the_general_operator_keeps_it_whole_and_at_the_temperature(smiles: str) -> None:
    operator = load_operator("organic-wb97m", engine="auto")
    state = started(operator, minimum_of(operator, smiles), REPLICAS)
    propagator = Propagator(operator, state, Langevin(300.0, FRICTION), stride=16.0, seed=2)
    # A bond that breaks raises an error.
    found = [float(propagator.state.kinetic_energy().mean()) for _ in propagator.run(DURATION)]
    degrees = 3 * int(state.num_atoms[0]) - 3
    temperature = 2 * np.mean(found) / (degrees * KB)
    # Kinetic energies forget themselves within 1/friction or sooner.
    error = 300.0 * np.sqrt(2 / degrees / (REPLICAS * DURATION * FRICTION))
    assert abs(temperature - 300.0) < 5 + 4 * error


def test_no_vibration_gathers_the_energy_of_others_at_constant_energy() -> None:
    operator = load_operator("organic-wb97m", engine="auto")
    minimum = minimum_of(operator, "C=O")
    modes, state = modes_at(minimum), started(operator, minimum, 4)
    propagator = Propagator(operator, state, NVE(), stride=16.0)
    # By jumps that are not reversible a bond breaks within 2 ps.
    kelvin = np.array([temperatures(modes, propagator.state) for _ in propagator.run(3200.0)])
    early, late = (np.median(part.mean(0), axis=0) for part in np.array_split(kelvin, 2))
    assert np.all(late > early / 3)
    assert np.all(late < early * 3)


@pytest.mark.parametrize("number", [0, 1])
def test_a_step_at_constant_energy_retraces_its_path(number: int) -> None:
    """Also of sulfur dioxide, which no training saw: its corrections settle slowly.

    One of the two steps ends with the adjoint, and the other begins with it.
    """
    operator = load_operator("organic-wb97m", engine="auto")
    state = started(operator, minimum_of(operator, "O=S=O"), 32)
    stride = torch.tensor([16.0], dtype=torch.float64)

    def stepped(start: PhaseState) -> PhaseState:
        step = Step(16.0, torch_noise(0), CachedPotential(operator.energy), number)
        x, v = advance(operator, NVE(), start, stride, step)
        return start.replace(positions=x[:, -1], velocities=-v[:, -1])

    weights = state.masses[..., None].sqrt()
    missed = weights * (stepped(stepped(state)).velocities - state.velocities)
    relative = missed.flatten(1).norm(dim=1) / (weights * state.velocities).flatten(1).norm(dim=1)
    assert float(relative.median()) < 2e-3
    assert float(relative.quantile(0.9)) < 2e-2
