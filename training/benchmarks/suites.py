"""What is run: suites of tasks and rows, read from YAML."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ase_atom.errors import ConfigError
from training.benchmarks.samples import PARTS, SPLITS, Window
from training.learning.config import explain, refuse_unknown

CONFIGS = Path(__file__).parents[1] / "configs" / "benchmarks"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Counts(_Section):
    """Starts of each part; of each molecule of the part, where there are several."""

    train: int = Field(default=500, ge=1)
    validation: int = Field(default=2000, ge=1)
    test: int = Field(default=2000, ge=1)

    def as_tuple(self) -> tuple[int, int, int]:
        """In the order of the parts."""
        return self.train, self.validation, self.test


class Optimiser(_Section):
    """How weights follow gradients.

    Attributes
    ----------
    name
        ``adamw``, or ``muon`` for hidden matrices with AdamW for the rest.
    lr, weight_decay, betas, eps, amsgrad
        Of AdamW; with ``muon`` the decay is that of its matrices alone.
    muon_lr
        Of Muon.
    schedule
        ``constant``, ``cosine`` to zero at the end of the budget, or ``plateau``: after four
        looks at the validation samples without a better one the weights go back to the best, and
        rates fall to a third. By default ``plateau`` under a budget of minutes and ``constant``
        under one of steps.
    warmup
        Steps over which the rate rises.
    clip
        Largest norm of the gradient; 0 for no limit.
    ema
        Decay per step of the averaged weights that are validated and tested; 0 for none.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    amsgrad: bool = False
    muon_lr: float = Field(default=0.01, gt=0)
    schedule: Literal["constant", "cosine", "plateau"] | None = None
    warmup: int = Field(default=0, ge=0)
    clip: float = Field(default=1.0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)


class MarchSettings(_Section):
    """How a finished operator is marched.

    Attributes
    ----------
    operator
        Name of a shipped operator, or a file.
    stride
        Length of a jump, fs.
    energy_correction
        Keep the operator's own energy over each jump.
    """

    operator: str
    stride: float = Field(default=16.0, gt=0)
    energy_correction: bool = True


class Row(_Section):
    """A model of the tables.

    Attributes
    ----------
    model
        ``egnn``, ``egno``, or ``operator`` of this package; ``marched``: a finished operator, which
        is not trained here, see `training.benchmarks.marched`.
    label
        Name in tables; by default the row's own.
    settings
        Arguments of the peer, or fields of the operator's configuration. Elements, horizon, number
        of frames and frame interval come from the task.
    optimiser, batch_size
        Of its training.
    noise
        Of the states that training sees, beside that of the model itself: its standard deviation
        as a share of the RMS displacement at the horizon, for velocities the same in 25 fs.
    """

    model: Literal["egnn", "egno", "operator", "marched"]
    label: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    optimiser: Optimiser = Optimiser()
    batch_size: int = Field(default=100, ge=1)
    noise: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _marched(self) -> Row:
        if self.model == "marched":
            MarchSettings.model_validate(self.settings)
        return self

    @property
    def learned(self) -> bool:
        """Whether it is trained here."""
        return self.model != "marched"


class Budget(_Section):
    """How long a row trains: minutes, or steps.

    Minutes are processor time of one thread where the device is a processor, so that other work
    on the machine takes none of them, and wall time on an accelerator. A size of batches is in
    place of every row's own: what is right for a GPU's hour makes no step of a processor's minute.
    """

    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("a budget is minutes or steps, one of them")
        return self


class Compounds(_Section):
    """Molecules of the three parts."""

    train: tuple[str, ...] = Field(min_length=1)
    validation: tuple[str, ...] = Field(min_length=1)
    test: tuple[str, ...] = Field(min_length=1)

    @property
    def every(self) -> list[str]:
        """Of any part, each once."""
        return list(dict.fromkeys((*self.train, *self.validation, *self.test)))


class Task(_Section):
    """One table: what is predicted from what.

    Attributes
    ----------
    name
        Of the molecule, or of the division of molecules.
    layout
        Of the files, see `training.benchmarks.trajectories.READERS`.
    compounds
        Molecules of each part under each split. ``seed-1/uracil`` is another run of ``uracil``,
        in that folder.
    delta, timesteps
        Horizon Δ in frames and number P of frames to predict.
    atoms
        ``heavy`` alone, as published, or ``all``.
    errors_of
        Atoms whose errors are told; ``heavy`` where ``all`` enter, as published for hydrogens.
    counts
        Starts.
    margin
        Frames left out at both ends of a trajectory.
    splits
        Ways in which starts are divided: both, or ``random`` alone where trajectories leave no
        room for blocks of time at this horizon.
    """

    name: str
    layout: Literal["md17", "rmd17", "md22", "tg80"]
    compounds: dict[str, Compounds]
    delta: int = Field(ge=1)
    timesteps: int = Field(ge=1)
    atoms: Literal["heavy", "all"] = "heavy"
    errors_of: Literal["all", "heavy"] = "all"
    counts: Counts = Counts()
    margin: int = Field(default=10_000, ge=0)
    splits: tuple[Literal["random", "blocks"], ...] = SPLITS

    @model_validator(mode="after")
    def _fits(self) -> Task:
        if not {"random"} <= set(self.compounds) <= set(SPLITS):
            raise ValueError(
                f"{self.name} has compounds for {', '.join(self.compounds) or 'no split'}: give "
                "them for random, or for random and blocks"
            )
        if self.timesteps > self.delta:
            raise ValueError(f"{self.timesteps} frames do not fit into Δ = {self.delta} frames")
        return self

    @property
    def key(self) -> str:
        """Folder of its results."""
        return f"{self.name}-{self.delta}-{self.timesteps}-{self.atoms}"

    @property
    def divided(self) -> bool:
        """Whether it is molecules that are divided into parts, and not the frames of one."""
        return all(not set(c.train) & set(c.test) for c in self.compounds.values())

    @property
    def window(self) -> Window:
        """Horizon and number of frames."""
        return Window(self.delta, self.timesteps)


