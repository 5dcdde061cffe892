"""What a judgement of leaps begins with: frames of a run of the teacher, and leaps from them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ase_atom.errors import ConfigError
from ase_atom.operator import OperatorLike, load_operator
from ase_atom.propagation import Langevin, Propagator, sample_velocities
from ase_atom.state import PhaseState
from ase_atom.units import KB
from training.leap.measures import Coordinates
from training.leap.teacher import TeacherRun

Line = tuple[str, str]


def load_leaping(name: str) -> OperatorLike:
    """Load an operator that is to be judged.

    Raises
    ------
    ConfigError
        If it has no leaps.
    """
    found = load_operator(name, "auto")
    if found.leaps is None:
        raise ConfigError(f"{name} has no leaps: ase-atom leap-train {name} trains them")
    return found


class Judge:
    """Leaps from frames of a run, beside what the run does itself.

    Parameters
    ----------
    operator
        With leaps.
    run
        Langevin dynamics of the operator.
    starts
        Leaps of each test.
    seed
        Of starts and samples.
    """

    def __init__(self, operator: OperatorLike, run: TeacherRun, starts: int, seed: int) -> None:
        self.operator, self.run, self.starts, self.seed = operator, run, starts, seed
        self.x = run.positions.double().numpy()
        self._one = PhaseState(
            run.numbers[None],
            run.masses[None],
            run.positions[0, :1].double(),
            torch.zeros(1, len(run.numbers), 3, dtype=torch.float64),
            torch.tensor([run.charge]),
        )
        (self.atoms,) = self._one.to_atoms()
        self.coordinates = Coordinates.of(self.atoms)
        self.flat = self.x[:, :: max(1, self.x.shape[1] // 40)].reshape(-1, *self.x.shape[2:])
        self.energies = self.energy(self.flat)
        self.unit = 0.5 * KB * run.temperature_K * (3 * len(run.numbers) - 6)

    def state(self, x: NDArray, seed: int = 0) -> PhaseState:
        """Structures ``[B, N, 3]`` with thermal velocities."""
        rows = torch.zeros(len(x), dtype=torch.long)
        state = self._one.select(rows).replace(positions=torch.from_numpy(x.copy()))
        generator = torch.Generator().manual_seed(seed)
        return sample_velocities(state, self.run.temperature_K, generator)

    def energy(self, x: NDArray) -> NDArray:
        """Potential energies in eV."""
        found: NDArray = self.operator.energy(self.state(x)).double().numpy()
        return found

    def drawn(self, lag: int) -> NDArray:
        """Starts of leaps of so many frames, ``[B, N, 3]``."""
        rng = np.random.default_rng((self.seed, lag))
        replica = rng.integers(len(self.x), size=self.starts)
        first = rng.integers(self.x.shape[1] - lag, size=self.starts)
        found: NDArray = self.x[replica, first]
        return found

    def propagator(self, x: NDArray, lag: float, seed: int) -> Propagator:
        """Leaps from structures, dropping those of which no sample is a molecule."""
        ensemble = Langevin(self.run.temperature_K, self.run.friction)
        state = self.state(x, seed)
        return Propagator(self.operator, state, ensemble, lag, seed=seed, drop_broken=True)

    def leap(self, x: NDArray, lag: float, times: int = 1, seed: int = 1) -> Propagator:
        """Make so many leaps from structures, and return what made them."""
        propagator = self.propagator(x, lag, seed)
        for _ in propagator.run(times * lag):
            pass
        return propagator
