"""From an operator and its molecules to one file with both decoders."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ase import Atoms

from ase_atom.errors import ConfigError
from ase_atom.files import replace_text
from ase_atom.io import read_structure
from ase_atom.io.guard import reading
from ase_atom.molecules.atoms import total_charge
from ase_atom.molecules.catalogue import operator_for
from ase_atom.molecules.topology import perceive_smiles
from ase_atom.operator import Operator, OperatorLike
from ase_atom.operator.leap import LeapCard, LeapDecoder
from ase_atom.operator.leap.card import SHORTEST
from training.data.molecules import embed
from training.leap.config import LeapTrainingConfig
from training.leap.learning import learn
from training.leap.settling import measured_settling
from training.leap.teacher import STRIDE, Assignment, TeacherRun, make_runs
from training.learning.config import differences, listed

CONFORMERS = 8
"""Structures that runs of a molecule given as SMILES start from."""

LONGEST = 0.8
"""Part of a run that a pair may be apart: fewer starts would be few molecules."""


class Compound(NamedTuple):
    """A molecule to learn leaps of."""

    smiles: str
    structures: list[Atoms]


class Schedule(NamedTuple):
    """The teacher's runs of each molecule at one temperature."""

    temperature_K: float
    replicas: int
    duration: float
    stride: float = STRIDE


STANDARD = (
    Schedule(300.0, 96, 40000.0),
    Schedule(400.0, 32, 20000.0),
    Schedule(500.0, 32, 20000.0),
)
"""Most at the temperature that most simulations have; hops are many where it is hot."""

MANY = (Schedule(300.0, 8, 10000.0), Schedule(450.0, 8, 10000.0))
"""For each molecule of a list: what one leaves open another shows."""

SETTLED = 16
"""Molecules by which it is measured what settling stands for."""

FRAMES = 2048
"""Frames of these runs together that are settled."""

ENOUGH = 20
"""Molecules from which leaps of others are learned."""

LISTS = (".csv", ".smi")


def is_list(text: str) -> bool:
    """Say whether an argument is a list of molecules: a ``.csv`` or ``.smi`` file."""
    return Path(text).suffix.lower() in LISTS


