"""Long runs of an operator, judged by statistics and by the reference engine's energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_atom.operator import Operator
from ase_atom.propagation import Ensemble, Frames, Propagator, roll_out
from ase_atom.state import PhaseState
from ase_atom.units import PS
from training.data.burst import Burst
from training.evaluation.accuracy import states_of
from training.evaluation.observables import Observables

#: Called with the number of jumps done since the last call.
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes
    ----------
    duration
        fs.
    stride
        fs.
    temperature
        K.
    friction
        1/fs, of Langevin dynamics.
    energy_correction
        Keep the operator's own energy over each jump.
    reversible
        Make jumps reversible in time; by default in microcanonical dynamics.
    seed
        Of the noise.
    snapshots
        Evenly spaced times at which the reference engine looks at every replica.
    precision
        K. Langevin dynamics go on, half a duration at a time, until the standard error of the mean
        temperature is at most this; None for the duration alone.
    longest
        fs, beyond which they do not.
    """

    duration: float
    stride: float
    temperature: float
    friction: float = 0.01
    energy_correction: bool = True
    reversible: bool | None = None
    seed: int = 0
    snapshots: int = 21
    precision: float | None = None
    longest: float = 1000 * PS

    @property
    def jumps(self) -> int:
        """Number of jumps, the duration rounded to whole strides."""
        return max(1, round(self.duration / self.stride))

    @property
    def snapshot_jumps(self) -> set[int]:
        """After how many jumps to take a snapshot."""
        return {int(n) for n in np.linspace(0, self.jumps, self.snapshots).round()}


@dataclass
class Run:
    """What one rollout left behind; energies are NaN where a replica is broken or unknown.

    Attributes
    ----------
    times
        Of the snapshots, fs.
    potential, kinetic, head
        eV, ``[snapshots, R]``: by the reference engine, of all motion, and by the energy head.
    broken
        One entry for each broken replica.
    jumps
        Jumps done.
    momentum, angular_momentum
        Largest change over replicas and time, amu Å/fs and amu Å²/fs.
    interrupted
        Whether it was stopped before its end.
    """

    times: list[float] = field(default_factory=list)
    potential: list[NDArray] = field(default_factory=list)
    kinetic: list[NDArray] = field(default_factory=list)
    head: list[NDArray] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)
    jumps: int = 0
    momentum: float = 0.0
    angular_momentum: float = 0.0
    interrupted: bool = False


def starting_states(
    bursts: Sequence[Burst], replicas: int, temperature: float, seed: int
) -> PhaseState:
    """Random frames of the bursts whose nominal temperature is nearest to the wanted one."""
    nearest = min(abs(burst.temperature_K - temperature) for burst in bursts)
    near = [b for b in bursts if abs(b.temperature_K - temperature) <= nearest + 1e-6]
    random = np.random.default_rng(seed)
    picks = [near[index % len(near)] for index in range(replicas)]
    return states_of([(burst, int(random.integers(len(burst.positions)))) for burst in picks])


def observed_run(
    operator: Operator,
    state: PhaseState,
    ensemble: Ensemble,
    plan: Plan,
    engine: Calculator | None = None,
    observables: Observables | None = None,
    settle: float = 0.0,
    advance: Advance | None = None,
    enough: Callable[[], bool] | None = None,
) -> Run:
    """March all replicas as one batch, dropping those that break.

    Ctrl-C ends the run early with what there is.

    Parameters
    ----------
    operator
        The operator.
    state
        Replicas of one molecule, ``[R, N]``.
    ensemble
        NVE or Langevin.
    plan
        Times and seed.
    engine
        Reference engine for potential energies, None to go without.
    observables
        Collects statistics after ``settle`` fs.
    settle
        fs.
    advance
        Progress.
    enough
        Asked after the plan's duration, and after each half of it that follows; None to stop there.
    """
    march = Propagator(operator, state, ensemble, plan.stride, seed=plan.seed, drop_broken=True)
    first = march.state
    linear, angular = first.linear_momentum(), first.angular_momentum()
    run = Run()
    try:
        for frames in _pieces(march, plan, enough):
            for index in range(len(frames)):
                run.jumps = round(float(frames.times[index]) / plan.stride)
                rows = torch.nonzero(frames.valid[:, index]).flatten()
                now = frames.state(index).select(rows)
                if run.jumps in plan.snapshot_jumps:
                    _snapshot(run, operator, now, rows, state.batch_size, engine, plan.stride)
                if observables is not None and float(frames.times[index]) > settle:
                    observables.add(now, rows)
                if len(rows):
                    change = now.linear_momentum() - linear[rows]
                    turn = now.angular_momentum() - angular[rows]
                    run.momentum = max(run.momentum, float(change.norm(dim=1).max()))
                    run.angular_momentum = max(run.angular_momentum, float(turn.norm(dim=1).max()))
                if advance is not None and run.jumps:
                    advance(1)
    except KeyboardInterrupt:
        run.interrupted = True
    run.broken = [
        {"replica": error.replica, "time_ps": error.time / PS, "reason": str(error)}
        for error in march.broken
    ]
    return run


def _pieces(march: Propagator, plan: Plan, enough: Callable[[], bool] | None) -> Iterator[Frames]:
    """Frames of the plan's duration, and of halves of it until there are enough."""
    left, jumps = int(plan.longest / plan.stride), plan.jumps
    while jumps > 0 and len(march.broken) < march.state.batch_size:
        yield from roll_out(march, jumps * plan.stride)
        left -= jumps
        jumps = 0 if enough is None or enough() else min(max(1, plan.jumps // 2), left)


def _snapshot(
    run: Run,
    operator: Operator,
    state: PhaseState,
    rows: torch.Tensor,
    replicas: int,
    engine: Calculator | None,
    stride: float,
) -> None:
    potential, kinetic, head = (np.full(replicas, np.nan) for _ in range(3))
    if len(rows):
        there = rows.numpy()
        kinetic[there] = state.kinetic_energy().numpy()
        with torch.no_grad():
            head[there] = operator.energy(state).numpy()
        if engine is not None:
            potential[there] = engine_energies(engine, state)
    run.times.append(run.jumps * stride)
    run.potential.append(potential)
    run.kinetic.append(kinetic)
    run.head.append(head)


def engine_energies(engine: Calculator, state: PhaseState) -> NDArray:
    """Potential energies in eV by an ASE calculator, NaN where it does not converge, ``[B]``."""
    atoms = Atoms(state.numbers[0].numpy())
    atoms.calc = engine
    energies = []
    for positions in state.positions.numpy():
        atoms.positions = positions
        try:
            energies.append(atoms.get_potential_energy())
        except (RuntimeError, ValueError):  # how engines say that they did not converge
            engine.reset()
            energies.append(np.nan)
    return np.array(energies)
