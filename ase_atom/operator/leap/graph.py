"""The leap network as a graph for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.errors import EngineWarning
from ase_atom.errors.warning import warn
from ase_atom.operator.engine.graph import Graph, Value
from ase_atom.operator.engine.session import Arrays, Session
from ase_atom.operator.leap.config import LeapConfig
from ase_atom.operator.leap.decoder import LeapDecoder
from ase_atom.operator.leap.flow import Guess
from ase_atom.operator.leap.network import SOFT, LeapLift
from ase_atom.operator.trunk.graph import (
    Inputs,
    State,
    TrunkGraph,
    Weights,
    atoms_and_pairs,
)

TOLERANCE = 1e-4
"""Largest difference from torch in the first guess, Å; of displacements of ångströms."""


class OnnxLeaps(LeapDecoder):
    """A leap decoder whose network runs in ONNX Runtime, or in torch if that differs or fails.

    Parameters
    ----------
    decoder
        In torch.
    """

    def __init__(self, decoder: LeapDecoder) -> None:
        super().__init__(decoder.network, decoder.card)
        self._decoder = decoder
        self._sessions: dict[int, Session] = {}
        self._molecules: tuple[Tensor, Arrays] | None = None
        self._trusted: bool | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return OnnxLeaps, (self._decoder,)

    def guess_of(self, species: Tensor, start: Tensor, conditions: Tensor) -> Guess:
        """See `LeapDecoder.guess_of`."""
        in_torch = super().guess_of(species, start, conditions)
        if self._trusted is False:
            return in_torch

        def guess(noisy: Tensor, level: Tensor) -> Tensor:
            if self._trusted:
                return self._guess(species, start, conditions, noisy, level)
            expected = in_torch(noisy, level)
            try:
                found = self._guess(species, start, conditions, noisy, level)
                off = float((found - expected).abs().max())
                wrong = "" if off < TOLERANCE else f"its first guess differs by {off:.1e} Å"
            except Exception as error:  # whatever a runtime of another processor raises
                wrong = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            self._trusted = not wrong
            if wrong:
                warn(f"torch evaluates the leaps instead of ONNX Runtime: {wrong}", EngineWarning)
            return expected if wrong else found

        return guess

    def _guess(
        self, species: Tensor, start: Tensor, conditions: Tensor, noisy: Tensor, level: Tensor
    ) -> Tensor:
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            weights = {key: each.numpy() for key, each in self.network.state_dict().items()}
            self._sessions[threads] = Session(leap_graph(self.config, weights), threads)
        if self._molecules is None or not torch.equal(self._molecules[0], species):
            self._molecules = species, _constants(self.network.lift, species)
        lift = self.network.lift
        moving = {"x": noisy, "start": start, "known": lift.known(level, conditions)[:, None]}
        given = {name: each.contiguous().numpy() for name, each in moving.items()}
        (change,) = self._sessions[threads](self._molecules[1], given)
        mask = torch.from_numpy(self._molecules[1]["atoms"])
        return self.network.moved(noisy, torch.from_numpy(change), level, mask)


@torch.no_grad()
def _constants(lift: LeapLift, species: Tensor) -> Arrays:
    """`Inputs` of the molecules, by name."""
    atoms, pairs = atoms_and_pairs(species)
    found = {
        "scalars": lift.embedding(species),
        "kinds": lift.receiver(species)[:, :, None] + lift.sender(species)[:, None, :],
        "atoms": atoms,
        "pairs": pairs,
    }
    return {name: each.contiguous().numpy() for name, each in found.items()}


def leap_graph(config: LeapConfig, weights: Weights) -> bytes:
    """The network before its scale, `LeapNetwork.change`, as an ONNX model.

    Besides `Inputs` it takes the noisy structure ``x`` and the ``start``, ``[b, n, 3]``, and what
    is ``known``, `LeapLift.known`, ``[b, 1, K]``. It gives the ``change``, ``[b, n, 3]``.
    """
    graph = Graph()
    trunk = TrunkGraph(graph, config, weights)
    state = _lift(trunk, Inputs.of(graph, config))
    for index in range(config.blocks):
        state = trunk.block(state, index)
    assert state.vectors is not None
    assert state.relative is not None
    opened = trunk.normed_linear(state.scalars, "norm_scalars", "gate") + 1.0
    change = trunk.linear(state.vectors * graph.unsqueeze(opened, 2), "vector_out")
    hidden = graph.silu(trunk.normed_linear(state.pairs, "norm_pairs", "pair_hidden"))
    radial, along = graph.split(trunk.linear(hidden, "pair_out"), [1, 1])
    change = change + state.inward @ radial + graph.swap(state.relative) @ along
    return graph.model({"change": graph.reshape(change, ("b", "n", 3))})


def _lift(trunk: TrunkGraph, inputs: Inputs) -> State:
    """See `LeapLift`."""
    graph = trunk.graph
    x, start = (graph.input(name, ("b", "n", 3)) for name in ("x", "start"))
    known = graph.input("known", ("b", 1, trunk.weight("lift.conditions.0.weight").shape[1]))
    heard = graph.silu(trunk.linear(known, "lift.conditions.0"))
    heard = trunk.linear(heard, "lift.conditions.2")
    of_pairs = graph.unsqueeze(trunk.linear(heard, "lift.condition_pairs"), 1)
    hole, away = -inputs.pairs + 1.0, start - x
    displaced = _length(graph, away, -inputs.atoms + 1.0) * inputs.atoms
    scalars = inputs.scalars + heard + trunk.linear(displaced, "lift.displaced")
    scalars = scalars * inputs.atoms
    here, there = trunk.differences(x), trunk.differences(start)
    relative = (there - here) * inputs.pairs
    distance, before = (
        graph.sqrt(graph.sum(graph.square(each), [-1]) + hole) for each in (here, there)
    )
    one = graph.constant(1.0)
    parts = [trunk.near(each, LeapLift.grid()) for each in (distance, before)]
    parts += [one / (distance + 0.5), one / (before + 0.5), distance - before]
    parts.append(_length(graph, relative, hole) * inputs.pairs)
    hidden = trunk.linear(graph.concat(parts), "lift.pair_in") + inputs.kinds + of_pairs
    directions = here / (distance + SOFT) * inputs.pairs
    gate = trunk.linear(scalars, "lift.vector_gate") * inputs.atoms
    vectors = graph.unsqueeze(away, 3) * graph.unsqueeze(gate, 2)
    return trunk.lifted(inputs, scalars, vectors, hidden, directions, relative)


def _length(graph: Graph, a: Value, hole: Value) -> Value:
    return graph.sqrt(graph.sum(graph.square(a), [-1]) + hole + 1e-8)
