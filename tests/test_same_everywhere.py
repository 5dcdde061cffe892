"""One start, one trajectory: through ASE, through OpenMM, and from the command line."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read, write
from conftest import ETHANOL
from openmm_systems import march, phase, simulate

from ase_atom import ATOMCalculator, ATOMPropagator
from ase_atom.cli import main

STEPS = 200  # of 0.5 fs


@pytest.fixture
def start(tmp_path) -> Atoms:
    """Ethanol at about 300 K, as it comes back from a file."""
    atoms = read(ETHANOL)
    noise = np.random.default_rng(2).standard_normal((9, 3))
    atoms.set_momenta(noise * np.sqrt(atoms.get_masses()[:, None] * units.kB * 300))
    write(tmp_path / "start.traj", atoms)
    return read(tmp_path / "start.traj")


def through_ase(atoms: Atoms, operator: str) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = ATOMCalculator(operator)
    dynamics = ATOMPropagator(atoms, 0.5 * units.fs, stride=16 * units.fs, evaluate=False)
    frames = []
    dynamics.attach(lambda: frames.append(atoms.get_positions()), interval=1)
    dynamics.run(STEPS)
    return np.array(frames)


def through_openmm(atoms: Atoms, operator: str) -> np.ndarray:
    velocities = atoms.get_velocities() * units.fs
    simulation = simulate(atoms, operator, stride=16.0, velocities=velocities)
    return np.concatenate([phase(simulation)[None, 0], march(simulation, STEPS)[:, 0]])


def on_the_command_line(folder, operator: str) -> np.ndarray:
    arguments = ["run", folder / "start.traj", "-o", folder / "t.traj", "--ensemble", "nve"]
    arguments += [
        "--time",
        "100fs",
        "--stride",
        "16fs",
        "--frame-interval",
        "0.5fs",
        "--operator",
        operator,
    ]
    assert main([str(argument) for argument in arguments]) == 0
    return np.array([frame.positions for frame in read(folder / "t.traj", ":")])


@pytest.mark.parametrize("operator", ["ethanol-gfn2", "organic-wb97m"])
def test_a_hundred_femtoseconds_of_nve(start, tmp_path, operator):
    ase, openmm_ = through_ase(start, operator), through_openmm(start, operator)
    shell = on_the_command_line(tmp_path, operator)
    assert ase.shape == openmm_.shape == shell.shape == (STEPS + 1, 9, 3)
    assert np.abs(ase[-1] - ase[0]).max() > 0.1  # it has moved
    # Rounding of the start between units grows through the network's single precision.
    assert np.abs(ase - openmm_).max() < 1e-4
    assert np.abs(ase - shell).max() < 1e-4
