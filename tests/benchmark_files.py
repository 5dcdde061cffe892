"""Small trajectories in the public layouts, written without the project's own writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

ETHANOL = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
SHAPE = np.array(
    [
        [-1.2, -0.2, 0.0],
        [0.1, 0.6, 0.1],
        [1.2, -0.3, -0.1],
        [-1.3, -0.9, 0.9],
        [-1.2, -0.8, -0.9],
        [-2.1, 0.5, 0.0],
        [0.1, 1.2, 1.0],
        [0.2, 1.3, -0.8],
        [2.0, 0.2, 0.0],
    ]
)


SMALL = {
    "title": "Small",
    "layout": "md17",
    "molecules": ["ethanol"],
    "delta": [16],
    "timesteps": [4],
    "counts": {"train": 30, "validation": 20, "test": 40},
    "margin": 10,
    "rows": ["tiny"],
    "more_rows": {
        "tiny": {
            "model": "egno",
            "label": "tiny EGNO",
            "settings": {"width": 8, "layers": 1},
            "batch_size": 10,
        }
    },
    "seeds": [0, 1],
    "budget": {"steps": 30},
    "published": {"steps": 60},
}
"""A suite of one task and one row that trains in seconds."""


def wobble(frames: int, seed: int = 0, turning: float = 0.0) -> NDArray:
    """A molecule whose atoms swing about their places, ``[T, 9, 3]``, and that may turn."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None]
    rates, phases = rng.uniform(0.02, 0.3, SHAPE.shape), rng.uniform(0, 6.28, SHAPE.shape)
    x = SHAPE + 0.08 * np.sin(rates * time + phases)
    if turning:
        x = np.einsum("tij,tnj->tni", Rotation.from_euler("z", turning * time[:, 0]).as_matrix(), x)
    return x


def write_md17(path: Path, frames: int = 400, **changes: object) -> NDArray:
    """MD17's layout; returns the positions."""
    x = wobble(frames)
    arrays = {
        "type": "d",
        "name": "ethanol",
        "z": ETHANOL.astype(np.uint8),
        "R": x,
        "E": np.zeros((frames, 1)),
        "F": np.zeros_like(x),
        "theory": "none",
        "r_unit": "Ang",
        "e_unit": "kcal/mol",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(arrays | changes))
    return x


def write_rmd17(path: Path, frames: int = 400, kept: NDArray | None = None) -> NDArray:
    """rMD17's layout: some of the frames, shuffled; returns all positions in time order."""
    x = wobble(frames)
    order = np.random.default_rng(1).permutation(np.arange(frames) if kept is None else kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    zeros = np.zeros(len(order))
    np.savez(
        path,
        nuclear_charges=ETHANOL,
        coords=x[order],
        energies=zeros,
        forces=np.zeros_like(x[order]),
        old_indices=order,
        old_energies=zeros,
        old_forces=np.zeros_like(x[order]),
    )
    return x
