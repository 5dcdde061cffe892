"""ONNX Runtime or Numba in torch's place: the same numbers, or torch itself and a word about it."""

from __future__ import annotations

import pickle
import re
import warnings
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import read
from torch import Tensor

from ase_atom.errors import ConfigError, CoverageError, EngineWarning, HorizonError
from ase_atom.operator import (
    OnnxEngine,
    Operator,
    SpectralConfig,
    build_operator,
    load_operator,
)
from ase_atom.operator.engine import choice, runtime, session
from ase_atom.operator.engine.graph import Graph, Value
from ase_atom.operator.engine.runtime import NumbaEngine
from ase_atom.propagation import NVE, Bussi, Langevin, Propagator, jump, sample_velocities
from ase_atom.state import PhaseState

TIMES = torch.tensor([0.0, 2.0, 5.5, 16.0], dtype=torch.float64)
LONG = torch.tensor([40.0, 3.0, 16.0, 16.5, 64.0], dtype=torch.float64)  # of four pieces, unordered
MOLECULES = {
    "ethanol-gfn2": ["CH3CH2OH"],
    "ethanol-pbe": ["CH3CH2OH"],
    "ethanol-wb97m": ["CH3CH2OH"],
    "tg80-gfn2": ["CH3CH2OH", "C6H6", "CH3Cl", "H2O"],
}
SIZES = {
    "width": 24,
    "pair_width": 16,
    "vector_channels": 8,
    "heads": 4,
    "blocks": 2,
    "energy_blocks": 1,
    "pair_vectors": 3,
    "radial_channels": 5,
    "modes": 4,
    "elements": (1, 6, 8, 17),
}

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is an extra")
each_engine = pytest.mark.parametrize(
    "kind", [OnnxEngine, pytest.param(NumbaEngine, marks=needs_numba)], ids=lambda kind: kind.kind
)


def thermal(atoms: Atoms | list[Atoms], replicas: int = 1) -> PhaseState:
    state = PhaseState.from_atoms(atoms).repeat(replicas)
    draw = torch.Generator().manual_seed(1)
    moved = state.positions + 0.05 * torch.randn(state.positions.shape, generator=draw)
    state = sample_velocities(state, 350.0, draw)
    return state.replace(
        positions=(moved + 3.0) * state.mask[..., None],  # anywhere but about the origin
        velocities=(state.velocities + 0.002) * state.mask[..., None],
    )


def operator_of(seed: int = 0, **changes: object) -> Operator:
    torch.manual_seed(seed)
    operator = build_operator(SpectralConfig(**(SIZES | changes))).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    operator.set_energy_scale({6: -1000.0, 8: -2000.0}, 2.5)
    return operator


def assert_same(engine: OnnxEngine, operator: Operator, state: PhaseState) -> None:
    # Errors grow from piece to piece, in an untrained network without bounds.
    for times in (TIMES,) if operator.card is None else (TIMES, LONG):
        for ours, theirs in zip(engine(state, times), operator(state, times), strict=True):
            assert ours.dtype == theirs.dtype
            assert float((ours - theirs).abs().max()) < 1e-5
    energy, forces = engine.energy_and_forces(state)
    wanted, pushes = operator.energy_and_forces(state)
    atoms = state.num_atoms
    assert float(((energy - wanted).abs() / atoms).max()) < 1e-5
    assert torch.equal(engine.energy(state), energy)
    assert float((forces - pushes).abs().max()) < 1e-5 * max(1.0, float(pushes.abs().max()))
    assert engine.engine == engine.kind


@each_engine
@pytest.mark.parametrize("name", MOLECULES)
def test_shipped_operators_give_torchs_numbers(name, kind) -> None:
    operator = load_operator(name)
    engine = load_operator(name, engine=kind.kind)
    assert engine.fingerprint == operator.fingerprint
    assert (engine.card, engine.horizon) == (operator.card, operator.horizon)
    molecules = [molecule(each) for each in MOLECULES[name]]
    for atoms in molecules:
        assert_same(engine, operator, thermal(atoms))
    assert_same(engine, operator, thermal(molecules, replicas=3))  # a batch, padded where it can be
    assert_same(engine, operator, thermal(molecules[0]).to(torch.float32))


