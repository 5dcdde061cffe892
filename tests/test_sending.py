"""One calculator or operator in several threads, and what is sent to other processes."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units

from ase_atom import NVE, ATOMCalculator, ATOMLangevin, PhaseState, Propagator, load_operator
from ase_atom.operator.trunk.graph import weights_of


def energy_and_forces(atoms: Atoms) -> np.ndarray:
    """Both, asked for one after the other."""
    return np.append(atoms.get_forces().ravel(), atoms.get_potential_energy())


def moved(ethanol: Atoms, count: int) -> list[Atoms]:
    frames = [ethanol.copy() for _ in range(count)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.02, seed=seed)
    return frames


def test_threads_may_share_a_calculator(ethanol: Atoms, tiny_checkpoint: Path) -> None:
    """Each gets the numbers of its own atoms."""
    frames = moved(ethanol, 6)
    calculator = ATOMCalculator(tiny_checkpoint)
    for frame in frames:
        frame.calc = calculator
    right = [energy_and_forces(frame) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(energy_and_forces, frames * 20))
    for one, other in zip(found, right * 20, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


def test_threads_may_share_an_operator(ethanol: Atoms, tiny_checkpoint: Path) -> None:
    """Batches of other sizes are other molecules to an engine, which knows those of last time."""
    operator = load_operator(tiny_checkpoint, engine="onnx")
    states = [PhaseState.from_atoms(moved(ethanol, 1 + number % 3)) for number in range(6)]
    right = [operator.energy(state) for state in states]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(operator.energy, states * 30))
    for one, other in zip(found, right * 30, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


KINDS = ("calculator", "atoms", "dynamics", "operator", "engine", "state", "propagator", "frames")


def made(kind: str, ethanol: Atoms, file: Path) -> object:
    """One of what scripts hand to pools, after it has been used."""
    if kind in ("calculator", "atoms", "dynamics"):
        ethanol.calc = ATOMCalculator(file)
        ethanol.get_potential_energy()
        if kind == "dynamics":
            return ATOMLangevin(
                ethanol, 0.5 * units.fs, temperature_K=1, friction=0.01 / units.fs, seed=1
            )
        return ethanol.calc if kind == "calculator" else ethanol
    if kind == "operator":
        return load_operator(file)
    operator = load_operator(file, engine="onnx")
    state = PhaseState.from_atoms(ethanol)
    operator.energy(state)
    if kind in ("propagator", "frames"):
        propagator = Propagator(operator, state, NVE(False, False), 2.0)
        return propagator if kind == "propagator" else next(propagator.run(4.0))
    return operator if kind == "engine" else state


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_to_a_process_keeps_no_file_open(
    ethanol: Atoms, tiny_checkpoint: Path, kind: str
) -> None:
    """A pool that is given many of them ran out of files and hung."""
    sent = made(kind, ethanol, tiny_checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    data = [bytes(ForkingPickler.dumps(sent)) for _ in range(3)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert type(ForkingPickler.loads(data[0])) is type(sent)
    assert type(copy.deepcopy(sent)) is type(pickle.loads(pickle.dumps(sent))) is type(sent)


def test_an_operator_that_was_sent_goes_on_with_its_own_weights(
    ethanol: Atoms, tiny_checkpoint: Path
) -> None:
    """Torch moves tensors that it sends; graphs that are made later read them where they were."""
    operator = load_operator(tiny_checkpoint, engine="onnx")
    state = PhaseState.from_atoms(ethanol)
    expected = load_operator(tiny_checkpoint).energy_and_forces(state)
    operator.energy(state)
    arrays = weights_of(operator.operator.state_dict())
    for name, tensor in operator.operator.state_dict().items():
        assert not np.shares_memory(arrays[name], tensor.numpy())
        ForkingPickler.dumps(tensor)
    found = operator.energy_and_forces(state)
    assert operator.engine == "onnx"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
