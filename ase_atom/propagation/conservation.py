"""What an isolated molecule keeps, restored by the smallest change of the velocities."""

from __future__ import annotations

from torch import Tensor

from ase_atom.propagation import mechanics
from ase_atom.propagation.mechanics import Bodies, array, tensor
from ase_atom.state import PhaseState


def inertia_tensor(state: PhaseState) -> Tensor:
    """Return the inertia tensor about the centre of mass in amu Å², ``[B, 3, 3]``."""
    arms = Bodies.of(state).arms(array(state.positions))
    return tensor(mechanics.inertia(*arms), state.positions)


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
    component along the axis of a linear molecule (see `mechanics.LINEAR_TOLERANCE`) is zero.
    """
    arms = Bodies.of(state).arms(array(state.positions))
    omega = mechanics.spin(mechanics.inertia(*arms), array(angular_momentum))
    return tensor(omega, state.positions)


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
    x, v = array(state.positions), array(state.velocities)
    v = Bodies.of(state).with_angular_momentum(x, v, array(target))
    return state.replace(velocities=tensor(v, state.velocities))


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
    x, v = array(state.positions), array(state.velocities)
    v = Bodies.of(state).with_kinetic_energy(x, v, array(total) - array(potential))
    return state.replace(velocities=tensor(v, state.velocities))
