"""The trunk as a graph for inference: `lifting`, `blocks` and `energy` in fewer operations.

The numbers are those of the torch modules, up to rounding. What depends on the atoms' kinds alone
is worked out once per molecule (`constants`) and given to each run. Masks stand only where they
change a result: directions, relative velocities and attention are zero between an atom and itself
or padding, and so is whatever they multiply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.operator.engine.graph import Graph, Value
from ase_atom.operator.trunk.config import TrunkConfig
from ase_atom.operator.trunk.lifting import (
    RELATIVE_SPEED_SCALE,
    SPEED_FLOOR,
    Lift,
    gaussians,
    push_limits,
    push_scale,
    scaled_gaussians,
)

Weights = Mapping[str, NDArray[Any]]

_EPSILON = float(np.finfo(np.float32).eps)  # of torch's RMSNorm, where none is given
_BLOCKED = 1e4
_OF_PAIRS = 4  # axes
NEGLIGIBLE = 1e-20
"""Added to what may be so small that its products would be denormal, which makes them slow."""


@dataclass(frozen=True)
class Inputs:
    """What a molecule gives to each run; see `constants`.

    Attributes
    ----------
    scalars
        First features of the atoms, ``[b, n, width]``.
    gate
        First vectors for a velocity of 1 Å/fs, ``[b, n, 1, C]``.
    kinds
        Part of the first pair features that the kinds of the atoms make, ``[b, n, n, 2 p]``.
    atoms, pairs
        Masks, ``[b, n, 1]`` and ``[b, n, n, 1]``.
    weights
        Mass fractions, ``[b, n, 1]``, in double precision.
    force_gate
        First vectors for a force of 1 eV/Å, ``[b, n, 1, C]``; None where no forces are heard.
    """

    scalars: Value
    gate: Value
    kinds: Value
    atoms: Value
    pairs: Value
    weights: Value
    force_gate: Value | None = None

    @classmethod
    def of(cls, graph: Graph, config: TrunkConfig, forces: bool = False) -> Inputs:
        """Inputs of a graph, with or without what forces are heard by."""
        atoms: tuple[int | str, ...] = ("b", "n")
        pair = 2 * config.pair_width
        vectors = (*atoms, 1, config.vector_channels)
        return cls(
            graph.input("scalars", (*atoms, config.width)),
            graph.input("gate", vectors),
            graph.input("kinds", (*atoms, "n", pair)),
            graph.input("atoms", (*atoms, 1)),
            graph.input("pairs", (*atoms, "n", 1)),
            graph.input("weights", (*atoms, 1), np.float64),
            graph.input("force_gate", vectors) if forces else None,
        )


@dataclass(frozen=True)
class State:
    """`Features` in a graph.

    ``vectors`` is None where all are zero, ``sums`` each atom's sum over its pairs.
    """

    scalars: Value
    vectors: Value | None
    pairs: Value
    directions: Value
    inward: Value
    relative: Value | None
    blocked: Value
    attended: Value
    inputs: Inputs
    sums: Value | None = None


@torch.no_grad()
def constants(lift: Lift, species: Tensor, masses: Tensor, speeds: Tensor) -> dict[str, Tensor]:
    """Return the `Inputs` of a batch by name.

    Parameters
    ----------
    species
        Index into the operator's elements, 0 for padding, ``[B, N]``.
    masses
        amu, ``[B, N]``.
    speeds
        Thermal speeds in Å/fs, ``[B, N, 1]``.
    """
    mask, pairs = atoms_and_pairs(species)
    receiver, sender = lift.receiver(species), lift.sender(species)
    heard = {}
    if lift.force_gate is not None:
        scale = push_scale(masses, speeds)
        heard["force_gate"] = (lift.force_gate(species) * mask * scale.float()).unsqueeze(2)
        heard["limits"] = push_limits(masses) / scale.clamp(min=NEGLIGIBLE)  # eV/Å
    return heard | {
        "scalars": lift.embedding(species) * mask,
        "gate": (lift.velocity_gate(species) * mask / speeds.float()).unsqueeze(2),
        "receiver": receiver,
        "sender": sender,
        "kinds": receiver[:, :, None] + sender[:, None, :],
        "atoms": mask,
        "pairs": pairs,
        "weights": (masses / masses.sum(1, keepdim=True)).double().unsqueeze(-1),
    }


def atoms_and_pairs(species: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of atoms, ``[B, N, 1]``, and of pairs of two, ``[B, N, N, 1]``."""
    atoms = (species > 0).float()
    different = 1 - torch.eye(species.shape[1])
    pairs = atoms[:, :, None] * atoms[:, None, :] * different
    return atoms.unsqueeze(-1), pairs.unsqueeze(-1)


