"""Jumps of an operator: as it makes them, reversible in time, or reversible on average."""

from __future__ import annotations

import math
from dataclasses import dataclass

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

ROUNDS, MOST_ROUNDS = 3, 5
"""Corrections that find the adjoint half of a jump: of every molecule, and of a hard one."""

RESTORED = 2
"""Corrections of what is to be kept, where the second half is Φ itself; else `ROUNDS` do both."""

CLOSE = 1e-3
"""What is missed before a correction, relative to the velocities, that makes it the last one."""

TRUSTED = 0.1
"""The same for the last one that there is, beyond which none is made."""

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
    adjoint_first: bool = False,
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
    `ROUNDS` corrections, or by up to `MOST_ROUNDS` where Φ errs much.
    Angular momentum and energy, where they are kept, are brought to those of the start in the
    middle, as `conservation` does it. At the end alone that would make the jump irreversible, and
    the energy of all vibrations would gather in a few.

    The adjoint may come first, too. A vibration of which a jump is half a period, or any number of
    them, meets the same error at the same phase in each jump, and gains without bounds: such
    resonances limit every method of long steps (Schlick, Barth and Mandziuk, Annu. Rev. Biophys.
    Biomol. Struct. 26, 181 (1997)). The error of one order has the opposite sign of the other's for
    one and three half periods, so runs take the orders in turn. The resonances that this leaves, at
    a quarter of a period and its odd multiples, are half as strong.

    A jump of one pass starts from z − δ/2 instead, which shares δ out between the way there and
    the way back: it is reversible to second order in δ.

    As many passes as in three jumps. Where the jump is divided, as in four or five, and as in up to
    seven for molecules for which Φ errs much. Arguments and results are those of `jump`, and times
    end with the jump's end.

    Parameters
    ----------
    potential
        Energy of a divided jump that is to keep the total energy.
    keeps_momentum
        Whether a divided jump is to keep the angular momentum.
    adjoint_first
        Whether a divided jump begins with the adjoint.
    """
    if takes_several_passes(operator, float(times[-1])):
        start = _Start.of(state, potential, keeps_momentum)
        return _divided_jump(operator, start, times, adjoint_first)
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
    return _from_beside(operator, state, share * moved_x, share * moved_v, times)


def _divided_jump(
    operator: OperatorLike, start: _Start, times: Tensor, adjoint_first: bool
) -> tuple[Tensor, Tensor]:
    """The path of Φ and of its adjoint, one after the other, each over half of the jump."""
    half = times[-1:] / 2
    first, second = torch.cat([times[times < half], half]), times[times >= half] - half
    if adjoint_first:
        positions, velocities = _adjoint(operator, start.free(), start.state, first)
    else:
        positions, velocities = jump(operator, start.state, first)
    # What is no number any more must not upset the linear algebra of the molecules beside it.
    rows = finite_rows(positions[:, -1], velocities[:, -1])
    middle = start.state.replace(positions=positions[:, -1], velocities=velocities[:, -1])
    middle = choose(rows, middle, start.state)
    onwards = _restored if adjoint_first else _adjoint
    later_x, later_v = onwards(operator, start, middle, second)
    lost = ~rows[:, None, None, None]
    return (
        torch.cat([positions[:, :-1], later_x.masked_fill(lost, math.nan)], dim=1),
        torch.cat([velocities[:, :-1], later_v.masked_fill(lost, math.nan)], dim=1),
    )


def _adjoint(
    operator: OperatorLike, start: _Start, state: PhaseState, times: Tensor
) -> tuple[Tensor, Tensor]:
    """The path of Φ's adjoint from a state, which ends with what the start has to keep."""
    x, v = array(state.positions), array(state.velocities)
    moved_x, moved_v = _towards(operator, start, x, v, times[-1:])
    return _from_beside(operator, state, moved_x, moved_v, times)


def _restored(
    operator: OperatorLike, start: _Start, state: PhaseState, times: Tensor
) -> tuple[Tensor, Tensor]:
    """The path of Φ from a state, which ends with what the start has to keep."""
    x, v = array(state.positions), array(state.velocities)
    kept = v
    for _ in range(RESTORED if start.keeps_anything else 0):
        kept = start.kept(x, v, kept, _turned(operator, _moved(state, x, kept), times[-1:]))
    return _from_beside(operator, state, np.zeros_like(x), kept - v, times)


def _from_beside(
    operator: OperatorLike, state: PhaseState, moved_x: Array, moved_v: Array, times: Tensor
) -> tuple[Tensor, Tensor]:
    """The path from a state to the end of a jump that begins beside it."""
    x, v = array(state.positions) + moved_x, array(state.velocities) + moved_v
    positions, velocities = jump(operator, _moved(state, x, v), times)
    over_x, over_v = _faded(moved_x, moved_v, array(times), float(times[-1]))
    return positions - tensor(over_x, positions), velocities - tensor(over_v, velocities)


