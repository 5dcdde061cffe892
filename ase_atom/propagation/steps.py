"""One step of an ensemble: the operator's jump between two acts of the ensemble."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ase_atom.operator.protocol import OperatorLike
from ase_atom.operator.torch_settings import without_gradients
from ase_atom.propagation.ensembles import CachedPotential, Ensemble, Step
from ase_atom.propagation.jumps import (
    choose,
    finite_rows,
    jump,
    jump_reversible_on_average,
    reversible_jump,
    takes_several_passes,
)
from ase_atom.propagation.mechanics import Bodies, array, set_last, tensor
from ase_atom.state import PhaseState

NUDGE = 0.1
"""Relative change of velocities up to which a jump goes on; past it the molecule starts afresh."""


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
    times = offsets if start.positions.is_cpu else offsets.to(start.device)
    positions, velocities = decode(operator, ensemble, start, times, step)
    return finish(ensemble, start, positions, velocities, step)


def decode(
    operator: OperatorLike, ensemble: Ensemble, start: PhaseState, times: Tensor, step: Step
) -> tuple[Tensor, Tensor]:
    """Return the path of one jump, as far reversible in time as the ensemble asks for.

    Arguments are those of `advance`, and the path that of `jumps.jump`.
    """
    if ensemble.reversible:
        potential = step.potential if ensemble.energy_correction else None
        if not (isinstance(potential, CachedPotential) and potential.is_of(operator)):
            potential = None  # one that another pays for is asked once a jump, at its end
        adjoint_first = step.number % 2 == 1
        kept = potential, ensemble.keeps_momentum
        return reversible_jump(operator, start, times, *kept, adjoint_first)
    # By the usual stride, too: shorter ones, of one pass, gain or lose as much in a time.
    usual = 0.0 if operator.card is None else operator.card.stride_fs
    longest = max(float(times[-1]), usual)
    if ensemble.reversible is None and takes_several_passes(operator, longest):
        return jump_reversible_on_average(operator, start, times, step.noise)
    return jump(operator, start, times)


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
    finite = finite_rows(end.positions, end.velocities)
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
