"""Molecules of three and four atoms, which a general operator forgets first, stay at 300 K."""

from __future__ import annotations

import numpy as np
import pytest

from ase_atom import PhaseState, load_operator
from ase_atom.analysis.molecule.minima import modes_at
from ase_atom.propagation import NVE, Langevin, Propagator
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
    modes, state = modes_at(minimum), started(operator, minimum, REPLICAS)
    propagator = Propagator(operator, state, NVE(), stride=16.0)
    kelvin = np.array([temperatures(modes, propagator.state) for _ in propagator.run(4800.0)])
    early, late = (np.median(part.mean(0), axis=0) for part in np.array_split(kelvin, 2))
    assert np.all(late > early / 3)
    assert np.all(late < early * 3)


@pytest.mark.parametrize(("smiles", "middle", "most"), [("O=S=O", 1e-3, 1e-2), ("CO", 2e-4, 5e-4)])
def test_a_step_at_constant_energy_retraces_its_path(
    smiles: str, middle: float, most: float
) -> None:
    """Also of sulfur dioxide, which no training saw: its corrections settle slowly."""
    operator = load_operator("organic-wb97m", engine="auto")
    state = started(operator, minimum_of(operator, smiles), 32)

    def stepped(start: PhaseState) -> PhaseState:
        march = Propagator(operator, start, NVE(), stride=16.0)
        for _ in march.run(16.0):
            pass
        return march.state.replace(velocities=-march.state.velocities)

    weights = state.masses[..., None].sqrt()
    missed = weights * (stepped(stepped(state)).velocities - state.velocities)
    relative = missed.flatten(1).norm(dim=1) / (weights * state.velocities).flatten(1).norm(dim=1)
    assert float(relative.median()) < middle
    assert float(relative.quantile(0.9)) < most