class Suite(_Section):
    """Tasks and rows.

    Attributes
    ----------
    name, title
        Of the suite.
    layout
        Of its files.
    molecules
        One task each; or, with ``divisions``, none.
    divisions
        Named divisions of molecules for tasks of several: the molecules of each part under each
        split, or under ``random`` alone.
    split_names
        What tables call the splits, where that is not what they are called for others.
    delta, timesteps
        One task for each combination.
    atoms, errors_of, counts, margin
        As in `Task`.
    longest_blocks
        Longest Δ for which the trajectories leave room for blocks of time; beyond it starts are
        drawn at random alone. No limit by default.
    rows
        Names of rows, of `models.yaml` or of this file's ``more_rows``.
    more_rows
        Rows of this suite alone; ``base`` names a row whose entries they replace one by one.
    seeds
        Of initial weights and batches.
    budget, published
        Of each row by default, and with ``--published``: the published schedule.
    """

    name: str
    title: str
    layout: Literal["md17", "rmd17", "md22", "tg80"]
    molecules: tuple[str, ...] = ()
    divisions: dict[str, dict[str, Compounds]] = Field(default_factory=dict)
    split_names: dict[Literal["random", "blocks"], str] = Field(default_factory=dict)
    delta: tuple[int, ...] = (3000,)
    timesteps: tuple[int, ...] = (8,)
    atoms: Literal["heavy", "all"] = "heavy"
    errors_of: Literal["all", "heavy"] = "all"
    counts: Counts = Counts()
    margin: int = 10_000
    longest_blocks: int | None = Field(default=None, ge=1)
    rows: tuple[str, ...] = Field(min_length=1)
    more_rows: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    budget: Budget = Budget(minutes=6)
    published: Budget | None = None

    def tasks(self) -> list[Task]:
        """Its tasks in turn."""
        named = {
            name: dict.fromkeys(SPLITS, Compounds(**dict.fromkeys(PARTS, (name,))))
            for name in self.molecules
        } | self.divisions
        return [
            Task(
                name=name,
                layout=self.layout,
                compounds=compounds,
                delta=delta,
                timesteps=timesteps,
                atoms=self.atoms,
                errors_of=self.errors_of,
                counts=self.counts,
                margin=self.margin,
                splits=tuple(
                    split
                    for split in SPLITS
                    if split in compounds
                    and (split == "random" or delta <= (self.longest_blocks or delta))
                ),
            )
            for (name, compounds), delta, timesteps in itertools.product(
                named.items(), self.delta, self.timesteps
            )
        ]


def load_suite(name: str) -> Suite:
    """A suite by name, or from a file.

    Raises
    ------
    ConfigError
        If there is none, or something in it makes no sense.
    """
    known = sorted(
        path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in ("models", "published")
    )
    path = CONFIGS / f"{name}.yaml" if name in known else Path(name)
    if not path.is_file():
        raise ConfigError(f"unknown suite {name!r}: there are {', '.join(known)}, or give a file")
    settings = {"name": path.stem} | _read(path)
    refuse_unknown(Suite, settings, str(path))
    try:
        suite = Suite.model_validate(settings)
        if not suite.tasks():
            raise ConfigError(f"{path} has no tasks: give molecules or divisions, and delta")
    except ValidationError as error:
        raise ConfigError(explain(error, str(path))) from error
    return suite


def known_rows(suite: Suite) -> dict[str, dict[str, Any]]:
    """Settings of all rows that a suite may have, by name."""
    return _read(CONFIGS / "models.yaml") | suite.more_rows


def load_rows(suite: Suite, chosen: Sequence[str] = ()) -> dict[str, Row]:
    """Rows of a suite by name, or some of them; ``none`` alone is none of them.

    Raises
    ------
    ConfigError
        If one is unknown or makes no sense.
    """
    known = known_rows(suite)
    rows: dict[str, Row] = {}
    if tuple(chosen) == ("none",):
        return rows
    for name in chosen or suite.rows:
        if name not in known:
            raise ConfigError(
                f"unknown row {name!r}: there are {', '.join(known)}, or none of them; trivial "
                "rows are always measured"
            )
        try:
            rows[name] = Row.model_validate(_resolved(name, known))
        except ValidationError as error:
            raise ConfigError(explain(error, f"row {name}")) from error
    return rows


def _resolved(
    name: str, known: dict[str, dict[str, Any]], above: Sequence[str] = ()
) -> dict[str, Any]:
    settings = dict(known[name])
    base = settings.pop("base", None)
    if base in (name, *above):
        raise ConfigError(f"row {name}: its base {base!r} is built on it")
    if base is None:
        return settings
    if base not in known:
        raise ConfigError(f"row {name}: its base {base!r} is unknown")
    return _merged(_resolved(base, known, (name, *above)), {"label": name} | settings)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    joined = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = _merged(joined[key], value) if both else value
    return joined


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold settings by name")
    return found