@each_engine
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vector_limit": 0.5},
        {"blocks": 1},
        {"charges": (-1, 0, 1)},
        {"blocks": 3, "energy_blocks": 3, "heads": 1},
        {"horizon": 64.0, "segment": 64.0, "modes": 1},
    ],
    ids=str,
)
def test_any_size_of_network_gives_torchs_numbers(changes, kind) -> None:
    operator = operator_of(**changes)
    engine = kind(operator, strict=True)
    mixed = [molecule("CH3CH2OH"), molecule("H2O"), molecule("CH3Cl"), Atoms("C")]
    for atoms, charge in zip(mixed, (1, 0, -1, 0), strict=True):
        atoms.info["charge"] = charge if charge in operator.config.charges else 0
    assert_same(engine, operator, thermal(mixed))
    assert_same(engine, operator, thermal(Atoms("O")))
    assert_same(engine, operator, thermal(molecule("H2O"), replicas=2))


def test_a_planar_molecule_and_one_on_a_line_have_forces() -> None:
    operator = operator_of()
    engine = OnnxEngine(operator, strict=True)
    for name in ("H2O", "CO2", "C2H4"):
        state = PhaseState.from_atoms(molecule(name))
        forces, wanted = (each.energy_and_forces(state)[1] for each in (engine, operator))
        assert torch.allclose(forces, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@each_engine
@pytest.mark.parametrize("ensemble", [Langevin(), NVE(), Bussi()], ids=lambda each: each.name)
def test_whole_jumps_and_runs_are_those_of_torch(kind, ensemble) -> None:
    operator, engine = (load_operator("ethanol-gfn2", each) for each in ("torch", kind.kind))
    state = thermal(molecule("CH3CH2OH"), replicas=2)
    for ours, theirs in zip(jump(engine, state, TIMES), jump(operator, state, TIMES), strict=True):
        assert float((ours - theirs).abs().max()) < 1e-5
    whole = [Propagator(each, state, ensemble, seed=3) for each in (operator, engine)]
    for propagator in whole:
        deque(propagator.run(160.0), maxlen=0)
    cut, resumed = (Propagator(engine, state, ensemble, seed=seed) for seed in (3, 4))
    deque(cut.run(80.0), maxlen=0)
    resumed.load_state_dict(cut.state_dict())
    deque(resumed.run(80.0), maxlen=0)
    ends = [torch.stack([p.state.positions, p.state.velocities]) for p in (*whole, resumed)]
    assert float((ends[0] - ends[1]).abs().max()) < 1e-3  # ten jumps apart
    assert torch.equal(ends[1], ends[2])


@each_engine
def test_an_engine_moves_the_centre_of_mass_exactly(kind) -> None:
    """So that `jump` has nothing to put back; torch's own rounds in single precision."""
    engine = load_operator("tg80-gfn2", engine=kind.kind)
    state = thermal([molecule("CH3CH2OH"), molecule("H2O")], replicas=2)
    assert engine.moves_centre_exactly
    assert not engine.operator.moves_centre_exactly
    for times in (TIMES, LONG):
        x, v = engine(state, times)
        assert not x[~state.mask[:, None].expand(x.shape[:3])].any()
        place, drift = (each[:, None] for each in state.center_of_mass())
        weights = state.mass_fractions[:, None]
        expected = place + drift * times[:, None]
        torch.testing.assert_close((weights * x).sum(2), expected, rtol=0, atol=1e-12)
        found = (weights * v).sum(2)
        torch.testing.assert_close(found, drift.expand_as(found), rtol=0, atol=1e-14)
    for ours, theirs in zip(jump(engine, state, TIMES), engine(state, TIMES), strict=True):
        assert torch.equal(ours, theirs)


def test_models_are_valid_by_onnxs_own_checker() -> None:
    network = operator_of().network()
    for model in (network.path(), network.energy(False), network.energy(True)):
        onnx.checker.check_model(onnx.load_from_string(model), full_check=True)


# -- gradients -----------------------------------------------------------------------------------

A = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3, 4)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)


