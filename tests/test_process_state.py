"""What a process has set for torch changes no result, and no entry point changes what it has set.

Every public way into the package goes through both tests.
"""

from __future__ import annotations

import random
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read
from ase_dynamics import FS, thermal
from conftest import ETHANOL, make_operator
from openmm import Context, Platform, VerletIntegrator, unit
from openmm_systems import bare_system
from rdkit import rdBase

from ase_atom import (
    ATOMBussi,
    ATOMCalculator,
    ATOMForce,
    ATOMIntegrator,
    ATOMLangevin,
    ATOMVerlet,
    Langevin,
    PhaseState,
    Propagator,
    load_operator,
    propagate_replicas,
)
from ase_atom.errors import AtomError
from ase_atom.io import openmm_topology
from ase_atom.propagation import sample_velocities

COLD = {"temperature_K": 1.0, "seed": 4}


def cold(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms = thermal(atoms.copy(), seed)
    atoms.set_momenta(0.05 * atoms.get_momenta())
    return atoms


def _calculator(atoms: Atoms, operator, precision: str) -> list[np.ndarray]:
    atoms.calc = ATOMCalculator(operator, precision=precision)
    energy = atoms.get_potential_energy()
    return [np.array(energy), atoms.get_forces()]


def _paths(atoms: Atoms, operator) -> list[np.ndarray]:
    return [a.positions for a in ATOMCalculator(operator).propagate(atoms, [FS, 20 * FS])]


def _dynamics(atoms: Atoms, operator, kind, **settings) -> list[np.ndarray]:
    atoms.calc = ATOMCalculator(operator)
    dynamics = kind(atoms, FS, stride=8 * FS, energy_correction=False, **settings)
    dynamics.attach(lambda: None, interval=5)  # so that energies are evaluated, too
    dynamics.run(12)
    return [atoms.positions, atoms.get_momenta(), np.array(dynamics.get_temperature())]


def _corrected(atoms: Atoms, operator) -> list[np.ndarray]:
    dynamics = ATOMVerlet(atoms, FS, operator=operator, stride=8 * FS)
    dynamics.run(16)
    return [atoms.positions, atoms.get_momenta()]


def _replicas(atoms: Atoms, operator) -> list[np.ndarray]:
    replicas = [cold(atoms, seed) for seed in range(2)]
    propagate_replicas(
        replicas, FS, 16, stride=8 * FS, operator=operator, friction=0.01 / FS,
        energy_correction=False, **COLD,
    )  # fmt: skip
    return [each.positions for each in replicas]


def _propagator(atoms: Atoms, operator) -> list[np.ndarray]:
    operator = operator if callable(operator) else load_operator(operator)
    state = sample_velocities(
        PhaseState.from_atoms(atoms).repeat(2), 1.0, torch.Generator("cpu").manual_seed(1)
    )
    march = Propagator(operator, state, Langevin(1.0, 0.01), 8.0, 2.0, seed=3)
    frames = list(march.run(16.0))
    return [each.positions.numpy() for each in frames]


def _operator(atoms: Atoms, operator) -> list[np.ndarray]:
    operator = operator if callable(operator) else load_operator(operator)
    state = PhaseState.from_atoms(atoms)
    positions, velocities = operator(state, [1.0, 20.0])
    energy, forces = operator.energy_and_forces(state)
    found = [positions, velocities, operator.energy(state), energy, forces]
    return [each.detach().numpy() for each in found]


def _openmm_moves(atoms: Atoms, operator) -> list[np.ndarray]:
    topology = openmm_topology(atoms)
    system = bare_system(topology)
    integrator = ATOMIntegrator(
        system, topology, operator, 0.001, stride=0.008, temperature=1.0, friction=10.0,
        energy_correction=False,
    )  # fmt: skip
    integrator.setRandomNumberSeed(5)
    return _state(system, integrator, atoms, 12)


def _openmm_force(atoms: Atoms, operator) -> list[np.ndarray]:
    topology = openmm_topology(atoms)
    system = bare_system(topology)
    system.addForce(ATOMForce(operator, topology))
    return _state(system, VerletIntegrator(0.0001), atoms, 2)


def _state(system, integrator, atoms: Atoms, steps: int) -> list[np.ndarray]:
    context = Context(system, integrator, Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions * unit.angstrom)
    integrator.step(steps)
    state = context.getState(positions=True, velocities=True, energy=True)
    return [
        state.getPositions(asNumpy=True)._value,
        state.getVelocities(asNumpy=True)._value,
        np.array(state.getPotentialEnergy()._value),
    ]


WAYS_IN: dict[str, Callable] = {
    "calculator": lambda atoms, operator: _calculator(atoms, operator, "single"),
    "calculator in double": lambda atoms, operator: _calculator(atoms, operator, "double"),
    "calculator's paths": _paths,
    "ATOMVerlet": lambda atoms, operator: _dynamics(atoms, operator, ATOMVerlet),
    "ATOMLangevin": lambda atoms, operator: _dynamics(
        atoms, operator, ATOMLangevin, friction=0.01 / FS, **COLD
    ),
    "ATOMBussi": lambda atoms, operator: _dynamics(
        atoms, operator, ATOMBussi, taut=20 * FS, **COLD
    ),
    "energy correction": _corrected,
    "replicas": _replicas,
    "propagator": _propagator,
    "operator": _operator,
    "OpenMM integrator": _openmm_moves,
    "OpenMM force": _openmm_force,
    "ATOMIntegrator": _openmm_moves,
    "ATOMForce": _openmm_force,
}


@contextmanager
def _set(setter: Callable, value: object, back: object) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(back)


@contextmanager
def _everything() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(SURROUNDINGS["default float64"]())
        stack.enter_context(SURROUNDINGS["default device meta"]())
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        yield


SURROUNDINGS: dict[str, Callable] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default float64": lambda: _set(torch.set_default_dtype, torch.float64, torch.float32),
    "default bfloat16": lambda: _set(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device meta": lambda: _set(torch.set_default_device, "meta", None),
    "device meta": lambda: torch.device("meta"),
    "short products": lambda: _set(torch.set_float32_matmul_precision, "medium", "highest"),
    "deterministic": lambda: _set(torch.use_deterministic_algorithms, True, False),
    "two threads": lambda: _set(torch.set_num_threads, 2, 1),
    "numpy raises": lambda: np.errstate(all="raise"),
    "several": _everything,
}


MAIN = ("calculator", "operator", "ATOMLangevin")
THOROUGH = (
    "inference_mode",
    "autocast",
    "default float64",
    "default bfloat16",
    "default device meta",
    "short products",
    "several",
)
"""Surroundings under which all ways in are tried; under the others, the main ones."""


@pytest.fixture(scope="module")
def expected(tiny_checkpoint) -> dict[str, dict[str, list[np.ndarray]]]:
    """Results of the operator's file, which the fastest engine evaluates, and of it in torch."""
    operators = {"file": tiny_checkpoint, "torch": load_operator(tiny_checkpoint)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            engine: {name: way(cold(read(ETHANOL)), given) for name, way in WAYS_IN.items()}
            for engine, given in operators.items()
        }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("loaded", ["inside", "before", "there"])
@pytest.mark.parametrize("named", SURROUNDINGS)
def test_results_do_not_depend_on_what_the_process_has_set(
    ethanol, tiny_checkpoint, expected, named, loaded
):
    """With an operator from a file, loaded inside or before, or loaded there and used outside."""
    surroundings = SURROUNDINGS[named]
    operator, right = tiny_checkpoint, expected["file"]
    if loaded != "inside":
        with surroundings() if loaded == "there" else nullcontext():
            operator, right = load_operator(tiny_checkpoint), expected["torch"]
    if loaded == "there":
        surroundings = nullcontext
    for name in WAYS_IN if loaded == "inside" and named in THOROUGH else MAIN:
        with surroundings():
            found = WAYS_IN[name](cold(ethanol), operator)
        for one, other in zip(found, right[name], strict=True):
            assert one.dtype == other.dtype, name
            if (named, name) == ("two threads", "operator"):
                # Called by itself it takes as many threads as there are, and on some processors
                # their products round otherwise.
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(one, other, err_msg=name)


def _all_that_a_process_has() -> dict[str, object]:
    kind, keys, *rest = np.random.get_state()
    return {
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": (kind, keys.tolist(), *rest),
        "Python's generator": random.getstate(),
        "threads": torch.get_num_threads(),
        "default type": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "products": torch.backends.mkldnn.matmul.fp32_precision,
        "RDKit's log": rdBase.LogStatus(),
        "numpy's errors": np.geterr(),
        "warnings": list(warnings.filters),
        "interrupts": signal.getsignal(signal.SIGINT),
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("surroundings", "silent"),
    [
        (nullcontext, False),
        (SURROUNDINGS["several"], True),
        (SURROUNDINGS["short products"], False),
    ],
)
def test_what_the_process_has_set_stays(ethanol, tiny_checkpoint, surroundings, silent):
    log = "rdApp.*" if silent else "rdApp.warning"
    rdBase.DisableLog(log)
    try:
        for name, way in WAYS_IN.items():
            atoms = cold(ethanol)
            with surroundings():
                before = _all_that_a_process_has()
                way(atoms, tiny_checkpoint)
                assert _all_that_a_process_has() == before, name
    finally:
        for each in ("rdApp.error", "rdApp.warning"):
            rdBase.EnableLog(each)


def _stretched(atoms: Atoms) -> Atoms:
    atoms.positions[3] += [3.0, 0.0, 0.0]
    return atoms


def _flying(atoms: Atoms) -> Atoms:
    momenta = atoms.get_momenta()
    momenta[3] = 40.0
    atoms.set_momenta(momenta)
    return atoms


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("spoil", [_stretched, _flying])
def test_it_stays_after_errors_too(ethanol, tiny_checkpoint, spoil):
    refused = 0
    for name, way in WAYS_IN.items():
        atoms = spoil(cold(ethanol))
        with SURROUNDINGS["several"]():
            before = _all_that_a_process_has()
            try:
                way(atoms, tiny_checkpoint)
            except AtomError:
                refused += 1
            assert _all_that_a_process_has() == before, name
    assert refused > 3


def test_code_of_the_caller_s_finds_torch_as_the_caller_set_it(ethanol, tiny_checkpoint):
    """As calculators that set a default type for themselves rely on."""
    seen = []

    class Own:
        def get_potential_energy(self, atoms: Atoms) -> float:
            seen.append(("energy", torch.get_default_dtype(), torch.is_inference_mode_enabled()))
            return float(torch.ones(1).sum())

    atoms = cold(ethanol)
    with SURROUNDINGS["default float64"](), torch.inference_mode():
        dynamics = ATOMVerlet(
            atoms, FS, operator=tiny_checkpoint, stride=8 * FS, energy_correction=Own()
        )
        look = lambda: seen.append(  # noqa: E731
            ("observer", torch.get_default_dtype(), torch.is_inference_mode_enabled())
        )
        dynamics.attach(look, interval=8)
        dynamics.run(16)
        propagate_replicas(
            [cold(ethanol, 2)], FS, 8, stride=8 * FS, operator=tiny_checkpoint,
            energy_correction=Own(),
        )  # fmt: skip
    assert {what for what, *_ in seen} == {"energy", "observer"}
    assert {tuple(rest) for _, *rest in seen} == {(torch.float64, True)}


def test_an_operator_s_gradients_reach_its_weights(ethanol):
    """Inside the package no gradients are recorded unless they are wanted, as in training."""
    operator = make_operator().requires_grad_(True)
    state = PhaseState.from_atoms(ethanol)
    positions, _ = operator(state, torch.tensor([4.0]))
    assert positions.requires_grad
    with torch.no_grad():
        positions, _ = operator(state, torch.tensor([4.0]))
    assert not positions.requires_grad
