"""The jump under way, for front ends that move one molecule time step by time step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ase_atom.errors import BrokenStateError, StateError
from ase_atom.operator.protocol import OperatorLike
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation.bodies import with_bodies
from ase_atom.propagation.ensembles import CachedPotential, Ensemble, Potential, Step
from ase_atom.propagation.guard import Guard
from ase_atom.propagation.steps import advance, carry_on
from ase_atom.propagation.stepwise import suited
from ase_atom.propagation.stochastic import Noise
from ase_atom.state import PhaseState


class Path:
    """The frames from a jump's start to the next point of the grid, and where on it one is.

    The grid of strides belongs to the path: it does not matter how often or by whom a front end is
    asked for steps. `begin` decodes a jump, or the rest of one that was changed from outside;
    `frame` gives the next frame, and `take` moves on to it.

    Parameters
    ----------
    operator
        Makes the jumps.
    ensemble
        What happens before and after each; may be replaced between two calls of `begin`.
    state
        The molecule at its start, a batch of one; it sets the guard's limits.
    timestep
        Time between frames in fs.
    frames
        Time steps of a stride.
    potential
        Potential energy that ensembles with ``energy_correction`` keep; the operator's by default.
    threads
        Torch's threads while the operator computes; None leaves torch's own setting.

    Attributes
    ----------
    steps
        Time steps that were taken.
    place
        How many of them belong to the stride under way: from 0, at its start, to ``frames``.
    first
        The place at which the decoded frames begin: above 0 if the jump was changed from outside.
    start
        Where they begin, after `Ensemble.enter`; None before the first jump.
    positions, velocities
        The decoded frames in Å and Å/fs, ``[T, N, 3]``: those of the places from ``first + 1`` on.
    good
        How many of them come before the first that the guard calls broken.

    Raises
    ------
    StateError
        If the guard calls the state broken.
    """

    def __init__(
        self,
        operator: OperatorLike,
        ensemble: Ensemble,
        state: PhaseState,
        timestep: float,
        frames: int,
        *,
        potential: Potential | None = None,
        threads: int | None = None,
    ) -> None:
        self.operator = operator
        self.ensemble = suited(ensemble, operator, {"step between frames": timestep}, potential)
        self.timestep, self.frames, self.threads = timestep, frames, threads
        self.steps = self.place = self.first = self.good = 0
        self.start: PhaseState | None = None
        self.positions = self.velocities = state.positions[:0]
        self._atoms = state = with_bodies(state, operator.engine)
        times = np.arange(1, frames + 1, dtype=float) * timestep  # of frames, from a jump's start
        self._offsets = torch.from_numpy(times)
        self._potential = CachedPotential(operator.energy if potential is None else potential)
        self.watch(state)

    def watch(self, state: PhaseState) -> None:
        """Take the guard's limits from a state that no jump has led to.

        Raises
        ------
        StateError
            If that is broken itself.
        """
        with own_torch(self.threads), torch.no_grad():
            guard = Guard.watch(self._own(state))
            x, v = state.positions, state.velocities
            if int(guard.first_broken(x[:, None], v[:, None])[0]) == 0:
                raise StateError(str(guard.explain(0, 0.0, x[0], v[0])))
        self._guard = guard

    @property
    def is_used_up(self) -> bool:
        """Whether all decoded frames were taken, so that the next step begins a jump."""
        return self.place - self.first >= len(self.positions)

    def begin(
        self, state: PhaseState, noise: Noise, *, place: int | None = None, changed: bool = False
    ) -> None:
        """Decode the frames from a state to the next point of the grid.

        Parameters
        ----------
        state
            Where the molecule is, a batch of one.
        noise
            For the ensemble.
        place
            In the stride, from 0 to ``frames - 1``; by default where the path is.
        changed
            The state was changed from outside: the ensemble takes out what it does not allow, and
            inside a stride what the jump was to keep is seen to first (see `carry_on`), if it is
            known what the jump left there.
        """
        place = self.place % self.frames if place is None else place
        state = self._own(state)
        step = self._step(noise)
        with own_torch(self.threads), torch.no_grad():
            start = self.ensemble.prepare(state) if changed else state
            if place == 0:
                start = self.ensemble.enter(start, step)
            elif changed and self.start is not None and (left := self.left(place)) is not None:
                start = carry_on(self.ensemble, start, left, self.start, step)
            offsets = self._offsets[: self.frames - place] if place else self._offsets
            x, v = advance(self.operator, self.ensemble, start, offsets, step, entered=True)
            good = int(self._guard.first_broken(x, v)[0])
        self.place = self.first = place
        self.start, self.good = start, good
        self.positions, self.velocities = x[0], v[0]

    def _step(self, noise: Noise) -> Step:
        """Return what the ensemble needs for the stride that the path is in."""
        number = self.steps // self.frames
        return Step(self.frames * self.timestep, noise, self._potential, number)

    def _own(self, state: PhaseState) -> PhaseState:
        """Return a state of the molecule with the mechanics of the path."""
        return self._atoms.replace(positions=state.positions, velocities=state.velocities)

    def left(self, place: int) -> PhaseState | None:
        """Return the state that the decoded frames have at a place, None where they have none."""
        index = place - self.first - 1
        if not 0 <= index < len(self.positions):
            return None
        return self._atoms.replace(
            positions=self.positions[index][None], velocities=self.velocities[index][None]
        )

    def frame(self, place: int | None = None, time: float | None = None) -> int:
        """Return the index of a frame among those decoded.

        Parameters
        ----------
        place
            Of the frame, from ``first + 1`` to ``frames``; by default the next one.
        time
            Of the frame in fs, for the error; by default counted from the path's beginning.

        Raises
        ------
        BrokenStateError
            If the molecule breaks there or before.
        """
        place = self.place + 1 if place is None else place
        index = place - self.first - 1
        if index < self.good:
            return index
        time = (self.steps + place - self.place) * self.timestep if time is None else time
        raise self.broken(time - (index - self.good) * self.timestep)

    def broken(self, time: float) -> BrokenStateError:
        """Return what there is to say of the first broken frame, at a time in fs."""
        return self._guard.explain(0, time, self.positions[self.good], self.velocities[self.good])

    @property
    def ahead(self) -> tuple[int, int]:
        """How many decoded frames were not taken yet, and how many of these are good."""
        taken = self.place - self.first
        return len(self.positions) - taken, max(self.good - taken, 0)

    def take(self, steps: int = 1) -> None:
        """Move on by some time steps."""
        self.place += steps
        self.steps += steps

    # -- to be continued by another process --------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all that later frames depend on, but for the noise: numbers and tensors."""
        start = self._atoms.replace() if self.start is None else self.start
        return {
            "steps": self.steps,
            "place": self.place,
            "first": self.first,
            "good": self.good,
            "positions": self.positions,
            "velocities": self.velocities,
            "start_positions": start.positions,
            "start_velocities": start.velocities,
            "shortest": self._guard.lower,
            "longest": self._guard.upper,
            "potential": self._potential.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from where another path of the same molecule and settings was.

        Raises
        ------
        StateError
            If it is of another molecule or stride.
        """
        shape, count = self._atoms.positions.shape, len(saved["positions"])
        if saved["start_positions"].shape != shape or saved["first"] + count > self.frames:
            raise StateError("the saved path is of another molecule, stride or time step")
        for name in ("steps", "place", "first", "good", "positions", "velocities"):
            setattr(self, name, saved[name])
        self.start = self._atoms.replace(
            positions=saved["start_positions"], velocities=saved["start_velocities"]
        )
        self._potential.load_state_dict(saved["potential"], self._atoms)
        self._guard = replace(self._guard, lower=saved["shortest"], upper=saved["longest"])
