"""One step of an ensemble: the operator's jump between two acts of the ensemble."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ase_atom.operator.protocol import OperatorLike
from ase_atom.operator.torch_settings import without_gradients
from ase_atom.propagation.ensembles import Ensemble, Step
from ase_atom.propagation.mechanics import Bodies, array, set_last, tensor
from ase_atom.state import PhaseState

NUDGE = 0.1
"""Relative change of velocities up to which a jump goes on; past it the molecule starts afresh."""


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
def reversible_jump(
    operator: OperatorLike, state: PhaseState, times: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the path of one jump that is reversible in time to second order in its error.

    Exact dynamics retrace their path when all velocities are turned round: with R that turn and Φ
    the jump, RΦRΦ is the identity. A learned Φ comes back to z + δ instead. The least-squares
    guess of a vibration whose phase it does not know for sure has too small an amplitude, so δ is
    above all a loss, a thousandth a jump perhaps, but the same one jump after jump. Starting from
    z − δ/2 shares it out evenly between the way there and the way back, which leaves none (on the
    symmetry of maps and what it does for their long-time behaviour see Hairer, Lubich and Wanner,
    Geometric Numerical Integration, chapters V and XI).

    Three passes of the operator. Arguments and results are those of `jump`, and times end with the
    jump's end.
    """
    end = times[-1:]

    def turned(start: PhaseState) -> PhaseState:
        positions, velocities = jump(operator, start, end)
        return start.replace(
            positions=tensor(array(positions)[:, 0], positions),
            velocities=tensor(-array(velocities)[:, 0], velocities),
        )

    back = turned(turned(state))
    x, v = array(state.positions), array(state.velocities)
    shared = state.replace(
        positions=tensor(1.5 * x - 0.5 * array(back.positions), state.positions),
        velocities=tensor(1.5 * v - 0.5 * array(back.velocities), state.velocities),
    )
    return jump(operator, shared, times)


@without_gradients
@np.errstate(over="ignore", invalid="ignore")
def advance(
    operator: OperatorLike,
    ensemble: Ensemble,
    state: PhaseState,
    offsets: Tensor,
    step: Step,
    entered: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the frames of one step of an ensemble.

    Parameters
    ----------
    operator
        Maps a state and times to frames.
    ensemble
        What happens before and after the jump.
    state
        The molecules, ``[B, N]``.
    offsets
        Times of the frames in fs from the state, ``[T]``, rising; the last is the grid's next
        point, where the jump ends.
    step
        The grid's stride, noise and potential.
    entered
        The state lies inside a step whose start is past: the jump goes on from it to the next
        point of the grid, without `Ensemble.enter`.

    Returns
    -------
    Positions in Å and velocities in Å/fs, ``[B, T, N, 3]``. The last frame is the state on the
    grid, after `Ensemble.leave`; those before lie on the path of the jump.
    """
    start = state if entered else ensemble.enter(state, step)
    make = reversible_jump if ensemble.reversible else jump
    times = offsets if start.positions.is_cpu else offsets.to(start.device)
    positions, velocities = make(operator, start, times)
    return finish(ensemble, start, positions, velocities, step)


@np.errstate(over="ignore", invalid="ignore")
def finish(
    ensemble: Ensemble, start: PhaseState, positions: Tensor, velocities: Tensor, step: Step
) -> tuple[Tensor, Tensor]:
    """Return the frames of a step with its last brought to the grid by `Ensemble.leave`.

    Parameters
    ----------
    ensemble, step
        As in `advance`.
    start
        Where the jump began, after `Ensemble.enter`.
    positions, velocities
        The path, ``[B, T, N, 3]``; the last velocities are overwritten.
    """
    x, v = array(positions)[:, -1], array(velocities)[:, -1]
    end = start.replace(positions=tensor(x, positions), velocities=tensor(v, velocities))
    if Bodies.of(start).are_finite(x, v):
        set_last(velocities, ensemble.leave(end, start, step).velocities)
        return positions, velocities
    # A jump that ended in no number would upset the linear algebra of the conservation laws.
    finite = torch.isfinite(end.positions) & torch.isfinite(end.velocities)
    finite = finite.flatten(1).all(dim=1)
    end = ensemble.leave(choose(finite, end, start), start, step)
    velocities[:, -1] = torch.where(finite[:, None, None], end.velocities, velocities[:, -1])
    return positions, velocities


@without_gradients
def carry_on(
    ensemble: Ensemble, changed: PhaseState, left: PhaseState, start: PhaseState, step: Step
) -> PhaseState:
    """Return the state from which to decode the rest of a jump that was changed from outside.

    A nudge gets the corrections that the jump would have had at its end, those of the frame before
    the nudge. Without them, what the path of a jump gains or loses would add up where jump after
    jump is cut. A larger change of the momenta is a new start, taken as it is.

    Parameters
    ----------
    ensemble
        What a jump is to keep.
    changed, left
        The molecule as it is and as the jump left it, ``[1, N]``.
    start
        Where the jump began.
    step
        The grid's stride, noise and potential.
    """
    change = (changed.velocities - left.velocities).norm()
    if not bool(change < NUDGE * left.velocities.norm()):
        return changed
    kept = ensemble.conserve(left, start, step)
    return changed.replace(velocities=changed.velocities + kept.velocities - left.velocities)


def choose(rows: Tensor, yes: PhaseState, no: PhaseState) -> PhaseState:
    """Take whole molecules, by a boolean ``[B]``, from one state or the other."""
    pick = rows[:, None, None]
    return no.replace(
        positions=torch.where(pick, yes.positions, no.positions),
        velocities=torch.where(pick, yes.velocities, no.velocities),
    )
