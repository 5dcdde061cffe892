"""Jumps of an operator: as it makes them, reversible in time, or reversible on average."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from ase_atom.operator.protocol import OperatorLike
from ase_atom.operator.torch_settings import without_gradients
from ase_atom.propagation.ensembles import CachedPotential
from ase_atom.propagation.mechanics import Array, Bodies, array, tensor
from ase_atom.propagation.stochastic import Noise
from ase_atom.state import PhaseState

ROUNDS = 3
"""Corrections of the second half of a reversible jump."""

TRUSTED = 0.1
"""Relative change of velocities in the last of these up to which they are made."""

OFTEN = 4
"""Passes per jump in which a jump that is reversible on average is corrected each time."""

LARGEST = 0.5
"""Relative change of velocities by such a correction; a larger one is made as large as this."""


@without_gradients
@np.errstate(over="ignore", invalid="ignore")  # a molecule that breaks is for the guard to find
def jump(operator: OperatorLike, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the path of one jump, with the centre of mass moved exactly.

    The operator computes in its own precision; what that rounds off the uniform motion of the
    centre of mass is put back here in the state's.

    Parameters
    ----------
    operator
        Maps a state and times to frames.
    state
        The molecules, ``[B, N]``.
    times
        Times from the state in fs, ``[T]``, from 0 to the operator's horizon.

    Returns
    -------
    Positions in Å and velocities in Å/fs, ``[B, T, N, 3]``, zero on padding.
    """
    positions, velocities = operator(state, times)
    if operator.moves_centre_exactly:
        return positions, velocities
    bodies = Bodies.of(state)
    fractions = bodies.fractions[:, None]
    x, v = array(positions), array(velocities)
    x_cm, v_cm = (bodies.mean(array(side))[:, None] for side in (state.positions, state.velocities))
    x = x + (x_cm + v_cm * array(times)[:, None, None] - fractions @ x)
    v = v + (v_cm - fractions @ v)
    if bodies.mask is not None:
        x, v = x * bodies.mask[:, None], v * bodies.mask[:, None]
    return tensor(x, positions), tensor(v, velocities)


