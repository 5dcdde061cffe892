"""A leap decoder that has learned nothing: its samples stay near where they start."""

from __future__ import annotations

import torch

from ase_atom.operator import Operator, load_operator
from ase_atom.operator.leap import LeapCard, LeapConfig, LeapDecoder, LeapNetwork

SMALL = LeapConfig(
    elements=(1, 6, 8),
    width=16,
    pair_width=8,
    vector_channels=8,
    blocks=1,
    energy_blocks=1,
    pair_vectors=4,
    radial_channels=4,
)


def untrained_leaps(spread: float = 0.02, scale: float = 0.01, **facts) -> LeapDecoder:
    """Small random network whose samples of ethanol are molecules."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = LeapNetwork(SMALL.model_copy(update={"spread": spread, "scale": scale}))
    settings = {
        "smiles": ["CCO"],
        "lags_fs": (500.0, 16000.0),
        "temperature_range_K": (300.0, 500.0),
        "friction": 0.01,
        "passes": 3,
        "settling_jumps": 3,
        "training_command": "none",
        "data_fingerprint": "none",
    }
    return LeapDecoder(network, LeapCard(**{**settings, **facts}))


def leaping_ethanol(**facts) -> Operator:
    """The operator of ethanol with such leaps."""
    operator = load_operator("ethanol-gfn2")
    operator.leaps = untrained_leaps(**facts)
    return operator