@dataclass(frozen=True)
class _Start:
    """Where a divided jump begins, and what it is to keep.

    Attributes
    ----------
    state
        The molecules.
    potential
        Of those that are to keep their energy.
    total
        Kinetic and potential energy in eV, ``[B]``; the kinetic alone without a potential.
    momentum
        Angular momentum in amu Å²/fs, ``[B, 3]``; None where it is not kept.
    """

    state: PhaseState
    potential: CachedPotential | None
    total: Array
    momentum: Array | None

    @classmethod
    def of(cls, state: PhaseState, potential: CachedPotential | None, momentum: bool) -> _Start:
        """Take down what the molecules have."""
        bodies, x, v = Bodies.of(state), array(state.positions), array(state.velocities)
        total = bodies.kinetic_energy(v)
        if potential is not None:
            total = total + array(potential(state))
        return cls(state, potential, total, bodies.angular_momentum(x, v) if momentum else None)

    @property
    def keeps_anything(self) -> bool:
        """Whether there is an energy or a momentum to keep."""
        return self.potential is not None or self.momentum is not None

    def free(self) -> _Start:
        """Return the same with nothing to keep."""
        return _Start(self.state, None, self.total, None)

    def select(self, rows: Array) -> _Start:
        """Return some of the molecules, by their places."""
        some = self.state.select(torch.from_numpy(rows).to(self.state.device))
        momentum = None if self.momentum is None else self.momentum[rows]
        return _Start(some, self.potential, self.total[rows], momentum)

    def kept(self, x: Array, v: Array, last: Array, end: PhaseState) -> Array:
        """Return the middle's velocities with which the end would have what the start had.

        Parameters
        ----------
        x, v
            The middle, as the first half left it.
        last
            The velocities there with which the second half came to ``end``.
        end
            Its end, with its velocities turned round.
        """
        bodies, x1, v1 = Bodies.of(self.state), array(end.positions), -array(end.velocities)
        found = v
        if self.momentum is not None:
            missed = _number(self.momentum - bodies.angular_momentum(x1, v1))
            found = bodies.with_angular_momentum(x, v, bodies.angular_momentum(x, last) + missed)
        if self.potential is not None:
            total = bodies.kinetic_energy(v1) + array(self.potential.aside(end))
            kinetic = bodies.kinetic_energy(last) + _number(self.total - total)
            found = bodies.with_kinetic_energy(x, found, kinetic)
        return found


def _towards(
    operator: OperatorLike, start: _Start, x: Array, v: Array, half: Tensor
) -> tuple[Array, Array]:
    """Return the change of a state from which Φ does what its adjoint does from that state.

    Where Φ is too far off for that to be found, there is none: Φ stands for its adjoint.
    """
    change_x, change_v = np.zeros_like(x), np.zeros_like(v)
    places, kept, from_x, from_v = np.arange(len(x)), v, x, v
    search = _Search(np.sqrt(array(start.state.masses))[:, :, None], float(half))
    for place in range(MOST_ROUNDS):
        end = _turned(operator, _moved(start.state, from_x, from_v), half)
        back = _turned(operator, end, half)
        bodies, back_v = Bodies.of(start.state), array(back.velocities)
        off = np.sqrt(bodies.kinetic_energy(kept - back_v) / bodies.kinetic_energy(kept))
        if place:  # what Φ gains or loses itself is in the first end: rounds take it out
            kept = start.kept(x, v, kept, end)
        search.add((from_x, from_v), (array(back.positions), back_v))
        from_x, from_v = search.next(x, kept)
        if place < ROUNDS - 1:
            continue
        done = (off < CLOSE) | (place == MOST_ROUNDS - 1)
        settled = done & (off < TRUSTED)
        change_x[places[settled]] = (from_x - x)[settled]
        change_v[places[settled]] = (from_v - v)[settled]
        if done.all():
            break
        if done.any():
            rows = np.flatnonzero(~done)
            start, places = start.select(rows), places[rows]
            x, v, kept, from_x, from_v = (each[rows] for each in (x, v, kept, from_x, from_v))
            search.select(rows)
    return change_x, change_v


class _Search:
    """For the state from which the way there and back ends in a given one.

    Anderson's mixing (J. ACM 12, 547 (1965)) of all states that were tried: the next is the one
    that would come closest if what is missed depended linearly on the state.

    Parameters
    ----------
    weights
        Of velocities, ``[B, N, 1]``: square roots of masses.
    time
        fs, by which positions are divided to be measured with velocities.
    """

    def __init__(self, weights: Array, time: float) -> None:
        self._weights = np.concatenate([weights / time, weights], axis=1)
        self._from: list[Array] = []
        self._back: list[Array] = []

    def add(self, start: tuple[Array, Array], back: tuple[Array, Array]) -> None:
        """Take in a state that was tried, and where its way there and back ended."""
        self._from.append(np.concatenate(start, axis=1))
        self._back.append(np.concatenate(back, axis=1))

    def select(self, rows: Array) -> None:
        """Go on with some of the molecules, by their places."""
        self._weights = self._weights[rows]
        self._from = [each[rows] for each in self._from]
        self._back = [each[rows] for each in self._back]

    def next(self, x: Array, v: Array) -> tuple[Array, Array]:
        """Return the next state to try, for a way there and back that is to end in x and v."""
        last, back = self._from[-1], self._back[-1]
        missed = np.concatenate([x, v], axis=1) - back
        found = last + missed
        if len(self._from) > 1:
            changes = np.stack([each - back for each in self._back[:-1]])
            sized = _number(self._weights * changes)
            square = np.einsum("ibnd,jbnd->bij", sized, sized)
            trace = np.trace(square, axis1=1, axis2=2)[:, None, None]
            # Where nothing changed any more but rounding errors, nothing is to be learned.
            square = square + (1e-8 * trace + 1e-300) * np.eye(len(sized))
            product = np.einsum("ibnd,bnd->bi", sized, _number(self._weights * missed))
            shares = np.linalg.solve(square, product[..., None])[..., 0]
            steps = np.stack([last - each for each in self._from[:-1]]) + changes
            found = found - np.einsum("bi,ibnd->bnd", _number(shares), steps)
        return found[:, : x.shape[1]], found[:, x.shape[1] :]


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


def takes_several_passes(operator: OperatorLike, time: float) -> bool:
    """Whether a jump over a time in fs is more than one pass of the network."""
    return time > operator.piece * (1 + 1e-9)


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
