"""Marching ASE atoms along the path of a jump, step by step or from one look to the next."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
from ase.md.md import MolecularDynamics
from numpy.typing import NDArray

from ase_atom.ase.restartable import RestartableDynamics
from ase_atom.ase.settings import check_interval, computes, differs, momenta_of
from ase_atom.errors import ConfigError
from ase_atom.errors.values import whole_number
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation.divided_path import DividedPath
from ase_atom.state import PhaseState
from ase_atom.units import FS

_log = logging.getLogger("ase_atom")


class MarchingDynamics(RestartableDynamics):
    """Dynamics whose atoms go along the path of a jump.

    A derived class makes the path and says what state the atoms are in.
    """

    evaluate: bool
    _dt: float
    _positions: NDArray[np.float64]
    _momenta: NDArray[np.float64]
    _mass_over_fs: NDArray[np.float64]

    @abstractmethod
    def _state_of(
        self, positions: NDArray[np.float64], velocities: NDArray[np.float64]
    ) -> PhaseState:
        """Return the state of numbers that are known to be in order, in Å and Å/fs."""

    @property
    def told(self) -> tuple[float | None, float | None]:
        """Expected error and stride in fs of the jump that the atoms lie on, where it is known.

        With a tolerance; the stride is 0 where a calculator's forces moved the atoms.
        """
        path = self._path
        if not isinstance(path, DividedPath) or path.told is None or path.place == path.first:
            return None, None
        error, stride = (float(each[path.place - path.first - 1]) for each in path.told)
        return error, stride

    def irun(self, steps: int = 50) -> Iterator[bool]:
        """Run some steps as a generator, which yields after each whether it was the last.

        Raises
        ------
        BrokenStateError
            At the first step whose state is no molecule any more; observers have seen all before.
        FallbackError
            Where the calculator to fall back on fails; observers have seen all before.
        """
        return self._march(steps, together=False)

    def run(self, steps: int = 50) -> bool:
        """Run some steps, with the errors of `irun`, and return True.

        Steps at which no observer is due are taken together: nobody looks at the atoms there.
        """
        march = self._march(steps, together=True) if self._steps_are_ours() else self.irun(steps)
        return deque(march, maxlen=1).pop()

    def _march(self, steps: int, together: bool) -> Iterator[bool]:
        if self.dt != self._dt:
            raise ConfigError(
                f"the time step was {self._dt / FS:g} fs and is now {self.dt / FS:g} fs: make a "
                "new propagator for another"
            )
        steps = whole_number("steps", steps)
        for function, interval, *_ in self.observers:
            called = getattr(function, "__qualname__", type(function).__name__)
            check_interval(f"the interval of the observer {called}", interval)
        self._state()  # raises for what has been done to the atoms that no jump can follow
        self.max_steps = self.nsteps + steps
        self._keep()  # the very start too, so that a file that is appended to is known
        if self.nsteps == 0:
            self._show()
        self._keep(now=steps == 0)
        yield self.nsteps == self.max_steps
        while self.nsteps < self.max_steps:
            if together:
                self._move(self._steps_to_next_stop())
            else:
                self.step()
                self.nsteps += 1
            self._show()
            self._keep(now=self.nsteps == self.max_steps)
            if self.adaptive is not None and self.nsteps == self.max_steps:
                _log.info("%s", self.adaptive.sentence())
            yield self.nsteps == self.max_steps

    def step(self) -> None:
        """Move the atoms by one time step.

        It is the same dynamics as `run`, but neither counts in ``nsteps`` nor calls observers.

        Raises
        ------
        BrokenStateError
            If the state after it is no molecule any more; the atoms stay as they were.
        """
        self._look_ahead()
        self._put(self._path.frame())
        self._path.take()

    def _move(self, steps: int) -> None:
        """Take and count some steps, of which only the last is looked at.

        Whatever goes wrong leaves atoms and counter as steps taken one by one do.
        """
        several = steps > self._path.ahead[0]
        with own_torch(self._path.threads) if several else nullcontext():  # once for all jumps
            self._move_on(steps)

    def _move_on(self, steps: int) -> None:
        self._look_ahead()
        while steps:
            if self._path.is_used_up:
                self._decode(self._untouched(), changed=False)
            decoded, good = self._path.ahead
            taken = min(steps, good)
            if taken:
                self._put(self._path.place - self._path.first + taken - 1)
                self._path.take(taken)
                self.nsteps += taken
                steps -= taken
            if taken < min(steps, decoded):
                self._path.frame()  # which raises

    def _look_ahead(self) -> None:
        """Decode the path ahead where there is none, or where the atoms were changed."""
        arrays, path = self.atoms.arrays, self._path
        moved = differs(arrays["positions"], self._left[0])
        changed = moved or differs(momenta_of(self.atoms), self._left[1])
        if changed or path.is_used_up:
            state = self._state()
            if moved:
                path.watch(state)
            self._decode(state, changed)

    def _decode(self, state: PhaseState, changed: bool) -> None:
        path = self._path
        path.ensemble = self.ensemble
        path.begin(state, self._noise, changed=changed)
        self._positions = path.positions.numpy()
        self._momenta = path.velocities.numpy() * self._mass_over_fs

    def _put(self, frame: int) -> None:
        """Give the atoms a decoded frame."""
        self._left = self._positions[frame], self._momenta[frame]
        arrays = self.atoms.arrays
        arrays["positions"][...], arrays["momenta"][...] = self._left

    def _steps_are_ours(self) -> bool:
        """Whether no derived class or script does something of its own at each step."""
        kind = type(self)
        theirs = ("irun", "step", "log", "call_observers")
        ours = (MarchingDynamics, MarchingDynamics, MolecularDynamics, MolecularDynamics)
        return all(
            getattr(kind, name) is getattr(owner, name) and name not in vars(self)
            for name, owner in zip(theirs, ours, strict=True)
        )

    def _steps_to_next_stop(self) -> int:
        """How many steps there are to the next at which somebody looks, or to the run's end."""
        now, stop = self.nsteps, self.max_steps
        for _, interval, *_ in self.observers:
            if interval > 0:
                stop = min(stop, now - now % interval + interval)
            elif -interval > now:
                stop = min(stop, -interval)
        if self._restart is not None:  # whose file is written at the ends of jumps
            stop = min(stop, now + self.steps_per_stride - self._path.place % self.steps_per_stride)
        return int(stop - now)

    def _untouched(self) -> PhaseState:
        """Return what `_state` does where nobody can have changed the atoms since."""
        positions, momenta = self._left
        return self._state_of(positions, momenta / self._mass_over_fs)

    def _show(self) -> None:
        """Do what ASE does after a step, but evaluate only for those who look."""
        if self.evaluate and computes(self.atoms) and self._is_observer_due():
            self.atoms.get_forces()
        self.log()
        self.call_observers()

    def _is_observer_due(self) -> bool:
        now = self.nsteps
        return any(
            now % interval == 0 if interval > 0 else now == -interval
            for _, interval, *_ in self.observers
        )