def weights_of(state: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """A state dict as arrays of their own.

    The memory of a tensor moves when `multiprocessing` sends it to another process, and arrays that
    look into it would be left with what was freed.
    """
    return {key: np.array(each.detach().numpy()) for key, each in state.items()}


class TrunkGraph:
    """Writes lift and blocks into a graph.

    Parameters
    ----------
    graph
        Where to.
    config
        Of the operator.
    weights
        Its state dict as arrays.
    prefix
        Of the names of lift and trunk among the weights.
    """

    def __init__(
        self, graph: Graph, config: TrunkConfig, weights: Weights, prefix: str = ""
    ) -> None:
        self.graph, self.config, self._weights, self._prefix = graph, config, weights, prefix

    def weight(self, name: str) -> NDArray[Any]:
        """One of the weights, in single precision."""
        return self._weights[self._prefix + name].astype(np.float32)

    def linear(self, a: Value, name: str, gain: NDArray[Any] | None = None) -> Value:
        """A `torch.nn.Linear` of features times a gain."""
        weight, bias = self.weight(f"{name}.weight"), f"{name}.bias"
        weight = (weight if gain is None else weight * gain).T
        if not self.has(bias):
            return a @ weight
        if len(a.shape) == _OF_PAIRS:
            return self.graph.affine(a, weight, self.weight(bias))
        return a @ weight + self.graph.constant(self.weight(bias))

    def has(self, name: str) -> bool:
        """Whether there is such a weight."""
        return self._prefix + name in self._weights

    def norm(self, a: Value) -> Value:
        """A `torch.nn.RMSNorm` but for its gain, which is for whoever takes the features."""
        return self.graph.rms_norm(a, _EPSILON)

    def normed_linear(self, a: Value, norm: str, name: str) -> Value:
        """A `torch.nn.RMSNorm` and then a `torch.nn.Linear`."""
        return self.linear(self.norm(a), name, self.weight(f"{norm}.weight"))

    def differences(self, a: Value) -> Value:
        """a_i − a_j of vectors of atoms, ``[b, n, n, 3]``."""
        return self.graph.unsqueeze(a, 2) - self.graph.unsqueeze(a, 1)

    def lift(self, inputs: Inputs, x: Value, v: Value | None, forces: Value | None = None) -> State:
        """See `Lift`; x and v ``[b, n, 3]`` in single precision, v None for atoms at rest.

        Forces are in eV/Å, ``[b, n, 3]``; None where none are heard.
        """
        graph = self.graph
        separation = self.differences(x)
        hole = -inputs.pairs + 1.0
        distance = graph.sqrt(graph.sum(graph.square(separation), [-1]) + hole)
        directions = separation * (inputs.pairs / distance)
        parts = [self.near(distance, gaussians()), graph.constant(1.0) / (distance + 0.5)]
        weight, bias = self.weight("lift.pair_in.weight"), self.weight("lift.pair_in.bias")
        relative = vectors = None
        if v is None:
            # At rest the radial velocity is zero and the speed its floor.
            bias = bias + weight[:, -1] * np.sqrt(SPEED_FLOOR, dtype=np.float32)
            weight = weight[:, :-2]
        else:
            relative = self.differences(v * (1 / RELATIVE_SPEED_SCALE)) * inputs.pairs
            parts.append(graph.sum(relative * directions, [-1]))
            parts.append(graph.sqrt(graph.sum(graph.square(relative), [-1]) + SPEED_FLOOR))
            vectors = graph.unsqueeze(v, 3) * inputs.gate
            if forces is not None:
                assert inputs.force_gate is not None
                vectors = vectors + graph.unsqueeze(forces, 3) * inputs.force_gate
        hidden = graph.concat(parts) @ weight.T + (inputs.kinds + graph.constant(bias))
        return self.lifted(inputs, inputs.scalars, vectors, hidden, directions, relative)

    def near(self, distance: Value, grid: tuple[Tensor, Tensor]) -> Value:
        """Gaussians of distances on the grid of `gaussians`."""
        widths, offsets = (self.graph.constant(side) for side in scaled_gaussians(grid))
        return self.graph.exp(-self.graph.square(distance * widths - offsets)) + NEGLIGIBLE

    def lifted(
        self,
        inputs: Inputs,
        scalars: Value,
        vectors: Value | None,
        hidden: Value,
        directions: Value,
        relative: Value | None,
    ) -> State:
        """What a lift gives the blocks; ``hidden`` is the layer of pairs before the last."""
        graph = self.graph
        mask = graph.transpose(inputs.pairs, [0, 3, 1, 2])
        return State(
            scalars=scalars,
            vectors=vectors,
            pairs=self.linear(graph.silu(hidden), "lift.pair_out"),
            directions=directions,
            inward=graph.swap(directions),
            relative=relative,
            blocked=(mask - 1.0) * _BLOCKED,  # added to logits, it shuts out all but pairs
            attended=mask,
            inputs=inputs,
        )

    def block(self, state: State, index: int) -> State:
        """See `Block`."""
        graph, config = self.graph, self.config
        name = f"trunk.blocks.{index}."
        normed, gain = self.norm(state.scalars), self.weight(name + "norm_scalars.weight")
        pairs = state.pairs + self._exchange(state, normed, name)
        filters = self.normed_linear(pairs, name + "norm_messages", name + "filters")
        heads = config.heads
        of_heads, radial = graph.split(filters, [2 * heads, config.radial_channels])
        of_heads = graph.transpose(of_heads, [0, 3, 1, 2])
        heard, carried = self._attend(state, normed, of_heads, name)
        pushes = state.inward @ radial
        sums = graph.sum(pairs * state.inputs.pairs, [2])
        sums = graph.reshape(sums, ("b", "n", config.pair_width))

        channels, width = config.vector_channels, config.width
        vectors = [each for each in (state.vectors, carried) if each is not None]
        mix = self.weight(name + "vector_mix.weight").T
        mix = mix if vectors else mix[2 * channels :]
        mixed = (graph.concat([*vectors, pushes]) if vectors else pushes) @ mix
        left, right, change = graph.split(mixed, [channels] * 3)
        flat = ("b", "n", channels)
        products = graph.reshape(graph.sum(left * right, [2]), flat)
        lengths = graph.reshape(graph.sum(graph.square(left), [2]), flat)
        joined = graph.concat([normed, heard, sums, products, graph.sqrt(lengths + 1e-6)])
        sizes = (width, width, config.pair_width, 2 * channels)
        gains = np.concatenate(
            [
                gain,
                *(np.full(n, g, np.float32) for n, g in zip(sizes[1:], (1, 1 / 8, 1), strict=True)),
            ]
        )
        hidden = self.linear(joined, name + "node_in", gains)
        update = self.linear(graph.silu(hidden), name + "node_out")
        more, opened = graph.split(update, [width, channels])
        change = change * (graph.unsqueeze(opened, 2) + 1.0)
        moved = change if state.vectors is None else state.vectors + change
        moved = moved * graph.unsqueeze(state.inputs.atoms, 3)
        return replace(
            state,
            scalars=(state.scalars + more) * state.inputs.atoms,
            vectors=self._limited(moved),
            pairs=pairs,
            sums=sums,
        )

    def _exchange(self, state: State, normed: Value, name: str) -> Value:
        """What the pair stream hears of both atoms and of the angles of their vectors."""
        graph, count = self.graph, self.config.pair_vectors
        receiver, sender = graph.split(
            self.linear(normed, name + "pair_ends", self.weight(name + "norm_scalars.weight")),
            [2 * self.config.pair_width] * 2,
        )
        parts = [self.norm(state.pairs)]
        weight = self.weight(name + "pair_self.weight") * self.weight(name + "norm_pairs.weight")
        weight = weight.T
        if state.vectors is not None:
            probes = self.linear(state.vectors, name + "pair_probes")
            lines, first, second = graph.split(probes, [2 * count, count, count])
            own, other = graph.split(state.directions @ lines, [count, count])
            mutual = graph.transpose(first, [0, 3, 1, 2]) @ graph.transpose(second, [0, 3, 2, 1])
            parts += [own, graph.transpose(other, [0, 2, 1, 3])]
            parts.append(graph.transpose(mutual, [0, 2, 3, 1]))
            angles = self.weight(name + "pair_angles.weight").T.copy()
            angles[count : 2 * count] *= -1  # r̂_ij·w_j is minus the transpose of r̂_ji·w_j
            weight = np.concatenate([weight, angles])
        receiver = receiver + graph.constant(self.weight(name + "pair_self.bias"))
        ends = graph.unsqueeze(receiver, 2) + graph.unsqueeze(sender, 1)
        joined = graph.concat(parts) if len(parts) > 1 else parts[0]
        hidden = joined @ weight + ends
        return self.linear(graph.silu(hidden), name + "pair_out")

    def _attend(
        self, state: State, normed: Value, of_heads: Value, name: str
    ) -> tuple[Value, Value | None]:
        """Attended scalars ``[b, n, width]`` and vectors ``[b, n, 3, C]``."""
        graph, config = self.graph, self.config
        heads, width, channels = config.heads, config.width, config.vector_channels
        bias, gate = graph.split(of_heads, [heads, heads], axis=1)
        attend = self.weight(name + "attend.weight") * self.weight(name + "norm_scalars.weight")
        attend = attend.T.copy()
        keys = (attend.shape[1] - width) // 2
        attend[:, :keys] *= (keys // heads) ** -0.5
        query, key, value = graph.split(normed @ attend, [keys, keys, width])
        query, key, value = (
            graph.reshape(each, ("b", "n", heads, size // heads))
            for each, size in ((query, keys), (key, keys), (value, width))
        )
        logits = graph.transpose(query, [0, 2, 1, 3]) @ graph.transpose(key, [0, 2, 3, 1])
        weights = graph.softmax(logits + bias + state.blocked) * (gate * state.attended)
        values = [graph.transpose(value, [0, 2, 1, 3])]
        each = channels // heads
        if state.vectors is not None:
            vectors = self.linear(state.vectors, name + "vector_values")
            vectors = graph.reshape(vectors, ("b", "n", 3, heads, each))
            vectors = graph.transpose(vectors, [0, 3, 1, 2, 4])
            values.append(graph.reshape(vectors, ("b", heads, "n", 3 * each)))
        attended = weights @ (graph.concat(values) if len(values) > 1 else values[0])
        carried = None
        if state.vectors is not None:
            attended, carried = graph.split(attended, [width // heads, 3 * each])
            carried = graph.reshape(carried, ("b", heads, "n", 3, each))
            carried = graph.transpose(carried, [0, 2, 3, 1, 4])
            carried = graph.reshape(carried, ("b", "n", 3, channels))
        heard = graph.transpose(attended, [0, 2, 1, 3])
        return graph.reshape(heard, ("b", "n", width)), carried

    def _limited(self, vectors: Value) -> Value:
        if not self.config.vector_limit:
            return vectors
        graph = self.graph
        excess = graph.sum(graph.square(vectors), [2]) * self.config.vector_limit**-2
        return vectors / graph.sqrt(graph.sqrt(graph.square(excess) + 1.0))

    def energy(self, state: State) -> Value:
        """See `read_energy`; ``[b, 1, 1]``."""
        graph = self.graph
        hidden = self.normed_linear(state.scalars, "energy_atoms.0", "energy_atoms.1")
        of_atoms = self.linear(graph.silu(hidden), "energy_atoms.3") * state.inputs.atoms
        assert state.sums is not None
        of_pairs = self.linear(state.sums, "energy_pairs")
        return graph.sum(of_atoms + of_pairs, [1])
