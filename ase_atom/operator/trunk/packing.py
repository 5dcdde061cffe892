"""Weights of the trunk as its compiled functions take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ase_atom.operator.trunk.config import TrunkConfig
from ase_atom.operator.trunk.lifting import gaussians, scaled_gaussians

Array = NDArray[Any]

KEYS = 8
"""Channels of a head's keys, `Block.key_width`."""


class Blocks(NamedTuple):
    """Weights of all blocks, the number of the block first; norms' gains in those behind them."""

    ends: Array
    ends_bias: Array
    probes: Array
    pair_in: Array
    pair_out: Array
    pair_out_bias: Array
    filters: Array
    filters_bias: Array
    attend: Array
    values: Array
    mix: Array
    node_in: Array
    node_in_bias: Array
    node_out: Array
    node_out_bias: Array


class Lifting(NamedTuple):
    """Weights of the lift, and its Gaussians: centre/(√2 width) and 1/(√2 width)."""

    pair_in: Array
    pair_in_bias: Array
    pair_out: Array
    pair_out_bias: Array
    centres: Array
    widths: Array


class Readout(NamedTuple):
    """Weights of the energy head."""

    hidden: Array
    hidden_bias: Array
    atoms: Array
    atoms_bias: Array
    pairs: Array


class Weights:
    """Weights of a network by name, as the kernels take them: transposed, in single precision."""

    def __init__(self, weights: Mapping[str, Array], config: TrunkConfig) -> None:
        self._weights, self._config = weights, config

    def linear(self, name: str, norm: str | None = None) -> Array:
        """Weight of a linear layer, with the gain of the norm before it."""
        weight = self._weights[f"{name}.weight"]
        if norm is not None:
            weight = weight * self._weights[f"{norm}.weight"]
        return np.ascontiguousarray(weight.T, np.float32)

    def bias(self, name: str) -> Array:
        """Bias of a linear layer."""
        return np.ascontiguousarray(self._weights[f"{name}.bias"], np.float32)

    def lifting(self) -> Lifting:
        """Those of the lift."""
        widths, centres = scaled_gaussians(gaussians())
        layers = "lift.pair_in", "lift.pair_out"
        both = [side(name) for name in layers for side in (self.linear, self.bias)]
        return Lifting(*both, centres, widths)

    def readout(self) -> Readout:
        """Those of the energy head."""
        return Readout(
            self.linear("energy_atoms.1", "energy_atoms.0"), self.bias("energy_atoms.1"),
            self.linear("energy_atoms.3"), self.bias("energy_atoms.3"),
            self.linear("energy_pairs"),
        )  # fmt: skip

    def blocks(self, count: int) -> Blocks:
        """Those of the first blocks."""
        each = [self._block(f"trunk.blocks.{index}.") for index in range(count)]
        return Blocks(*map(np.stack, zip(*each, strict=True)))

    def _block(self, name: str) -> Blocks:
        width, heads = self._config.width, self._config.heads
        norm, bias = name + "norm_scalars", self.bias(name + "pair_self")
        attend = self.linear(name + "attend", norm)
        attend[:, : KEYS * heads] *= KEYS**-0.5
        node_in = self.linear(name + "node_in")
        node_in[:width] *= self._weights[norm + ".weight"][:, None]
        return Blocks(
            self.linear(name + "pair_ends", norm), bias,
            self.linear(name + "pair_probes"),
            np.concatenate([
                self.linear(name + "pair_self", name + "norm_pairs"),
                self.linear(name + "pair_angles"),
            ]),
            self.linear(name + "pair_out"), self.bias(name + "pair_out"),
            self.linear(name + "filters", name + "norm_messages"), self.bias(name + "filters"),
            attend, self.linear(name + "vector_values"), self.linear(name + "vector_mix"),
            node_in, self.bias(name + "node_in"),
            self.linear(name + "node_out"), self.bias(name + "node_out"),
        )  # fmt: skip
