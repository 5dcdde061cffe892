"""The leap network as a graph for inference."""

from __future__ import annotations

from ase_atom.operator.engine.graph import Graph, Value
from ase_atom.operator.leap.config import LeapConfig
from ase_atom.operator.leap.network import SOFT, LeapLift
from ase_atom.operator.trunk.graph import (
    Inputs,
    State,
    TrunkGraph,
    Weights,
)


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
