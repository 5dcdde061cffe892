"""The animated overlay: what the page's viewer is given to draw."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.molecule.coordinates import Coordinates
from ase_atom.analysis.report.figures import COLOURS

_MOST_FRAMES = 300
_LEAST_FRAMES = 60
_MOST_NUMBERS = 250_000  # coordinates of either side: half a megabyte on the page
_FULL = 32000  # the radius of the scene in the units of its coordinates


def make_scene(
    trajectory: Trajectory, reference: Trajectory, coordinates: Coordinates
) -> dict[str, Any]:
    """Frames of the first run of both at common times, superposed on the reference's first.

    Returns
    -------
    Plain numbers and strings for JSON; coordinates as base64 of 16-bit parts of the scene's radius.
    """
    most = _MOST_NUMBERS // (3 * len(trajectory.numbers))
    most = min(_MOST_FRAMES, max(_LEAST_FRAMES, most))
    times, picks = _common_frames(trajectory, reference, most)
    target = reference.segments[0].positions[picks[1][0]]
    target = target - target.mean(0)
    paths = [
        side.segments[0][frames].aligned(target).positions
        for side, frames in zip((trajectory, reference), picks, strict=True)
    ]
    radius = max(float(np.linalg.norm(path, axis=-1).max()) for path in paths)
    return {
        "numbers": trajectory.numbers.tolist(),
        "bonds": coordinates.bonds.tolist(),
        "radii": (0.35 * covalent_radii[trajectory.numbers] + 0.1).round(3).tolist(),
        "colours": [_hex(jmol_colors[number]) for number in trajectory.numbers],
        "radius": radius,
        "unit": radius / _FULL,
        "times": times.round(4).tolist(),
        "digits": 0 if np.allclose(times, times.round()) else 2,
        "models": [
            {
                "name": name,
                "frames": _packed(path, radius),
                "colour": COLOURS[name],
                "opacity": opacity,
            }
            for name, path, opacity in zip(
                ("trajectory", "reference"), paths, (0.95, 0.6), strict=True
            )
        ],
    }


def _common_frames(
    trajectory: Trajectory, reference: Trajectory, most: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Times in fs and the frames of either first run nearest to them."""
    lengths = [len(side.segments[0]) for side in (trajectory, reference)]
    steps = [side.interval for side in (trajectory, reference) if side.interval is not None]
    if len(steps) < 2:
        count = min(*lengths, most)
        return np.arange(count, dtype=float), (np.arange(count), np.arange(count))
    end = min((n - 1) * step for n, step in zip(lengths, steps, strict=True))
    # Slow enough to follow by eye: a bond's vibration takes ten frames and more.
    step = max(*steps, end / most if end > 4 * most * max(steps) else 0.0)
    times = step * np.arange(min(most, int(end / step + 1e-6) + 1))
    ours, theirs = (np.rint(times / one).astype(int) for one in steps)
    return times, (ours, theirs)


def _packed(path: np.ndarray, radius: float) -> str:
    whole = np.rint(path * (_FULL / radius)).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode()


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour)