OPERATIONS: dict[str, tuple[Callable[[Graph, Value], Value], Callable[[Tensor], Tensor]]] = {
    "add": (lambda g, a: a + g.sum(a, [1]), lambda a: a + a.sum(1, keepdim=True)),
    "subtract": (lambda g, a: g.sum(a, [0, 2]) - a, lambda a: a.sum((0, 2), keepdim=True) - a),
    "multiply": (lambda g, a: a * a * 3.0 * g.mean(a), lambda a: a * a * 3 * a.mean(-1, True)),
    "divide": (lambda g, a: g.sum(a, [2]) / (a * a), lambda a: a.sum(2, True) / (a * a)),
    "less": (lambda g, a: -a * a, lambda a: -a * a),
    "square": (lambda g, a: g.square(a), lambda a: a**2),
    "sqrt": (lambda g, a: g.sqrt(a), lambda a: a.sqrt()),
    "exp": (lambda g, a: g.exp(a), lambda a: a.exp()),
    "silu": (lambda g, a: g.silu(a), torch.nn.functional.silu),
    "softmax": (lambda g, a: g.square(g.softmax(a)), lambda a: a.softmax(-1) ** 2),
    "norm": (
        lambda g, a: g.square(g.rms_norm(a, 1e-3)),
        lambda a: torch.nn.functional.rms_norm(a, (4,), None, 1e-3) ** 2,
    ),
    "by a matrix": (lambda g, a: g.square(a @ W), lambda a: (a @ torch.tensor(W)) ** 2),
    "product": (lambda g, a: a @ g.swap(a) @ a, lambda a: a @ a.mT @ a),
    "transpose": (
        lambda g, a: g.transpose(a, [2, 0, 1]) * g.transpose(a, [2, 0, 1]),
        lambda a: a.permute(2, 0, 1) ** 2,
    ),
    "reshape": (
        lambda g, a: g.square(g.reshape(a, ("b", "n", 2, 2))),
        lambda a: a.view(2, 3, 2, 2) ** 2,
    ),
    "unsqueeze": (
        lambda g, a: g.unsqueeze(a, 2) * g.unsqueeze(a, 1),
        lambda a: a[:, :, None] * a[:, None],
    ),
    "concat": (
        lambda g, a: g.square(g.concat([a, g.exp(a)])),
        lambda a: torch.cat([a, a.exp()], -1) ** 2,
    ),
    "split": (lambda g, a: g.square(g.split(a, [3, 1])[0]), lambda a: a[..., :3] ** 2),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_values_and_gradients_are_torchs(operation) -> None:
    write, compute = OPERATIONS[operation]
    graph = Graph()
    a = graph.input("a", ("b", "n", 4))
    value = write(graph, a)
    slope = graph.gradient(value, a)
    model = graph.model({"value": value, "slope": slope})
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found, gradient = session.run(None, {"a": A})
    tensor = torch.tensor(A, requires_grad=True)
    expected = compute(tensor)
    expected.sum().backward()
    assert found.shape == expected.shape == tuple(np.broadcast_shapes(found.shape))
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=2e-5, atol=2e-5)


# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "onx"}, "unknown engine 'onx': did you mean 'onnx'"),
        ({"engine": "tensorrt"}, "unknown engine 'tensorrt': there are auto, torch, onnx, numba"),
        ({"device": "cuda:77"}, "there is no device 'cuda:77' here: there is cpu"),
        ({"device": "gpu"}, "there is no device 'gpu' here"),
        ({"device": "meta"}, "nothing is computed on the device 'meta'"),
        ({"engine": None}, "unknown engine None"),
    ],
    ids=str,
)
def test_engines_and_devices_that_there_are_not_are_named(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_operator("ethanol-gfn2", **given)


def test_what_an_engine_lacks_is_named(monkeypatch) -> None:
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    for engine, package in (("onnx", "onnxruntime"), ("numba", "numba")):
        with pytest.raises(ConfigError, match=f"engine='{engine}' needs the package {package}"):
            load_operator("ethanol-gfn2", engine=engine)


def test_torch_is_the_default_and_auto_takes_the_runtime_where_there_is_a_graph() -> None:
    assert isinstance(load_operator("ethanol-gfn2"), Operator)
    assert load_operator("ethanol-gfn2").engine == "torch"
    assert load_operator("ethanol-gfn2", engine="auto").engine == "onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_operator("ethanol-paper", engine="auto").engine == "torch"
    with pytest.raises(ConfigError, match="ethanol-paper has no graph for ONNX Runtime"):
        load_operator("ethanol-paper", engine="onnx")
    with pytest.raises(ConfigError, match=r"torch\.float64 on cpu: ONNX Runtime computes"):
        OnnxEngine(operator_of().double())


@each_engine
def test_the_same_is_refused_as_by_torch(kind) -> None:
    engine = kind(operator_of(), strict=True)
    state = thermal(molecule("CH3CH2OH"))
    engine(state, TIMES)
    with pytest.raises(HorizonError, match="beyond this operator's horizon"):
        engine(state, torch.tensor([65.0]))
    with pytest.raises(CoverageError, match=r"atomic numbers \[7\]"):
        engine(thermal(molecule("NH3")), TIMES)
    charged = state.replace(charge=state.charge + 1)
    for call in (engine.energy, engine.energy_and_forces, lambda s: engine(s, TIMES)):
        with pytest.raises(CoverageError, match=r"total charge 0, not \+1"):
            call(charged)
    assert engine(state, torch.empty(0))[0].shape == (1, 0, 9, 3)
    assert engine.engine == kind.kind


def test_gradients_and_double_precision_are_torchs() -> None:
    operator = operator_of()
    engine = OnnxEngine(operator, strict=True)
    state = thermal(molecule("H2O"))
    positions = state.positions.clone().requires_grad_(True)
    energy = engine.energy(state.replace(positions=positions)).sum()
    (slope,) = torch.autograd.grad(energy, positions)
    assert torch.allclose(-slope, engine.energy_and_forces(state)[1], atol=1e-4)
    double = engine.in_double_precision()
    assert next(double.parameters()).dtype == torch.float64
    assert next(operator.parameters()).dtype == torch.float32


@each_engine
def test_an_engine_survives_pickling_and_other_molecules_in_turn(kind) -> None:
    operator = operator_of()
    engine = kind(operator, strict=True)
    first, second = thermal(molecule("CH3CH2OH")), thermal(molecule("CH3Cl"))
    heavy = first.replace(masses=first.masses * 2)
    for state in (first, second, heavy, first):
        assert_same(engine, operator, state)
    assert_same(pickle.loads(pickle.dumps(engine)), operator, second)


def test_a_batch_in_parts_is_the_same(monkeypatch) -> None:
    operator = operator_of()
    engine = OnnxEngine(operator, strict=True)
    state = thermal([molecule("CH3CH2OH"), molecule("H2O"), molecule("CH3Cl")], replicas=2)
    whole = engine(state, TIMES)
    for size in (1, 4 * 9 * 9 * 2 * operator.config.pair_width * 4):  # by one, and by four
        monkeypatch.setattr(session, "_CACHE", size)
        assert_same(engine, operator, state)
        for part, all_ in zip(engine(state, TIMES), whole, strict=True):
            assert torch.allclose(part, all_, rtol=0, atol=1e-6)


@each_engine
def test_threads_are_those_of_torch(kind) -> None:
    operator = operator_of()
    engine = kind(operator, strict=True)
    state = thermal(molecule("CH3CH2OH"), replicas=5)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert_same(engine, operator, state)
    finally:
        torch.set_num_threads(before)


# -- where the runtime cannot --------------------------------------------------------------------


def _of_other_weights(engine: OnnxEngine) -> None:
    engine._network = operator_of(seed=5).network()


def _not_finite(engine: OnnxEngine) -> None:
    network = operator_of().network()
    network._weights = {key: np.full_like(each, np.nan) for key, each in network._weights.items()}
    engine._network = network


def _damaged(engine: OnnxEngine) -> None:
    network = operator_of().network()
    network.path = lambda: b"\x08\x08 no model"
    network.energy = lambda gradient: b""
    engine._network = network


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_of_other_weights, "its first answer differs from torch's by"),
        (_not_finite, "it gives numbers that are not finite"),
        (_damaged, "InvalidProtobuf|ModelProto|Fail"),
    ],
)
def test_a_graph_that_is_not_the_operator_is_not_trusted(spoil, reason) -> None:
    operator = operator_of()
    state = thermal(molecule("CH3CH2OH"))
    engine = OnnxEngine(operator)
    spoil(engine)
    with pytest.warns(EngineWarning, match=f"cannot be evaluated by ONNX Runtime: .*({reason})"):
        found = engine(state, TIMES)
    assert torch.equal(found[0], operator(state, TIMES)[0])
    assert engine.engine == "torch"
    assert engine.reason is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert torch.equal(engine(state, TIMES)[1], operator(state, TIMES)[1])
        assert torch.equal(engine.energy(state), operator.energy(state))
    strict = OnnxEngine(operator, strict=True)
    spoil(strict)
    with pytest.raises(ConfigError, match="use engine='torch'"):
        strict.energy(state)