@without_gradients
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def reversible_jump(
    operator: OperatorLike,
    state: PhaseState,
    times: Tensor,
    potential: CachedPotential | None = None,
    keeps_momentum: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the path of one jump that is reversible in time.

    Exact dynamics retrace their path when all velocities are turned round: with R that turn and Φ
    the jump, RΦRΦ is the identity. A learned Φ comes back to z + δ instead. The least-squares
    guess of a vibration whose phase it does not know for sure has too small an amplitude, so δ is
    above all a loss, a thousandth a jump perhaps, but the same one jump after jump.

    A jump of more than one pass of the network is divided: Φ makes its first half, and the second
    is the adjoint of Φ, that is, the jump whose way back by Φ ends in the middle. Such a
    composition is reversible, and so gains and loses nothing on average (Hairer, Lubich and
    Wanner, Geometric Numerical Integration, chapters II.3, V and XI). The adjoint is found by
    `ROUNDS` corrections, each of which reduces what is left of δ by about the relative error of Φ.
    Angular momentum and energy, where they are kept, are brought to those of the start in the
    middle, as `conservation` does it. At the end alone that would make the jump irreversible, and
    the energy of all vibrations would gather in a few.

    A jump of one pass starts from z − δ/2 instead, which shares δ out between the way there and
    the way back: it is reversible to second order in δ.

    As many passes as in three jumps, or in four where the jump is divided. Arguments and results
    are those of `jump`, and times end with the jump's end.

    Parameters
    ----------
    potential
        Energy of a divided jump that is to keep the total energy.
    keeps_momentum
        Whether a divided jump is to keep the angular momentum.
    """
    if float(times[-1]) > operator.piece * (1 + 1e-9):
        return _divided_jump(operator, state, times, potential, keeps_momentum)
    back = _turned(operator, _turned(operator, state, times[-1:]), times[-1:])
    x, v = array(state.positions), array(state.velocities)
    x, v = 1.5 * x - 0.5 * array(back.positions), 1.5 * v - 0.5 * array(back.velocities)
    return jump(operator, _moved(state, x, v), times)


@without_gradients
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def jump_reversible_on_average(
    operator: OperatorLike, state: PhaseState, times: Tensor, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Return the path of one jump, whose start is now and then moved to give back what jumps gain.

    One pass Φ of the network comes back to z + δ from its way there and back, see
    `reversible_jump`. A vibration that gains in each pass gains half of δ. A jump of n passes that
    starts from z − aδ, with a chance of p and a = n / 2p, gains nothing on average, to first order
    in δ. What is left is noise, which a thermostat takes up as it does its own. The chance is
    n / `OFTEN`, so that half as many passes are added on average.

    Arguments and results are those of `jump`. Paths have no step at the start.

    Parameters
    ----------
    noise
        Decides, by one normal deviate for each molecule.
    """
    end = float(times[-1])
    length = min(operator.piece, end)
    passes = end / length
    chance = min(1.0, passes / OFTEN)
    hit = ndtr(array(noise(torch.Size((state.batch_size, 1, 1)))))[:, 0, 0] < chance
    if not hit.any():
        return jump(operator, state, times)
    rows = torch.from_numpy(hit.nonzero()[0]).to(state.device)
    some = state if hit.all() else state.select(rows)
    there = times.new_tensor([length])
    back = _turned(operator, _turned(operator, some, there), there)
    x, v = array(state.positions), array(state.velocities)
    moved_x, moved_v = np.zeros_like(x), np.zeros_like(v)
    moved_x[hit] = _number(x[hit] - array(back.positions))
    moved_v[hit] = _number(v[hit] - array(back.velocities))
    bodies = Bodies.of(state)
    size = np.sqrt(bodies.kinetic_energy(moved_v) / bodies.kinetic_energy(v))
    share = np.minimum(0.5 * passes / chance, _number(LARGEST / size))[:, None, None]
    moved_x, moved_v = share * moved_x, share * moved_v
    positions, velocities = jump(operator, _moved(state, x + moved_x, v + moved_v), times)
    over_x, over_v = _faded(moved_x, moved_v, array(times), end)
    return positions - tensor(over_x, positions), velocities - tensor(over_v, velocities)


def _divided_jump(
    operator: OperatorLike,
    state: PhaseState,
    times: Tensor,
    potential: CachedPotential | None,
    keeps_momentum: bool,
) -> tuple[Tensor, Tensor]:
    """The path of Φ, then of its adjoint, each over half of the jump."""
    half = times[-1:] / 2
    first, second = times[times < half], times[times >= half] - half
    positions, velocities = jump(operator, state, torch.cat([first, half]))
    # What is no number any more must not upset the linear algebra of the molecules beside it.
    rows = finite_rows(positions[:, -1], velocities[:, -1])
    middle = state.replace(positions=positions[:, -1], velocities=velocities[:, -1])
    middle = choose(rows, middle, state)
    x, v, finite = array(middle.positions), array(middle.velocities), rows.cpu().numpy()
    bodies, missed_x, missed_v, kept = Bodies.of(state), np.zeros_like(x), np.zeros_like(v), v
    x0, v0 = array(state.positions), array(state.velocities)
    start_momentum, momentum = bodies.angular_momentum(x0, v0), bodies.angular_momentum(x, v)
    start_kinetic, kinetic = bodies.kinetic_energy(v0), bodies.kinetic_energy(v)
    before = None if potential is None else array(potential(state))
    for place in range(ROUNDS):
        end = _turned(operator, _moved(state, x + missed_x, kept + missed_v), half)
        back = _turned(operator, end, half)
        missed_x = missed_x + x - array(back.positions)
        off = kept - array(back.velocities)
        missed_v = missed_v + off
        trusted = _number(bodies.kinetic_energy(off) / bodies.kinetic_energy(kept)) < TRUSTED**2
        if not place:
            continue  # what Φ gains or loses itself is in the first end: rounds take it out
        x1, v1 = array(end.positions), -array(end.velocities)
        kept = v
        if keeps_momentum:
            momentum = momentum + _number(start_momentum - bodies.angular_momentum(x1, v1))
            kept = bodies.with_angular_momentum(x, v, momentum)
        if potential is not None:
            gain = before - array(potential.aside(end))
            kinetic = kinetic + _number(start_kinetic + gain - bodies.kinetic_energy(v1))
            kept = bodies.with_kinetic_energy(x, kept, kinetic)
    # Where Φ is too far off for the corrections to settle, the second half is Φ's as it is.
    settled = trusted[:, None, None]
    moved_x = np.where(settled, missed_x, 0.0)
    moved_v = np.where(settled, kept + missed_v - v, 0.0)
    if not finite.all():
        moved_x[~finite], moved_v[~finite] = math.nan, math.nan
    later_x, later_v = jump(operator, _moved(state, x + moved_x, v + moved_v), second)
    over_x, over_v = _faded(moved_x, moved_v, array(second), float(half))
    return (
        torch.cat([positions[:, :-1], later_x - tensor(over_x, later_x)], dim=1),
        torch.cat([velocities[:, :-1], later_v - tensor(over_v, later_v)], dim=1),
    )


def _faded(x: Array, v: Array, times: Array, end: float) -> tuple[Array, Array]:
    """The cubic path and its derivative from a displacement and a velocity to none of either.

    Less it, a path that begins beside another goes on from that one without a step, and ends where
    it would: a step in the middle of each jump would be a line in every spectrum.
    """
    s = (times / end)[:, None, None]
    x, v = x[:, None], v[:, None]
    path = x * (1 - 3 * s**2 + 2 * s**3) + v * end * (s - 2 * s**2 + s**3)
    return path, x * (6 * s**2 - 6 * s) / end + v * (1 - 4 * s + 3 * s**2)


def _turned(operator: OperatorLike, start: PhaseState, end: Tensor) -> PhaseState:
    """The end of a jump with its velocities turned round."""
    positions, velocities = jump(operator, start, end)
    return _moved(start, array(positions)[:, -1], -array(velocities)[:, -1])


def _moved(state: PhaseState, x: Array, v: Array) -> PhaseState:
    return state.replace(
        positions=tensor(x, state.positions), velocities=tensor(v, state.velocities)
    )


def _number(values: Array) -> Array:
    """Values with zeros where there is no finite number."""
    found: Array = np.where(np.isfinite(values), values, 0.0)
    return found


def finite_rows(x: Tensor, v: Tensor) -> Tensor:
    """Whether all numbers of a molecule are finite, ``[B]``."""
    return (torch.isfinite(x) & torch.isfinite(v)).flatten(1).all(dim=1)


def choose(rows: Tensor, yes: PhaseState, no: PhaseState) -> PhaseState:
    """Take whole molecules, by a boolean ``[B]``, from one state or the other."""
    pick = rows[:, None, None]
    return no.replace(
        positions=torch.where(pick, yes.positions, no.positions),
        velocities=torch.where(pick, yes.velocities, no.velocities),
    )
