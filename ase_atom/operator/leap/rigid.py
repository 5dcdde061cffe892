"""Where a molecule is and how it is turned after a lag: Langevin dynamics of a rigid body.

Friction that acts on every atom alike, γ m v, acts on centre of mass and rotation with the same γ.
The centre of mass follows the exact linear map. The angular velocity in the molecule's own axes is
taken as three Ornstein-Uhlenbeck processes, each with its own moment of inertia; rotations by its
integral over `STEP` follow each other. What is left out, the gyroscopic coupling of the three, is
of the order of the square of ω/γ.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

STEP = 40.0
"""fs; a molecule turns by less than a fifth of a radian in it."""

LEAST_MOMENT = 1e-3
"""amu Å²: about the axis of a linear molecule there is no rotation."""

Draw = Callable[[torch.Size], Tensor]


def moved_centre(
    state: PhaseState, lag: float, temperature: float, friction: float, draw: Draw
) -> Tensor:
    """Draw the centre of mass after a lag, ``[B, 3]`` in Å.

    Parameters
    ----------
    state
        The molecules, whose velocities count.
    lag, temperature, friction
        fs, K and 1/fs.
    draw
        Source of standard normal numbers.
    """
    centre, drift = state.center_of_mass()
    spread = thermal(state.masses.sum(1, keepdim=True), temperature)
    reach, width, _ = integrated(lag, friction)
    return centre + reach * drift + spread * width * draw(drift.shape).to(drift)


def turned(
    state: PhaseState, lag: float, temperature: float, friction: float, draw: Draw
) -> Tensor:
    """Draw rotations after a lag, matrices ``[B, 3, 3]`` that act on column vectors.

    Parameters
    ----------
    state
        The molecules; their angular momenta count.
    lag, temperature, friction, draw
        As for `moved_centre`.
    """
    arms, masses = state.about_center().double(), state.masses.double()
    arms = arms * state.mask.unsqueeze(-1)
    squares = (masses.unsqueeze(-1) * arms).transpose(1, 2) @ arms
    inertia = torch.diag_embed(squares.diagonal(dim1=1, dim2=2).sum(1, keepdim=True).expand(-1, 3))
    moments, axes = torch.linalg.eigh(inertia - squares)
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    free = moments > LEAST_MOMENT
    safe = torch.where(free, moments, torch.ones_like(moments))
    momentum = (axes.transpose(1, 2) @ state.angular_momentum().double().unsqueeze(-1)).squeeze(-1)
    spin = momentum / safe * free
    spread = thermal(safe, temperature) * free

    count = max(1, math.ceil(lag / STEP))
    step = lag / count
    reach, width, along = integrated(step, friction)
    keep = math.exp(-friction * step)
    kicks = draw(torch.Size((2, count, *spin.shape))).to(spin)
    # The kick of the velocity, and that of the angle, of which a part goes with the former.
    strength = math.sqrt(-math.expm1(-2 * friction * step))
    share = along / strength
    rest = math.sqrt(max(width * width - share * share, 0.0))
    bends = spread * strength * kicks[0]
    powers = torch.arange(count, dtype=torch.float64)
    fading = (keep ** (powers[:, None] - 1 - powers).clamp(min=0)).tril(-1)
    before = keep ** powers[:, None, None] * spin + torch.einsum(
        "st,tbx->sbx", fading.to(spin), bends
    )
    angles = reach * before + spread * (share * kicks[0] + rest * kicks[1])
    own = as_matrices(product(quaternions(angles)))
    turned: Tensor = axes @ own @ axes.transpose(1, 2)
    return turned


def integrated(time: float, friction: float) -> tuple[float, float, float]:
    """Moments of the integral of an Ornstein-Uhlenbeck process of unit width over a time.

    Returns
    -------
    Its part of the process at the start, its own width, and its covariance with the process's
    noise at the end.
    """
    x = friction * time
    gone = -math.expm1(-x)
    squared = 2 * x - 3 + 4 * math.exp(-x) - math.exp(-2 * x)
    if x < 1e-2:  # where the terms cancel
        squared = 2 / 3 * x**3 - x**4 / 2
    return gone / friction, math.sqrt(max(squared, 0.0)) / friction, gone * gone / friction


def thermal(masses: Tensor, temperature: float) -> Tensor:
    """√(k_B T / m) for masses in amu or moments in amu Å²: Å/fs or rad/fs."""
    return (KB * temperature / AMU_A2_FS2_IN_EV / masses).sqrt()


def quaternions(angles: Tensor) -> Tensor:
    """Unit quaternions ``[..., 4]`` of rotation vectors ``[..., 3]``, real part first."""
    half = 0.5 * angles.norm(dim=-1, keepdim=True)
    return torch.cat([half.cos(), 0.5 * angles * torch.sinc(half / math.pi)], dim=-1)


def product(chain: Tensor) -> Tensor:
    """Product of quaternions ``[S, ..., 4]`` in their order, pairs first: ``[..., 4]``."""
    while len(chain) > 1:
        last = chain[-1:] if len(chain) % 2 else chain[:0]
        left, right = chain[0 : len(chain) - 1 : 2], chain[1::2]
        chain = torch.cat([_times(left, right), last])
    return chain[0]


def _times(a: Tensor, b: Tensor) -> Tensor:
    real = a[..., :1] * b[..., :1] - (a[..., 1:] * b[..., 1:]).sum(-1, keepdim=True)
    turn = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:]
    return torch.cat([real, turn + torch.linalg.cross(a[..., 1:], b[..., 1:])], dim=-1)


def as_matrices(rotations: Tensor) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` of quaternions of any length."""
    w, x, y, z = (rotations / rotations.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    ]
    matrices: Tensor = torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
    return matrices
