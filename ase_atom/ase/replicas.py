"""Many molecules in one batch: copies of one, or different ones, each with its own file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from torch import Tensor

from ase_atom.ase.leaps import stride_in_steps
from ase_atom.ase.restart import BatchRestart, restart_file, settings_in_words
from ase_atom.ase.settings import (
    ase_settings,
    ase_time,
    choose_noise,
    choose_operator,
    choose_potential,
)
from ase_atom.errors import BrokenStateError, ConfigError
from ase_atom.errors.keywords import known_keywords
from ase_atom.errors.values import check_flag, file_path, whole_number
from ase_atom.errors.warning import warn
from ase_atom.files import RESTART_INTERVAL
from ase_atom.io import TrajectoryWriter, check_output, open_trajectory
from ase_atom.io.continuing import cut_to_whole_frames
from ase_atom.io.room import check_room
from ase_atom.molecules.atoms import fixes_centre_of_mass, structure_of
from ase_atom.molecules.coverage import CoverageWarning
from ase_atom.operator import OperatorLike
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import (
    NVE,
    Adaptive,
    Frames,
    Propagator,
    Thermostat,
    look_ahead,
    reservations,
)
from ase_atom.propagation.grid import MOST_STEPS
from ase_atom.propagation.jumps import choose
from ase_atom.state import PhaseState
from ase_atom.units import velocities_to_ase


def numbered_files(path: str | Path, count: int) -> list[Path]:
    """Return a file for each replica: ``run.dcd`` alone, or ``run-00.dcd`` to ``run-63.dcd``."""
    path = file_path("trajectory", path)
    if count == 1:
        return [path]
    digits = len(str(count - 1))
    return [path.with_name(f"{path.stem}-{n:0{digits}d}{path.suffix}") for n in range(count)]


class ReplicaFiles:
    """One trajectory file for each molecule of a batch; also a context manager.

    Parameters
    ----------
    files
        One for each molecule.
    replicas
        The molecules at their start.
    frame_interval
        Time between frames in fs.
    overwrite
        Replace files that exist.
    done
        Frames that a run to be continued has given each file. The files hold at least these, and
        what they hold beyond is not written once more.

    Raises
    ------
    TrajectoryError
        As `ase_atom.io.open_trajectory`; before any file is made if it can be known then. Or for
        files of a run to be continued that are gone, or hold fewer frames than it gave them.
    """

    def __init__(
        self,
        files: Sequence[Path],
        replicas: Sequence[Atoms],
        frame_interval: float,
        overwrite: bool = False,
        done: Sequence[int] | None = None,
    ) -> None:
        for row, (file, atoms) in enumerate(zip(files, replicas, strict=True)):
            if done is None:
                check_output(file, overwrite, atoms=atoms)
            elif done[row]:
                cut_to_whole_frames(file, atoms, done[row])
        self.writers: list[TrajectoryWriter] = []
        with ExitStack() as stack:
            mode = "a" if done is not None else "w" if overwrite else "x"
            for file, atoms in zip(files, replicas, strict=True):
                writer = open_trajectory(file, atoms, mode, frame_interval=frame_interval)
                self.writers.append(stack.enter_context(writer))
            self._stack = stack.pop_all()
        self._there = self.frames
        self._given = list(self._there) if done is None else list(done)

    @property
    def frames(self) -> list[int]:
        """Number of frames in each file."""
        return [writer.frames for writer in self.writers]

    @property
    def given(self) -> list[int]:
        """Number of frames that the run has given each file: what a restart file has to say.

        Fewer than `frames` while a run that was killed catches up with what it had written.
        """
        return list(self._given)

    def write(self, frames: Frames, energies: Tensor | None = None) -> None:
        """Append to each file the good frames of its molecule that it does not hold yet.

        Parameters
        ----------
        frames
            Of all molecules.
        energies
            Potential energies in eV, ``[B, T]``, for formats that hold them.
        """
        sizes = (frames.numbers > 0).sum(dim=1).tolist()
        counts = frames.valid.sum(dim=1).tolist()
        for row, (writer, size, count) in enumerate(zip(self.writers, sizes, counts, strict=True)):
            first = min(max(self._there[row] - self._given[row], 0), count)
            self._given[row] += count
            if first < count:
                told = frames.expected, frames.strides
                errors, strides = (
                    None if each is None or not writer.holds_energies else each[row, first:count]
                    for each in told
                )
                writer.write_frames(
                    frames.positions[row, first:count, :size].cpu().numpy(),
                    frames.velocities[row, first:count, :size].cpu().numpy(),
                    frames.times[first:count].tolist(),
                    energies=None
                    if energies is None or not writer.holds_energies
                    else energies[row, first:count].numpy(),
                    expected_errors=None if errors is None else errors.numpy(),
                    strides=None if strides is None else strides.numpy(),
                )

    def __enter__(self) -> ReplicaFiles:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


@dataclass
class ReplicaRun:
    """What became of a batch.

    Attributes
    ----------
    broken
        One error for each molecule that broke; its atoms hold its last good state.
    files
        The trajectory files, if any were asked for.
    frames
        Number of frames in each.
    strides
        How the time was divided, with a tolerance; else empty.
    """

    broken: list[BrokenStateError] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    strides: str = ""


@known_keywords()
def propagate_replicas(
    replicas: Sequence[Atoms],
    timestep: float,
    steps: int,
    *,
    stride: float | None = None,
    operator: str | Path | OperatorLike | None = None,
    temperature_K: float | None = None,
    friction: float | None = None,
    taut: float | None = None,
    settings: Mapping[str, float] | None = None,
    fixcm: bool | None = None,
    energy_correction: bool | GetPropertiesMixin = True,
    reversible: bool | None = None,
    rng: Any = None,
    seed: int | None = None,
    trajectory: str | Path | None = None,
    interval: int = 1,
    overwrite: bool = False,
    threads: int | None = None,
    restart: str | Path | None = None,
    restart_interval: int = RESTART_INTERVAL,
    accept_error: bool = False,
    tolerance: float | None = None,
    fallback: Any = None,
) -> ReplicaRun:
    """Simulate many molecules in one batch, which is much faster than one after the other.

    Each molecule has different noise. Afterwards the atoms hold their last positions and momenta.

    Parameters
    ----------
    replicas
        Copies of a molecule, or different molecules of one operator, with their momenta.
    timestep
        In ASE's unit.
    steps
        Number of time steps.
    stride, operator, temperature_K, friction, taut, settings, fixcm, energy_correction, reversible
        As in `ase_atom.ATOMPropagator`. All molecules have the same operator.
    rng, seed
        Source of the thermostat's noise, with numpy's ``standard_normal``, or the seed of one;
        ``numpy.random`` by default.
    trajectory
        A file name such as ``run.dcd``. The files of the molecules are then ``run-00.dcd`` and so
        on. Without it no trajectory is written.
    interval
        Steps between the frames that are written.
    overwrite
        Replace existing trajectories. A run that continues from a restart file appends to them.
    threads
        Number of torch threads during the run; None keeps the script's setting, since batches
        gain from several.
    restart
        A file with everything that the rest of the run depends on. If it exists, the run continues
        from it, up to ``steps`` in total, whatever positions and momenta the replicas have. The
        result is that of an uninterrupted run, to the last bit. More ``steps`` extend the run. All
        other settings must be the same.
    restart_interval
        Number of jumps after which that file is replaced. It is also written at the end.
    accept_error
        Go on where the jumps' expected error is so large that the run would be refused.
    tolerance, fallback
        Divide strides where jumps are expected to err more, and move molecules with the forces of
        an ASE calculator where even short jumps do; as in `ase_atom.ATOMPropagator`.

    Returns
    -------
    The files, their numbers of frames, and the molecules that broke. The others continue.

    Raises
    ------
    ConfigError, CoverageError, HorizonError, StateError, TrustError
        As `ase_atom.ATOMPropagator`.
    ConfigError
        For a restart file of other molecules or settings, naming the first that differs.
    FallbackError
        If the calculator fails; the files hold all frames before.
    FileFormatError
        For a restart file that is damaged, or none of this function.
    TrajectoryError
        If a file cannot be written, or trajectories of a run to go on are gone or too short.

    Warns
    -----
    CoverageWarning, TrustWarning
        As `ase_atom.ATOMPropagator`, once for all.
    """
    check_flag("accept_error", accept_error)
    fixed = _check(replicas, steps, interval, writes=trajectory is not None, overwrite=overwrite)
    chosen = ase_settings(
        replicas[0],
        stride=stride,
        temperature_K=temperature_K,
        friction=friction,
        taut=taut,
        settings=settings,
        fixcm=fixcm,
        energy_correction=energy_correction,
        reversible=reversible,
    )
    model = choose_operator(replicas[0], operator)
    ensemble = chosen.ensemble(model)
    noise = choose_noise(rng, seed, isinstance(ensemble, Thermostat))
    for atoms in replicas[1:]:
        choose_operator(atoms, model)
    adaptive = Adaptive.asked(tolerance, fallback)
    step_length = ase_time("timestep", timestep)
    count, leaps = stride_in_steps(model, chosen, step_length, adaptive is not None)
    state = PhaseState.from_atoms(replicas)
    files = [] if trajectory is None else numbered_files(trajectory, len(replicas))
    kept = restart_file(restart, restart_interval, "propagate_replicas", files)
    words = settings_in_words(model, ensemble, step_length, count, energy_correction)
    if kept is not None:
        words["trajectory"] = "none" if trajectory is None else kept.relative(trajectory)
        words["interval"] = f"{interval} steps"
    # A grid of frames with both the written ones and the last on it.
    grid = math.gcd(interval, steps) if trajectory is not None else math.gcd(count, steps)
    keeper = BatchRestart(kept, words, state, steps, grid)
    if isinstance(ensemble, NVE) and not keeper.goes_on:
        _check_different(state)
    start = None if keeper.goes_on else state
    for line in reservations(model.card, map(structure_of, replicas), ensemble, start):
        warn(line, CoverageWarning)
    if not (keeper.goes_on or leaps):
        accepts = accept_error or fallback is not None
        look_ahead(model, state, ensemble, chosen.choose_stride(model), accepts)
    with own_torch(threads):
        propagator = Propagator(
            model,
            state.without_drift() if fixed else state,
            ensemble,
            stride=count * step_length,
            frame_interval=keeper.grid * step_length,
            seed=noise if isinstance(ensemble, Thermostat) else 0,
            drop_broken=True,
            potential=choose_potential(energy_correction, model),
            adaptive=adaptive,
        )
        run = ReplicaRun(propagator.broken, files)
        _march(run, propagator, replicas, keeper, steps, step_length, interval, overwrite)
        if adaptive is not None:
            run.strides = adaptive.sentence()
    if run.broken:
        rows = torch.tensor([error.replica for error in run.broken])
        broken = torch.zeros(len(replicas), dtype=torch.bool).index_fill(0, rows, True)
        _put(replicas, propagator.state, broken)
    return run


def _check(
    replicas: Sequence[Atoms], steps: int, interval: int, *, writes: bool, overwrite: bool
) -> bool:
    """Check what is asked for, and say whether the centres of mass are fixed.

    Raises
    ------
    ConfigError
        For numbers or replicas that cannot be meant.
    """
    if isinstance(replicas, Atoms):
        raise ConfigError("replicas is a list of ase.Atoms, not one molecule: give [atoms]")
    if not replicas:
        raise ConfigError("there are no replicas: give at least one molecule")
    for name, value in (("steps", steps), ("interval", interval)):
        if whole_number(name, value, at_least=1) > MOST_STEPS:
            raise ConfigError(f"{name} must be at most {MOST_STEPS:.0e}, not {value:g}")
    if len({id(atoms) for atoms in replicas}) < len(replicas):
        raise ConfigError("the same Atoms object is there twice: give each replica its own copy()")
    if not writes and (interval != 1 or overwrite):
        name = "interval" if interval != 1 else "overwrite"
        raise ConfigError(f"{name} has no effect without trajectory=: give it, or leave {name} out")
    fixed = {fixes_centre_of_mass(atoms) for atoms in replicas}
    if len(fixed) > 1:
        raise ConfigError("FixCom must be on all replicas, or on none")
    return True in fixed


def _march(
    run: ReplicaRun,
    propagator: Propagator,
    replicas: Sequence[Atoms],
    keeper: BatchRestart,
    steps: int,
    timestep: float,
    interval: int,
    overwrite: bool,
) -> None:
    """Write frames, and the restart file where one is asked for, until the steps are made."""
    keeper.load(propagator)
    done, more = keeper.frames if any(keeper.frames) else None, steps - keeper.steps_before
    last = keeper.last if keeper.goes_on else propagator.state
    with ExitStack() as stack:
        files = None
        if run.files:
            count = steps // interval + 1 - min(done or [0])
            check_room(run.files, [len(atoms) for atoms in replicas], count)
            if not keeper.goes_on:
                for file, atoms in zip(run.files, replicas, strict=True):
                    check_output(file, overwrite, atoms=atoms)
        blocks = propagator.run(more * timestep) if more else propagator.go_on()
        if not keeper.goes_on:
            keeper.keep(propagator, [0] * len(run.files), last)
        if run.files:
            # Before the first frames are in the restart file, what is there is the run's own.
            replace = overwrite or keeper.goes_on
            files = ReplicaFiles(run.files, replicas, interval * timestep, replace, done)
            run.frames = stack.enter_context(files).frames
        if keeper.goes_on:
            _put(replicas, last, torch.ones(len(replicas), dtype=torch.bool))
        every = interval // keeper.grid
        try:
            for frames in blocks:
                if files is not None:
                    first = propagator.frames_given - len(frames)
                    wanted = [n for n in range(len(frames)) if (first + n) % every == 0]
                    files.write(frames.take(wanted))
                    run.frames = files.frames
                _put(replicas, frames.state(-1), frames.valid[:, -1])
                last = choose(frames.valid[:, -1], frames.state(-1), last)
                keeper.keep(propagator, files.given if files is not None else [], last)
        except BrokenStateError:
            pass  # the last of them broke; all are listed
        keeper.keep(propagator, files.given if files is not None else [], last, now=True)


def _check_different(state: PhaseState) -> None:
    """Refuse replicas that would have one trajectory."""
    rows = torch.cat([state.positions, state.velocities], dim=1).flatten(1)
    first: dict[bytes, int] = {}
    for row, values in enumerate(rows.numpy()):
        if (other := first.setdefault(values.tobytes(), row)) != row:
            raise ConfigError(
                f"replicas {other} and {row} start alike, and NVE has no random noise: their "
                "trajectories would be identical; give them different velocities"
            )


def _put(replicas: Sequence[Atoms], state: PhaseState, rows: Tensor) -> None:
    """Give the atoms of some rows the positions and momenta of a state."""
    for row in rows.nonzero().flatten().tolist():
        atoms = replicas[row]
        atoms.arrays["positions"][...] = state.positions[row, : len(atoms)].cpu().numpy()
        velocities = velocities_to_ase(state.velocities[row, : len(atoms)].cpu().numpy())
        atoms.set_momenta(atoms.get_masses()[:, None] * velocities, apply_constraint=False)
