"""The spectral operator as graphs for inference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ase_atom.operator.engine.graph import Graph, Value
from ase_atom.operator.engine.session import Evaluator
from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.spectral.temporal import SpectralDecoder
from ase_atom.operator.trunk import Lift
from ase_atom.operator.trunk.graph import Inputs, State, TrunkGraph, Weights, constants, weights_of


class SpectralNetwork:
    """An `ase_atom.operator.engine.Network` of a spectral operator.

    Parameters
    ----------
    config, state
        Of the operator: its settings, and its `state_dict`.
    lift, decoder
        Its modules, for what is computed once for many calls.
    """

    def __init__(
        self,
        config: SpectralConfig,
        state: Mapping[str, Tensor],
        lift: Lift,
        decoder: SpectralDecoder,
    ) -> None:
        self._config, self._lift, self._decoder = config, lift, decoder
        self._weights = weights_of(state)

    def path(self) -> bytes:
        """Model of one piece of the path."""
        return path_graph(self._config, self._weights)

    def energy(self, gradient: bool) -> bytes:
        """Model of the energy, with or without its gradient."""
        return energy_graph(self._config, self._weights, gradient)

    def molecule(self, species: Tensor, masses: Tensor) -> dict[str, Tensor]:
        """Inputs that depend on the molecules alone."""
        speeds = thermal_speeds(masses, self._config.temperature_scale)
        given = constants(self._lift, species, masses, speeds)
        return given | {"speeds": speeds.float().unsqueeze(-1)}

    def kernel(self, kind: str, threads: int) -> Evaluator | None:
        """Path or energy compiled by Numba."""
        if kind == "forces":
            return None
        from ase_atom.operator.spectral.kernels import EnergyKernel, PathKernel

        made = PathKernel if kind == "path" else EnergyKernel
        return made(self._config, self._weights, threads)

    @torch.no_grad()
    def instants(self, times: Tensor) -> dict[str, Tensor]:
        """Inputs that depend on the times alone."""
        basis = self._decoder.basis(times.float())
        return {"t": times.double()[:, None, None], "basis": torch.cat(basis, dim=1)}


def path_graph(config: SpectralConfig, weights: Weights) -> bytes:
    """One piece of the path, `SpectralOperator.segment`, as an ONNX model.

    Besides `Inputs` it takes positions ``x`` and velocities ``v``, ``[b, n, 3]``, in any frame of
    reference, times ``t``, ``[T, 1, 1]``, all in double precision, the thermal ``speeds``,
    ``[b, n, 1, 1]``, and the ``basis``, functions of positions and then velocities,
    ``[2 K, 2 T]``; where forces are heard, these too as ``f``, ``[b, n, 3]``. It gives
    ``positions`` and ``velocities``, ``[b, T, n, 3]``; the centre of mass moves exactly in double
    precision.
    """
    graph = Graph()
    trunk = TrunkGraph(graph, config, weights)
    inputs = Inputs.of(graph, config, config.force_input)
    forces = graph.input("f", ("b", "n", 3)) if config.force_input else None
    x = graph.input("x", ("b", "n", 3), np.float64)
    v = graph.input("v", ("b", "n", 3), np.float64)
    times = graph.input("t", ("t", 1, 1), np.float64)
    speeds = graph.input("speeds", ("b", "n", 1, 1))
    basis = graph.input("basis", (2 * config.modes, "2t"))
    place, rate = (_about_centre(graph, side, inputs) for side in (x, v))
    state = trunk.lift(inputs, place, rate, forces)
    for index in range(config.blocks):
        state = trunk.block(state, index)
    coefficients = _coefficients(trunk, state) * speeds
    # [b, n, 3, 2 T], then [b, 2 T, n, 3]; without the atoms' share in moving the centre of mass.
    shifts = graph.transpose(coefficients @ basis, [0, 3, 1, 2])
    shifts = graph.cast(shifts, np.float64)
    weights_of = graph.unsqueeze(inputs.weights, 1)
    mask = graph.unsqueeze(graph.cast(inputs.atoms, np.float64), 1)
    shifts = (shifts - graph.sum(shifts * weights_of, [2])) * mask
    of_x, of_v = graph.halves(shifts, 1, "t")
    drift = graph.unsqueeze(v, 1)
    outputs = {
        "positions": graph.unsqueeze(x, 1) + drift * times + of_x,
        "velocities": drift + of_v,
    }
    return graph.model(outputs)


def energy_graph(config: SpectralConfig, weights: Weights, gradient: bool) -> bytes:
    """The energy head, `SpectralOperator.energy_output`, as an ONNX model.

    Besides `Inputs` it takes positions ``x``. It gives the ``energy``, ``[b, 1, 1]``, and with
    ``gradient`` that, ``[b, n, 3]``, both dimensionless, in double precision.
    """
    graph = Graph()
    trunk = TrunkGraph(graph, config, weights)
    inputs = Inputs.of(graph, config)
    x = graph.input("x", ("b", "n", 3), np.float64)
    centred = _about_centre(graph, x, inputs)
    state = trunk.lift(inputs, centred, None)
    for index in range(config.energy_blocks):
        state = trunk.block(state, index)
    energy = trunk.energy(state)
    outputs = {"energy": graph.cast(energy, np.float64)}
    if gradient:
        slope = graph.cast(graph.gradient(energy, centred), np.float64)
        outputs["gradient"] = slope - inputs.weights * graph.sum(slope, [1])
    return graph.model(outputs)


def _about_centre(graph: Graph, a: Value, inputs: Inputs) -> Value:
    """Positions or velocities about those of the centre of mass, in single precision."""
    return graph.cast(a - graph.sum(a * inputs.weights, [1]), np.float32)


def _coefficients(trunk: TrunkGraph, state: State) -> Value:
    """See `SpectralDecoder.coefficients`."""
    graph = trunk.graph
    gate = trunk.normed_linear(state.scalars, "decoder.norm_scalars", "decoder.gate") + 1.0
    assert state.vectors is not None
    assert state.relative is not None
    own = trunk.linear(state.vectors * graph.unsqueeze(gate, 2), "decoder.from_vectors")
    hidden = trunk.normed_linear(state.pairs, "decoder.norm_pairs", "decoder.pair_hidden")
    hidden = graph.silu(hidden)
    messages = trunk.linear(hidden, "decoder.from_pairs")
    size = messages.shape[-1]
    assert isinstance(size, int)
    radial, relative = graph.split(messages, [size // 2] * 2)
    return own + state.inward @ radial + graph.swap(state.relative) @ relative