def test_a_runtime_that_fails_is_replaced(monkeypatch) -> None:
    def no_instruction(model: bytes, threads: int) -> None:
        raise RuntimeError("illegal instruction\nand more")

    monkeypatch.setattr(runtime, "Session", no_instruction)
    operator = operator_of()
    engine = OnnxEngine(operator)
    state = thermal(molecule("H2O"))
    with pytest.warns(EngineWarning, match="RuntimeError: illegal instruction; torch evaluates"):
        assert torch.equal(engine.energy(state), operator.energy(state))


@each_engine
def test_a_state_without_numbers_proves_nothing(kind) -> None:
    operator = operator_of()
    engine = kind(operator, strict=True)
    state = thermal(molecule("H2O"))
    broken = state.replace(positions=torch.full_like(state.positions, torch.nan))
    assert not bool(torch.isfinite(engine(broken, TIMES)[0]).any())
    assert "path" not in engine._trusted
    engine(state, TIMES)
    assert "path" in engine._trusted


@needs_numba
def test_numba_evaluates_a_molecule_the_same_alone_and_in_any_batch() -> None:
    engine = NumbaEngine(operator_of(), strict=True)
    molecules = [molecule("CH3CH2OH"), molecule("H2O"), molecule("CH3Cl")]
    together = thermal(molecules)
    positions, energies = engine(together, TIMES)[0], engine.energy(together)
    for row, atoms in enumerate(molecules):
        n = len(atoms)
        alone = PhaseState(
            *(each[row : row + 1, :n] for each in (
                together.numbers, together.masses, together.positions, together.velocities
            ))
        )  # fmt: skip
        assert torch.equal(engine(alone, TIMES)[0], positions[row : row + 1, :, :n])
        assert torch.equal(engine.energy(alone), energies[row : row + 1])


# -- the command line ----------------------------------------------------------------------------


def test_the_command_names_its_engine(go, out) -> None:
    found = {}
    for engine in ("auto", "torch", "onnx"):
        options = ("--engine", engine, "--time", "64fs", "--overwrite")
        code, text, _ = go(*options, operator="ethanol-gfn2", output="t.xyz")
        assert code == 0
        assert re.search(r"engine\s+(\w+)", text)[1] == engine.replace("auto", "onnx")
        found[engine] = read(out / "t.xyz", index=":")
    for ours, theirs in zip(found["onnx"], found["torch"], strict=True):
        assert np.abs(ours.positions - theirs.positions).max() < 1e-4


@pytest.mark.parametrize(
    ("operator", "options", "line"),
    [
        (
            "ethanol-gfn2",
            ["--engine", "onx"],
            "'onx' is not one of 'auto', 'torch', 'onnx', 'numba'",
        ),
        ("ethanol-gfn2", ["--device", "cuda:77"], "there is no device 'cuda:77' here: there is"),
        ("ethanol-gfn2", ["--device", "abacus"], "there is no device 'abacus' here: there is"),
        ("ethanol-paper", ["--engine", "onnx"], "ethanol-paper has no graph for ONNX Runtime"),
    ],
)
def test_the_command_refuses_in_one_line(go, out, operator, options, line) -> None:
    code, _, notes = go(*options, operator=operator)
    assert code == 2
    assert len(notes) == 1
    assert line in notes[0]
    assert not list(out.iterdir())


def test_the_command_says_once_that_torch_is_in_place(go, monkeypatch) -> None:
    def no_instruction(model: bytes, threads: int) -> None:
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(runtime, "Session", no_instruction)
    code, text, notes = go("--time", "32fs", operator="ethanol-gfn2")
    assert code == 0
    said = [note for note in notes if "cannot be evaluated by ONNX Runtime" in note]
    assert said == [
        "ase-atom: warning: ethanol-gfn2 cannot be evaluated by ONNX Runtime: RuntimeError: "
        "illegal instruction; torch evaluates it"
    ]
    assert "torch, in place of onnx: RuntimeError: illegal instruction" in text
