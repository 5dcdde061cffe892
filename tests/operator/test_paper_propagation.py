"""The published architecture through ASE, through OpenMM and by itself: one trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.io import read
from conftest import ETHANOL, make_card
from openmm_systems import march, phase, simulate

from ase_atom import NVE, ATOMCalculator, ATOMPropagator, PhaseState, Propagator, load_operator
from ase_atom.operator import EnergyConfig, PaperConfig, build_operator, save_operator

STRIDE, STEPS = 8.0, 40  # fs; of 0.5 fs


@pytest.fixture(params=["centre_of_mass", "body"])
def operator(request, tmp_path) -> Path:
    """File of a small operator with random weights and a gentle bend."""
    torch.manual_seed(0)
    energy = {"width": 16, "pair_width": 8, "vector_channels": 8, "blocks": 1, "heads": 2}
    model = build_operator(
        PaperConfig(
            elements=(1, 6, 8),
            horizon=32.0,
            segment=16.0,
            width=32,
            heads=2,
            blocks=2,
            timesteps=4,
            anchor=True,
            velocities=True,
            update="path",
            frame=request.param,
            frame_interval=None,
            constant_input=True,
            noise=0.0,
            attention_dropout=0.0,
            dropout=0.0,
            energy=EnergyConfig(**energy, pair_vectors=2, radial_channels=4),
        )
    )
    with torch.no_grad():
        model.heads.maps.vectors.mul_(0.02)
    model.card = make_card(stride_fs=STRIDE)
    save_operator(model, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.fixture
def start() -> Atoms:
    atoms = read(ETHANOL)
    noise = np.random.default_rng(2).standard_normal((9, 3))
    atoms.set_momenta(noise * np.sqrt(atoms.get_masses()[:, None] * units.kB * 100))
    return atoms


def test_the_same_path_everywhere(operator, start):
    state = PhaseState.from_atoms(start)
    marching = Propagator(load_operator(operator), state, NVE(False, True), STRIDE, 0.5)
    alone = np.concatenate([f.positions[0].numpy() for f in marching.run(STEPS * 0.5)])

    atoms = start.copy()
    atoms.calc = ATOMCalculator(operator)
    dynamics = ATOMPropagator(
        atoms,
        0.5 * units.fs,
        stride=STRIDE * units.fs,
        evaluate=False,
        energy_correction=False,
    )
    frames = []
    dynamics.attach(lambda: frames.append(atoms.get_positions()), interval=1)
    dynamics.run(STEPS)

    velocities = start.get_velocities() * units.fs
    simulation = simulate(
        start, str(operator), stride=STRIDE, velocities=velocities, energy_correction=False
    )
    openmm_ = np.concatenate([phase(simulation)[None, 0], march(simulation, STEPS)[:, 0]])

    assert alone.shape == openmm_.shape == np.shape(frames) == (STEPS + 1, 9, 3)
    bend = alone[-1] - alone[0] - STEPS * 0.5 * velocities
    assert np.abs(bend).max() > 0.01
    assert np.abs(alone - np.array(frames)).max() < 1e-4
    assert np.abs(alone - openmm_).max() < 1e-4
