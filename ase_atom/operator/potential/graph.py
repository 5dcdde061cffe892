"""A potential as an ONNX graph, with its gradient; see `ase_atom.operator.potential.network`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ase.units import Bohr, Hartree
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.operator.engine.graph import Graph, Value
from ase_atom.operator.potential.dispersion import REFERENCES, STEEPNESS, WIDTH
from ase_atom.operator.potential.network import NEAREST_TO_ONE, PotentialNetwork

_PREFIX = "potential_"


@torch.no_grad()
def constants(
    network: PotentialNetwork, kinds: Tensor, masses: Tensor, charge: Tensor
) -> dict[str, Tensor]:
    """What depends on the molecules alone, by the names of the graph's inputs.

    Parameters
    ----------
    kinds
        Index of the element, 0 for padding, ``[B, N]``.
    masses
        amu, ``[B, N]``.
    charge
        Total charges, e, ``[B]``.
    """
    there = (kinds > 0).float()
    pairs = there[:, :, None] * there[:, None] * (1 - torch.eye(kinds.shape[1]))
    dispersion = network.dispersion
    radii, ratios = dispersion.radii[kinds], dispersion.ratios[kinds]
    product = 3 * ratios[:, :, None] * ratios[:, None]
    damped = dispersion.a1 * product.sqrt() + dispersion.a2
    table = network.embedding(kinds).unflatten(-1, (network.config.features, -1))
    found = {
        "weights": (masses / masses.sum(1, keepdim=True)).double().unsqueeze(-1),
        "atoms": there.unsqueeze(-1),
        "pairs": pairs,
        "total": charge.float()[:, None, None],
        "table": table.permute(0, 3, 1, 2),
        "radii": radii[:, :, None] + radii[:, None],
        "most": dispersion.most_neighbours[kinds].unsqueeze(-1),
        "references": dispersion.references[kinds],
        "c6": dispersion.c6[kinds[:, :, None], kinds[:, None]],
        "product": product,
        "damped6": damped**6,
        "damped8": damped**8,
    }
    return {_PREFIX + name: each.contiguous() for name, each in found.items()}


def graph_of(network: PotentialNetwork, gradient: bool) -> bytes:
    """The potential as an ONNX model.

    Besides `constants` it takes positions ``x``, ``[b, n, 3]``, in double precision in any frame of
    reference. It gives the ``energy`` without those of separate atoms in eV, ``[b, 1, 1]``, and
    with ``gradient`` that in eV/Å, ``[b, n, 3]``, in double precision.
    """
    graph = Graph()
    writer = _Writer(graph, network)
    x = graph.input("x", ("b", "n", 3), np.float64)
    weights = graph.input(_PREFIX + "weights", ("b", "n", 1), np.float64)
    # Padding at the centre, whatever the frame of reference.
    centred = graph.cast(x - graph.sum(x * weights, [1]), np.float32) * writer.atoms
    energies = writer.energies(centred)
    outputs = {"energy": graph.sum(graph.cast(energies, np.float64), [1])}
    if gradient:
        slope = graph.cast(graph.gradient(energies, centred), np.float64)
        outputs["gradient"] = slope - weights * graph.sum(slope, [1])
    return graph.model(outputs)


class _Writer:
    """Writes the terms of the energy."""

    def __init__(self, graph: Graph, network: PotentialNetwork) -> None:
        self.graph, self.network, self.config = graph, network, network.config
        config = self.config
        atoms: tuple[int | str, ...] = ("b", "n")
        table = ("b", config.radial, "n", config.features)
        self.atoms = self._input("atoms", (*atoms, 1))
        self.pairs = self._input("pairs", (*atoms, "n"))
        self.table = self._input("table", table)

    def energies(self, x: Value) -> Value:
        """Energies of atoms in eV, ``[b, n, 1]``."""
        graph, config = self.graph, self.config
        apart = graph.unsqueeze(x, 2) - graph.unsqueeze(x, 1)
        hole = -self.pairs + 1.0
        squared = graph.sum(graph.square(apart), [-1])
        distances = graph.sqrt(squared + graph.unsqueeze(hole, 3))
        directions = graph.transpose(apart / distances, [0, 3, 1, 2])
        distances = graph.reshape(distances, ("b", "n", "n"))
        messages = self._messages(directions, distances)

        # Axes are [b, radial, n, features], as products over pairs want them.
        table, charges, result = self.table, None, None
        for place, layers in enumerate(self.network.passes):
            heard = [self._flat(table), *self._heard(messages, table)]
            if charges is not None:
                heard += [charges, *self._heard_of_charges(messages, charges)]
            result = self._layers(graph.concat(heard), layers) * self.atoms
            if place < len(self.network.passes) - 1:
                own, share, change = graph.split(result, [1, 1, config.features * config.radial])
                charges = self._balanced(own if charges is None else charges + own, share)
                sizes = ("b", "n", config.features, config.radial)
                table = table + graph.transpose(graph.reshape(change, sizes), [0, 3, 1, 2])
        assert charges is not None
        assert result is not None
        short = self._layers(result, self.network.energy) * self.atoms
        far = self._coulomb(charges, distances) - self._dispersion(distances)
        return short + graph.sum(far, [2])

    def _input(self, name: str, shape: tuple[int | str, ...]) -> Value:
        return self.graph.input(_PREFIX + name, shape)

    def _messages(self, directions: Value, distances: Value) -> list[Value]:
        """Functions of the distance, and these along x, y and z, each ``[b, radial, n, n]``."""
        graph, config = self.graph, self.config
        part = graph.minimum(distances * (1 / config.cutoff), 1.0)
        smooth = (graph.cos(part * math.pi) * 0.5 + 0.5) * self.pairs
        centres = graph.constant(self.network.centres.numpy()[:, None, None])
        off = graph.unsqueeze(distances, 1) - centres
        radial = graph.exp(graph.square(off) * -config.sharpness) * graph.unsqueeze(smooth, 1)
        return [radial, *(radial * side for side in graph.split(directions, [1, 1, 1], 1))]

    def _heard(self, messages: list[Value], table: Value) -> list[Value]:
        graph, mix = self.graph, self._array(self.network.mix)
        scalars, *vectors = (each @ table for each in messages)
        # [b, features, n, radial] times a matrix for each feature
        mixed = [graph.transpose(each, [0, 3, 2, 1]) @ mix for each in vectors]
        lengths = graph.transpose(self._lengths(mixed), [0, 2, 1, 3])
        width = self.config.features * self.config.mixed
        return [self._flat(scalars), graph.reshape(lengths, ("b", "n", width))]

    def _heard_of_charges(self, messages: list[Value], charges: Value) -> list[Value]:
        graph, mix = self.graph, self._array(self.network.mix_charges)
        column = graph.unsqueeze(charges, 1)
        found = [graph.transpose(each @ column, [0, 2, 3, 1]) for each in messages]
        lengths = self._lengths([each @ mix for each in found[1:]])
        return [
            graph.reshape(found[0], ("b", "n", self.config.radial)),
            graph.reshape(lengths, ("b", "n", self.config.mixed)),
        ]

    def _lengths(self, sides: list[Value]) -> Value:
        x, y, z = (self.graph.square(side) for side in sides)
        return x + y + z

    def _flat(self, table: Value) -> Value:
        """``[b, radial, n, features]`` as features of an atom."""
        turned = self.graph.transpose(table, [0, 2, 3, 1])
        return self.graph.reshape(turned, ("b", "n", self.config.features * self.config.radial))

    def _layers(self, a: Value, layers: torch.nn.Module) -> Value:
        for layer in layers.children():
            if isinstance(layer, torch.nn.Linear):
                a = a @ self._array(layer.weight).T + self.graph.constant(self._array(layer.bias))
            else:
                a = self.graph.gelu(a)
        return a

    def _balanced(self, charges: Value, weights: Value) -> Value:
        graph = self.graph
        shares = graph.square(weights)
        missing = self._total() - graph.sum(charges, [1])
        return charges + shares * (missing / (graph.sum(shares, [1]) + 1e-6))

    def _total(self) -> Value:
        name = _PREFIX + "total"
        known = next((each for each in self.graph.inputs if each.name == name), None)
        return known or self._input("total", ("b", 1, 1))

    def _coulomb(self, charges: Value, distances: Value) -> Value:
        graph = self.graph
        part = graph.minimum(distances * (1 / self.config.coulomb_cutoff), NEAREST_TO_ONE)
        inverse = graph.constant(1.0) / (-graph.square(part) + 1.0)
        screened = -graph.exp(-inverse + 1.0) + 1.0
        products = (charges @ graph.swap(charges)) * self.pairs
        return screened * products / distances * (0.5 * Hartree * Bohr)

    def _dispersion(self, distances: Value) -> Value:
        """Its amount for each pair in eV, ``[b, n, n]``; see `Dispersion`."""
        graph, dispersion = self.graph, self.network.dispersion
        pair: tuple[int | str, ...] = ("b", "n", "n")
        r = distances * (1 / Bohr)
        near = (self._input("radii", pair) / r - 1.0) * STEEPNESS
        neighbours = graph.sum(graph.sigmoid(near) * self.pairs, [2])
        neighbours = graph.minimum(neighbours, self._input("most", ("b", "n", 1)))
        off = neighbours - self._input("references", ("b", "n", REFERENCES))
        weights = graph.softmax(graph.square(off) * -WIDTH)
        table = self._input("c6", (*pair, REFERENCES, REFERENCES))
        ours = graph.unsqueeze(graph.unsqueeze(weights, 2), 4)
        theirs = graph.unsqueeze(graph.unsqueeze(weights, 1), 4)
        c6 = graph.sum((table @ theirs) * ours, [3])
        c6 = graph.reshape(c6, pair) * self.pairs
        r2 = graph.square(r)
        r6 = r2 * r2 * r2
        short = graph.constant(dispersion.s6) / (r6 + self._input("damped6", pair))
        product = self._input("product", pair) * dispersion.s8
        long = product / (r6 * r2 + self._input("damped8", pair))
        return c6 * (short + long) * (0.5 * Hartree)

    @staticmethod
    def _array(weight: Tensor) -> NDArray[Any]:
        return np.array(weight.detach().numpy(), np.float32)
