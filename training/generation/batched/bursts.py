"""Bursts of many molecules at a time: start, thermalise, record and check them in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ase_atom.cluster.workers import describe_failure
from ase_atom.errors import ConfigError
from training.data.burst import SPREAD_EVERY, Burst
from training.data.molecules import Molecule
from training.engines.factory import Engine, get_engine
from training.engines.potential import Evaluation, Potential
from training.generation.batched.motion import Batch, langevin, relax, velocity_verlet
from training.generation.dynamics import (
    Settings,
    bond_changes,
    burst_seed,
    displacements,
    finish_burst,
    relax_by_force_field,
    thermal_momenta,
    thermostatted,
)
from training.generation.verification import Connectivity


def run_bursts(jobs: Sequence[tuple[Molecule, int]], settings: Settings) -> list[Burst | str]:
    """Simulate bursts in one batch.

    The steps are those of `training.generation.dynamics.run_burst`, but for Langevin dynamics,
    which are split as BAOAB. A burst's noise depends on nothing but its molecule, its index and
    the settings. Its path depends on what is beside it in the batch only by the engine's rounding.

    Parameters
    ----------
    jobs
        Molecules and indices.

    Returns
    -------
    For each the burst, or in a line why it could not be made.

    Raises
    ------
    ConfigError
        If another engine is to thermalise.
    """
    if settings.thermal_engine is not None:
        raise ConfigError(
            f"engine {settings.engine} thermalises whole batches itself: leave --thermal-engine out"
        )
    engine = get_engine(settings.engine, settings.engine_options)
    potential = engine.potential()
    every = [_Job(molecule, index, settings) for molecule, index in jobs]
    running = _survivors(every, _Job.embed)
    if running and not settings.force_field:
        batch = _batch(running)
        relax(batch, potential, settings.relax_steps)
        for row, job in enumerate(running):
            job.atoms.positions[:] = batch.positions[row, : len(job.atoms)]
        running = _survivors(running, _Job.know_bonds)
        running = _survivors(running, _Job.draw_momenta)
    if not running:
        return [job.result for job in every]
    batch = _batch(running)
    _thermalise(batch, potential, running, settings)
    for row, job in enumerate(running):
        job.positions = batch.positions[row, None, : len(job.atoms)]
    stable = _survivors(running, lambda job: job.watch("while it was thermalised"))
    batch = batch.take([row for row, job in enumerate(running) if job in stable])
    frames = _record(batch, potential, stable, settings)
    for row, job in enumerate(stable):
        job.arrays = {name: array[:, row] for name, array in frames.items()}
    _survivors(stable, lambda job: job.finish(engine))
    return [job.result for job in every]


class _Job:
    """One burst on its way through a batch; `result` is the burst or why there is none."""

    def __init__(self, molecule: Molecule, index: int, settings: Settings) -> None:
        self.molecule, self.index, self.settings = molecule, index, settings
        self.temperature = settings.temperature(index)
        self.seed = burst_seed(settings.seed, molecule.name, index)
        self.generator = np.random.default_rng(self.seed)
        self.changes: list[str] = []
        self.result: Burst | str = ""

    def embed(self) -> None:
        """Make the conformer; if a force field is to do so, relax and shake it."""
        self.atoms = self.molecule.start(self.index, self.seed)
        if not self.settings.force_field:
            return
        relax_by_force_field(self.atoms, self.molecule)
        self.know_bonds()
        self.draw_momenta()
        step = self.settings.thermal_timestep
        shaken = thermostatted(
            self.atoms, step, self.temperature, self.settings.thermal_friction, self.generator
        )
        shaken.run(round(self.settings.force_field / step))

    def know_bonds(self) -> None:
        """Note the bonds, relaxed."""
        bonds = self.molecule.bonds()
        self.connectivity = Connectivity.of(self.atoms.numbers, self.atoms.positions, bonds)
        self.connectivity.check_relaxed()

    def draw_momenta(self) -> None:
        """Give the atoms thermal momenta."""
        masses = self.atoms.get_masses()
        self.atoms.set_momenta(thermal_momenta(masses, self.temperature, self.generator))

    def watch(self, when: str) -> None:
        """Note which bonds broke or formed in `positions`, or refuse the burst for it."""
        self.changes.append(bond_changes(self.connectivity, self.positions, when, self.settings))

    def finish(self, engine: Engine) -> None:
        """Make the burst of the frames in `arrays`, without padding."""
        size = len(self.atoms)
        arrays = {
            name: array if name == "energies" else array[:, :size]
            for name, array in self.arrays.items()
        }
        if self.settings.ensemble != "displaced":
            self.positions = arrays["positions"]
            self.watch("while it was recorded")
        burst = finish_burst(
            self.molecule, self.index, self.settings, engine, self.atoms, arrays, self.changes
        )
        burst.check()
        self.result = burst


def _survivors(jobs: Sequence[_Job], step: Callable[[_Job], None]) -> list[_Job]:
    """Take a step with each job; return those that it did not fail for, note why for the others."""
    kept = []
    for job in jobs:
        try:
            step(job)
        except Exception as error:
            job.result = describe_failure(error)
        else:
            kept.append(job)
    return kept


def _batch(jobs: Sequence[_Job]) -> Batch:
    return Batch.of([job.atoms for job in jobs], [job.molecule.charge for job in jobs])


def _thermalise(
    batch: Batch, potential: Potential, jobs: Sequence[_Job], settings: Settings
) -> None:
    steps = round(settings.thermalise / settings.thermal_timestep)
    if steps and jobs:
        _langevin(
            batch, potential, jobs, batch.evaluate(potential), settings.thermal_timestep, steps,
            settings.thermal_friction,
        )  # fmt: skip
    batch.stop_centres_of_mass()


def _langevin(
    batch: Batch,
    potential: Potential,
    jobs: Sequence[_Job],
    now: Evaluation,
    timestep: float,
    steps: int,
    friction: float,
) -> Evaluation:
    temperatures = np.array([job.temperature for job in jobs])
    generators = [job.generator for job in jobs]
    return langevin(batch, potential, now, timestep, steps, temperatures, friction, generators)


def _record(
    batch: Batch, potential: Potential, jobs: Sequence[_Job], settings: Settings
) -> dict[str, NDArray]:
    """Return frames of all molecules, ``[T, B, ...]``, and the force spread of every tenth."""
    if not jobs:
        return {}
    kept: dict[str, list[NDArray]] = {}

    def keep(now: Evaluation) -> None:
        frame = len(kept.get("energies", ()))
        found = {
            "positions": batch.positions.copy(),
            "velocities": batch.velocities.copy(),
            "energies": now.energies,
            "forces": now.forces,
        }
        if now.atomic_charges is not None:
            found["atomic_charges"] = now.atomic_charges
        if frame % SPREAD_EVERY == 0:
            spread = potential.force_spread(batch.positions, batch.numbers, batch.charges)
            if spread is not None:
                found["force_spread"] = spread
        for name, array in found.items():
            kept.setdefault(name, []).append(array)

    _move(batch, potential, jobs, settings, keep)
    return {name: np.stack(arrays) for name, arrays in kept.items()}


def _move(
    batch: Batch,
    potential: Potential,
    jobs: Sequence[_Job],
    settings: Settings,
    keep: Callable[[Evaluation], None],
) -> None:
    """Visit the frames one by one."""
    if settings.ensemble == "displaced":
        start, shape = batch.positions, (settings.frames, *batch.positions.shape)
        moved = np.zeros(shape)
        for row, (job, size) in enumerate(zip(jobs, batch.sizes, strict=True)):
            moved[:, row, :size] = displacements(
                (settings.frames, size, 3), settings.displacement, job.generator
            )
        batch.velocities[:] = 0.0
        for step in moved:
            batch.positions = start + step
            keep(batch.evaluate(potential))
        return
    steps = round(settings.interval / settings.timestep)
    now = batch.evaluate(potential)
    keep(now)
    for _ in range(settings.frames - 1):
        if settings.ensemble == "nve":
            now = velocity_verlet(batch, potential, now, settings.timestep, steps)
        else:
            now = _langevin(
                batch, potential, jobs, now, settings.timestep, steps, settings.friction
            )
        keep(now)
