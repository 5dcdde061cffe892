"""The teacher of a leap decoder: Langevin trajectories of the operator whose decoder it is to be.

Runs lie in a folder, one file each, which appears complete or not at all; those that are there are
not made again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from rdkit import Chem
from torch import Tensor

from ase_atom.errors import DataError
from ase_atom.io.guard import reading
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation import Langevin, Propagator, equilibrate, roll_out, sample_velocities
from ase_atom.propagation.restart import read_restart, write_restart
from ase_atom.state import PhaseState

STRIDE = 16.0
"""fs, of the teacher's jumps."""

INTERVAL = 64.0
"""fs, between frames."""

EQUILIBRATION, EQUILIBRATION_SHARE = 2000.0, 0.1
"""fs before the first frame, and at most this part of the run."""

ENDING = ".safetensors"


@dataclass(frozen=True)
class TeacherRun:
    """Replicas of a molecule in Langevin dynamics of the operator.

    Attributes
    ----------
    smiles
        Canonical SMILES.
    numbers, masses
        Atomic numbers and masses in amu, ``[N]``.
    positions
        Å, in single precision, ``[R, T, N, 3]``.
    interval, temperature_K, friction
        fs, K and 1/fs.
    operator
        Fingerprint of the operator.
    """

    smiles: str
    numbers: Tensor
    masses: Tensor
    positions: Tensor
    interval: float
    temperature_K: float
    friction: float
    operator: str

    @property
    def charge(self) -> int:
        """Total charge in e, which the SMILES states."""
        return int(Chem.GetFormalCharge(Chem.MolFromSmiles(self.smiles, sanitize=False)))

    @property
    def duration(self) -> float:
        """From the first frame to the last, fs."""
        return (self.positions.shape[1] - 1) * self.interval

    def part(self, replicas: slice) -> TeacherRun:
        """Some of the replicas."""
        return TeacherRun(**{**vars(self), "positions": self.positions[replicas]})


@dataclass(frozen=True)
class Assignment:
    """A run to be made.

    Attributes
    ----------
    smiles
        Of the molecule.
    structures
        Where its replicas start, in turn; they are brought to equilibrium first.
    temperature_K
        K.
    replicas
        How many.
    duration
        fs.
    seed
        Of velocities and noise.
    friction
        1/fs.
    stride
        Length of the operator's jumps, fs.
    """

    smiles: str
    structures: Sequence[Atoms]
    temperature_K: float
    replicas: int = 96
    duration: float = 40000.0
    seed: int = 0
    friction: float = 0.01
    stride: float = STRIDE

    @property
    def file(self) -> str:
        """Name of its file: the SMILES is in the file itself."""
        mark = hashlib.sha256(self.smiles.encode()).hexdigest()[:8]
        formula = self.structures[0].get_chemical_formula()
        settings = f"{self.temperature_K:g}K-{self.replicas}x{self.duration:g}fs-{self.seed}"
        if self.stride != STRIDE:
            settings += f"-{self.stride:g}fs"
        return f"{formula}-{mark}-{settings}{ENDING}"


def make_runs(
    operator: OperatorLike, assignments: Sequence[Assignment], folder: Path
) -> Iterator[TeacherRun]:
    """Yield the runs, made where they are not in the folder yet.

    Raises
    ------
    DataError
        If a run in the folder is damaged, or one of another operator; or if no replica holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for assignment in assignments:
        path = folder / assignment.file
        if not path.exists():
            write_run(path, _make(operator, assignment))
        run = read_run(path)
        if run.operator != operator.fingerprint:
            raise DataError(f"{path} is a run of another operator: choose another folder")
        yield run


def write_run(path: Path, run: TeacherRun) -> None:
    """Write a run to a file."""
    write_restart(path, vars(run))


def read_run(path: Path) -> TeacherRun:
    """Read a run.

    Raises
    ------
    DataError
        If the file is damaged or none of a run.
    """
    with reading(path, DataError, what="is no run of a leap decoder's teacher"):
        found: dict[str, Any] = read_restart(path)
        return TeacherRun(**found)


def _make(operator: OperatorLike, assignment: Assignment) -> TeacherRun:
    atoms, count = list(assignment.structures), assignment.replicas
    starts = [atoms[index % len(atoms)] for index in range(count)]
    state = PhaseState.from_atoms(starts)
    kelvin, seed = assignment.temperature_K, assignment.seed
    state = sample_velocities(state, kelvin, torch.Generator().manual_seed(seed))
    stride = assignment.stride
    time = min(EQUILIBRATION, EQUILIBRATION_SHARE * assignment.duration)
    settled = equilibrate(operator, state, kelvin, duration=time, stride=stride, seed=seed + 1)
    good = [row for row in range(count) if row not in {each.replica for each in settled.broken}]
    if not good:
        raise DataError(f"{assignment.smiles} breaks in equilibration: {settled.broken[0]}")
    propagator = Propagator(
        operator,
        settled.state.select(torch.tensor(good)),
        Langevin(kelvin, assignment.friction),
        stride=stride,
        frame_interval=INTERVAL,
        seed=seed + 2,
        drop_broken=True,
    )
    duration = math.ceil(assignment.duration / INTERVAL) * INTERVAL
    parts = [frames.positions.float() for frames in roll_out(propagator, duration)]
    positions = torch.cat(parts, dim=1)
    whole = torch.isfinite(positions).flatten(1).all(dim=1)
    if not bool(whole.any()):
        raise DataError(f"{assignment.smiles} breaks at {kelvin:g} K: {propagator.broken[0]}")
    return TeacherRun(
        assignment.smiles,
        state.numbers[0],
        state.masses[0],
        positions[whole],
        INTERVAL,
        kelvin,
        assignment.friction,
        operator.fingerprint,
    )
