"""The leap under way, for front ends that move one molecule."""

from __future__ import annotations

from typing import Any

import torch

from ase_atom.errors import BrokenStateError
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation.ensembles import Langevin, Step
from ase_atom.propagation.leaps.leaping import Leaping
from ase_atom.propagation.path import Path
from ase_atom.propagation.stochastic import Noise
from ase_atom.state import PhaseState


class LeapPath(Path):
    """A path whose time step is the stride, a leap; parameters are those of `Path`.

    Attributes
    ----------
    leaping
        What leaps.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        assert isinstance(self.ensemble, Langevin)
        assert self.frames == 1
        with own_torch(self.threads):
            self.leaping = Leaping(
                self.operator, self.ensemble, self.timestep, self._atoms, self._guard
            )

    def begin(
        self, state: PhaseState, noise: Noise, *, place: int | None = None, changed: bool = False
    ) -> None:
        """Draw the state after the leap."""
        with own_torch(self.threads), torch.no_grad():
            start = self.ensemble.prepare(state) if changed else state
            assert isinstance(self.ensemble, Langevin)
            self.leaping.follow(self.ensemble, self._guard)
            step = Step(self.timestep, noise, self._potential)
            alive = torch.ones(1, dtype=torch.bool)
            x, v = self.leaping.frame(start, alive, step, first=changed or self.start is None)
            self.good = int(self._guard.first_broken(x, v)[0])
        self.place = self.first = 0
        self.start, self.positions, self.velocities = start, x[0], v[0]

    def broken(self, time: float) -> BrokenStateError:
        """Return what there is to say of a leap that could not be made, at its end in fs."""
        return self.leaping.explain(0, time) or super().broken(time)

    def state_dict(self) -> dict[str, Any]:
        """As that of `Path`, with what the leaps came to."""
        return super().state_dict() | {"leaps": self.leaping.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """As that of `Path`."""
        super().load_state_dict(saved)
        self.leaping.load_state_dict(saved["leaps"])
