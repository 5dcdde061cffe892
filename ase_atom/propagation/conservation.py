"""What an isolated molecule keeps, restored by the smallest change of the velocities."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.state import PhaseState

LINEAR_TOLERANCE = 1e-3
"""Principal moments of inertia below this fraction of the largest count as zero.

About such an axis a linear, or very nearly linear, molecule has next to no inertia; a rigid
rotation there would need huge angular velocities to carry a small angular momentum, so that
component is left alone.
"""


def inertia_tensor(state: PhaseState) -> Tensor:
    """Return the inertia tensor about the centre of mass in amu Å², ``[B, 3, 3]``."""
    x = state.about_center()
    outer = (state.masses.unsqueeze(-1) * x).transpose(1, 2) @ x
    trace = outer.diagonal(dim1=1, dim2=2).sum(-1)
    return trace[:, None, None] * torch.eye(3, dtype=x.dtype, device=x.device) - outer


def angular_velocity(state: PhaseState, angular_momentum: Tensor) -> Tensor:
    """Return the rigid rotation that carries an angular momentum.

    Parameters
    ----------
    state
        The molecules.
    angular_momentum
        amu Å²/fs about the centre of mass, ``[B, 3]``.

    Returns
    -------
    ω = I⁺ L in rad/fs, ``[B, 3]``, with the pseudo-inverse of the inertia tensor, so that the
    component along the axis of a linear molecule (see `LINEAR_TOLERANCE`) is zero.
    """
    moments, axes = torch.linalg.eigh(inertia_tensor(state))
    inverse = torch.where(moments > LINEAR_TOLERANCE * moments[:, -1:], 1.0 / moments, 0.0)
    about = (angular_momentum.unsqueeze(1) @ axes) * inverse.unsqueeze(1)
    omega: Tensor = (about @ axes.transpose(1, 2)).squeeze(1)
    return omega


def _rotation(state: PhaseState, omega: Tensor) -> Tensor:
    """Return the velocities ω × r about the centre of mass, ``[B, N, 3]``, zero on padding."""
    x = state.about_center()
    velocities: Tensor = torch.linalg.cross(omega.unsqueeze(1).expand_as(x), x)
    return velocities * state.mask.unsqueeze(-1)


def restore_angular_momentum(state: PhaseState, target: Tensor) -> PhaseState:
    """Add the rigid rotation that brings the angular momentum to a target.

    Of all changes of velocity with that effect it is the one of least kinetic energy, and it
    leaves the linear momentum and the shape's motion alone.

    Parameters
    ----------
    state
        The molecules.
    target
        Angular momentum about the centre of mass in amu Å²/fs, ``[B, 3]``.
    """
    omega = angular_velocity(state, target - state.angular_momentum())
    return state.replace(velocities=state.velocities + _rotation(state, omega))


def restore_energy(state: PhaseState, potential: Tensor, total: Tensor) -> PhaseState:
    """Scale the vibrational velocities so that kinetic and potential energy add up to a total.

    The velocities are split into translation, rigid rotation and the rest, which are orthogonal
    in the kinetic energy; only the rest is scaled, so both momenta stay. If the potential alone
    leaves nothing for it, the vibration is stopped, which is the nearest that velocities can do.

    Parameters
    ----------
    state
        The molecules.
    potential, total
        eV, ``[B]``.
    """
    _, drift = state.center_of_mass()
    rigid = _rotation(state, angular_velocity(state, state.angular_momentum()))
    rigid = rigid + drift.unsqueeze(1) * state.mask.unsqueeze(-1)
    vibration = state.velocities - rigid
    available = total - potential - state.replace(velocities=rigid).kinetic_energy()
    present = state.replace(velocities=vibration).kinetic_energy()
    tiny = torch.finfo(state.dtype).tiny
    factor = (available.clamp(min=0) / present.clamp(min=tiny)).sqrt()
    factor = torch.where(present > tiny, factor, torch.ones_like(factor)).to(state.dtype)
    return state.replace(velocities=rigid + factor[:, None, None] * vibration)