def read_list(path: Path) -> list[str]:
    """SMILES of a list: lines, or a table's column ``smiles``, without those to be held out.

    A table with a column ``part`` is read as far as its rows are of ``train``.

    Raises
    ------
    ConfigError
        If there is no such file, or it lists none.
    """
    try:
        with path.open(newline="") as stream:
            if path.suffix.lower() == ".csv":
                rows = csv.DictReader(stream)
                if "smiles" not in (rows.fieldnames or ()):
                    raise ConfigError(f"{path} needs a column smiles")
                found = [row["smiles"] for row in rows if row.get("part", "train") == "train"]
            else:
                lines = [line.split() for line in stream]
                found = [line[0] for line in lines if line and not line[0].startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not found:
        raise ConfigError(f"{path} lists no molecule to learn from")
    return found


def compounds(
    operator: OperatorLike, molecules: Sequence[str], first: int | None = None
) -> Iterator[Compound]:
    """Molecules given as structure files, SMILES or lists, by default those on the card.

    Parameters
    ----------
    operator
        That is to teach.
    molecules
        Structure files, SMILES, and lists as `read_list` reads.
    first
        How many to take; by default all.

    Raises
    ------
    ConfigError
        If the card lists none of its own, or something is neither.
    TrajectoryError
        If a structure cannot be read.
    CoverageError
        If the operator was not trained for one.
    """
    card = operator.card
    if not molecules and (card is None or card.largest_molecule is not None):
        raise ConfigError("this operator is for molecules in general: name those to learn leaps of")
    named = molecules or (card.smiles if card is not None else ())
    every = [
        each for text in named for each in (read_list(Path(text)) if is_list(text) else [text])
    ]
    for text in every[:first]:
        if Path(text).is_file():
            structures = [read_structure(text)]
        else:
            structures = [embed(text, seed) for seed in range(CONFORMERS)]
        atoms = structures[0]
        operator_for(atoms, operator)
        _, smiles = perceive_smiles(atoms.numbers, atoms.positions, total_charge(atoms))
        yield Compound(smiles, structures)


def assignments(
    found: Sequence[Compound], schedules: Sequence[Schedule], friction: float, seed: int
) -> list[Assignment]:
    """All runs, molecule by molecule: of a long list the first molecules are complete soon."""
    return [
        Assignment(
            compound.smiles,
            compound.structures,
            schedule.temperature_K,
            schedule.replicas,
            schedule.duration,
            seed,
            friction,
            schedule.stride,
        )
        for compound in found
        for schedule in schedules
    ]


def train_leaps(
    operator: Operator,
    teacher: OperatorLike,
    jobs: Sequence[Assignment],
    config: LeapTrainingConfig,
    folder: Path,
    command: str,
    parent: LeapDecoder | None = None,
) -> LeapDecoder:
    """Make the teacher's runs, train, and return the decoder.

    Those of an operator for molecules in general know its elements. From `ENOUGH` molecules on they
    are for every molecule up to the largest in the runs, else for those in the runs alone.

    Parameters
    ----------
    operator
        Whose leaps they are to be.
    teacher
        The same, on the engine that makes its trajectories.
    jobs
        Runs of the teacher.
    config
        Of the training.
    folder
        Where runs and checkpoints are kept; what is there is not made again.
    command
        For the card.
    parent
        Leaps whose weights a new training begins with.

    Raises
    ------
    ConfigError
        If the folder holds a training with other settings, or the parent is of others.
    DataError
        If a run is damaged, or of another operator.
    """
    runs = made_runs(teacher, jobs, folder)
    general = operator.card is not None and operator.card.largest_molecule is not None
    elements = tuple(operator.config.elements) if general else None
    longest = min(config.lags[1], LONGEST * min(run.duration for run in runs))
    smiles = {run.smiles for run in runs}
    largest = max(len(run.numbers) for run in runs)
    leaps = learned(
        runs,
        config.model_copy(update={"lags": (config.lags[0], longest)}),
        folder,
        parent=parent,
        elements=elements,
        lags_fs=(SHORTEST, longest),
        largest_molecule=largest if general and len(smiles) >= ENOUGH else None,
        training_command=command,
        notes=f"learned from {operator.name} itself, fingerprint {operator.fingerprint[:16]}",
    )
    cool = min(run.temperature_K for run in runs)
    shown = [run for run in runs if run.temperature_K == cool][:SETTLED]
    time = measured_settling(teacher, shown, leaps.card, FRAMES // len(shown))
    return LeapDecoder(leaps.network, leaps.card.model_copy(update={"settling_fs": time}))


def learned(
    runs: Sequence[TeacherRun],
    config: LeapTrainingConfig,
    folder: Path,
    *,
    held_out: Sequence[TeacherRun] | None = None,
    parent: LeapDecoder | None = None,
    elements: tuple[int, ...] | None = None,
    **facts: Any,
) -> LeapDecoder:
    """Train on runs, and return the decoder with its card.

    Parameters
    ----------
    runs, held_out
        To learn from, and to measure the loss with; see `learn`.
    config
        Of the training; its longest lag is the network's.
    folder
        Of checkpoints.
    parent
        Leaps whose weights a new training begins with.
    elements
        Atomic numbers to know; by default those of the runs.
    facts
        Of the card, beside those that follow from the runs.

    Raises
    ------
    ConfigError
        If the folder holds a training with other settings, or the parent is of others.
    """
    found = tuple(sorted({int(number) for run in runs for number in run.numbers}))
    sizes = {"horizon": config.lags[1], "segment": config.lags[1], "elements": elements or found}
    config = config.model_copy(update={"network": config.network.model_copy(update=sizes)})
    _check_same(config, folder)
    network = learn(config, runs, folder, None if parent is None else parent.network, held_out)
    kelvin = sorted(run.temperature_K for run in runs)
    card = LeapCard(
        smiles=sorted({run.smiles for run in runs}),
        temperature_range_K=(kelvin[0], kelvin[-1]),
        friction=runs[0].friction,
        training_config=config.model_dump(mode="json"),
        data_fingerprint=fingerprint(runs),
        **facts,
    )
    return LeapDecoder(network, card)


def made_runs(teacher: OperatorLike, jobs: Sequence[Assignment], folder: Path) -> list[TeacherRun]:
    """Make the runs that are not in a folder yet, and return all; see `make_runs`."""
    runs = []
    for job, run in zip(jobs, make_runs(teacher, jobs, folder / "teacher"), strict=True):
        count, frames = run.positions.shape[:2]
        print(
            f"teacher: {job.smiles} at {job.temperature_K:g} K, {count} × {frames} frames",
            flush=True,
        )
        runs.append(run)
    return runs


def fingerprint(runs: Sequence[TeacherRun]) -> str:
    """SHA-256 over the positions and settings of runs, whatever their order."""
    marks = []
    for run in runs:
        digest = hashlib.sha256(run.positions.contiguous().numpy().tobytes())
        digest.update(f"{run.smiles} {run.temperature_K} {run.interval} {run.operator}".encode())
        marks.append(digest.hexdigest())
    return hashlib.sha256("".join(sorted(marks)).encode()).hexdigest()


_FREE = ("steps", "threads", "checkpoint_every", "log_every")
"""Settings that may change where a training goes on."""


def _check_same(config: LeapTrainingConfig, folder: Path) -> None:
    path, now = folder / "leaps.json", config.model_dump(mode="json")
    if path.exists():
        with reading(path, ConfigError):
            before = json.loads(path.read_text())
        changed = {
            name: change for name, change in differences(before, now).items() if name not in _FREE
        }
        if changed:
            raise ConfigError(
                f"{folder} holds a training with other settings ({listed(changed)}): choose "
                "another --folder"
            )
    replace_text(path, json.dumps(now, indent=1))
