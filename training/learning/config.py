"""Typed settings of a training run, read from YAML and refused where they make no sense."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ase_atom.errors import ConfigError
from ase_atom.operator import AnyConfig, ArchitectureConfig, SpectralConfig
from ase_atom.operator.registry import architecture_of, find_architecture


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which reference bursts to learn from, and how they are divided.

    Attributes
    ----------
    paths
        Merged files, folders of bursts, or collections of several molecules' files and folders;
        relative ones are looked up in the data folder.
    displaced
        The same for displaced geometries, which have energies and forces and are no path: those of
        compounds in training are among the states of the force and energy terms.
    validation, test
        Bursts held out for validation and for testing: a fraction below 1, or a count.
    split_seed
        Seed of the division.
    partition
        CSV table of compounds (``smiles``) and their ``part``: bursts of ``test`` compounds are
        never read, those of ``validation`` compounds measured each by itself. All others are in
        training but for the share ``validation`` of their bursts; ``test`` must be 0.
    buckets
        Atoms in the largest molecule of each group of similar size. A step's batch has windows of
        every group, each padded to its own largest molecule; one group by default.
    grow
        Whether bursts that have come into the data join the run when it is resumed.
    rotations
        Whether each window is turned, or turned and mirrored, at random; by default where the
        operator does not commute with rotations by itself.
    """

    paths: tuple[str, ...] = Field(min_length=1)
    displaced: tuple[str, ...] = ()
    validation: float = Field(default=0.05, ge=0)
    test: float = Field(default=0.1, ge=0)
    split_seed: int = Field(default=0, ge=0)
    partition: str | None = None
    buckets: tuple[int, ...] = ()
    grow: bool = False
    rotations: bool | None = None

    @model_validator(mode="after")
    def _shares(self) -> DataConfig:
        for name in ("validation", "test"):
            value = getattr(self, name)
            if value >= 1 and value != int(value):
                raise ValueError(f"{name} is a fraction below 1 or a whole number, not {value:g}")
        if self.validation < 1 and self.test < 1 and self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        if self.partition and (self.test or self.validation >= 1):
            raise ValueError("with partition, test must be 0 and validation a fraction below 1")
        if list(self.buckets) != sorted({*self.buckets}):
            raise ValueError(f"buckets must rise, not {list(self.buckets)}")
        return self


class OptimiserConfig(_Section):
    """How weights follow gradients.

    Attributes
    ----------
    name
        ``adamw``, or ``muon``: orthogonalised momentum for the hidden matrices, AdamW for the rest.
    lr, betas, eps, weight_decay
        Of AdamW. With ``muon`` the decay is that of its matrices alone.
    amsgrad
        Whether AdamW divides by the largest second moment so far.
    muon_lr, muon_momentum
        Of Muon's matrices; its step has unit spectral norm, hence the larger rate.
    schedule
        What the rate does after its rise: ``cosine``, falling to zero; ``constant``; or ``decay``,
        constant and from step ``decay_from`` falling to zero.
    decay_from
        See there.
    cooling
        Steps after which a constant rate has fallen by √2, as 1/√(1 + step/cooling); 0 for never.
    warmup
        Steps over which the rate rises linearly.
    clip
        Largest norm of the whole gradient; 0 for no limit.
    ema
        Decay per step of the averaged weights that are validated and saved; 0 for none.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(default=1.5e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    amsgrad: bool = False
    muon_lr: float = Field(default=0.02, gt=0)
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    schedule: Literal["cosine", "constant", "decay"] = "cosine"
    decay_from: int = Field(default=0, ge=0)
    cooling: int = Field(default=0, ge=0)
    warmup: int = Field(default=100, ge=0)
    clip: float = Field(default=1.0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> OptimiserConfig:
        if self.cooling and self.schedule == "cosine":
            raise ValueError("cooling is for schedule: constant")
        return self


class LossConfig(_Section):
    """What is minimised; see `training.learning.losses`.

    Attributes
    ----------
    window
        Longest lag of one jump in the loss, fs; the operator's segment by default.
    chain
        Jumps of one window each, every one from where the one before ended.
    lags_per_sample
        Random lags of each jump that enter a step's loss; all by default.
    position, velocity, force, energy
        Weights of the terms.
    measure
        ``square``: errors enter squared; ``length``: as they are, which the worst decide less.
    force_batch
        States a step for the force and energy terms.
    temperature
        Temperature whose thermal speeds are the scale of velocity errors, K.
    """

    window: float | None = Field(default=None, gt=0)
    chain: int = Field(default=1, ge=1)
    lags_per_sample: int | None = Field(default=None, ge=1)
    position: float = Field(default=1.0, ge=0)
    velocity: float = Field(default=1.0, ge=0)
    force: float = Field(default=1.0, ge=0)
    energy: float = Field(default=0.1, ge=0)
    measure: Literal["square", "length"] = "square"
    force_batch: int = Field(default=32, ge=1)
    temperature: float = Field(default=400.0, gt=0)

    @model_validator(mode="after")
    def _something(self) -> LossConfig:
        if not any((self.position, self.velocity, self.force, self.energy)):
            raise ValueError("every term has weight 0: there is nothing to learn")
        return self


class TrainerConfig(_Section):
    """How long, on what, and how often to look.

    Attributes
    ----------
    steps, batch_size
        Number of optimiser steps, and of windows in each on each device.
    seed
        Of the initial weights and of the windows.
    precision, accelerator, devices
        As in Lightning's ``Trainer``; precision ``auto`` is ``bf16-mixed`` on a GPU that computes
        in bfloat16, and else ``32-true``.
    threads
        CPU threads of each process; PyTorch's own choice by default.
    compile
        Compile the path and the energy with their gradients: some minutes at the first start.
    checkpoint_every, validate_every, log_every
        In steps.
    validate_starts
        States of each validation burst from which errors are measured.
    """

    steps: int = Field(default=20_000, ge=1)
    batch_size: int = Field(default=128, ge=1)
    seed: int = Field(default=0, ge=0)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)
    compile: bool = False
    checkpoint_every: int = Field(default=500, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=50, ge=1)
    validate_starts: int = Field(default=16, ge=1)


class TrainingConfig(_Section):
    """A whole training run.

    Attributes
    ----------
    name
        Of the operator, and of its file.
    stride
        Jump recommended for propagation, fs; written into the card.
    largest_molecule
        Atoms in the largest molecule that the operator is for, trained on or not; written into the
        card. By default it is for those of its data alone.
    start_from
        Name or path of an operator whose weights the run starts from. It may know fewer elements
        and charges; see `training.learning.heritage.inherit`.
    refit_energies
        Fit the energies of atoms to the data anew, and divide the data without regard to what
        ``start_from`` was trained on: for data of another level of theory.
    energy_from
        Name or path of a spectral operator whose energy head a ``paper`` operator takes as it is:
        the two then share a potential energy surface, and only paths are learned.
    notes
        Written into the card.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    stride: float = Field(default=16.0, gt=0)
    largest_molecule: int | None = Field(default=None, ge=1)
    start_from: str | None = None
    refit_energies: bool = False
    energy_from: str | None = None
    notes: str = ""
    operator: AnyConfig = SpectralConfig()
    data: DataConfig
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
    trainer: TrainerConfig = TrainerConfig()

    @model_validator(mode="after")
    def _consistent(self) -> TrainingConfig:
        if self.stride > self.operator.horizon:
            raise ValueError(
                f"stride ({self.stride:g} fs) is longer than operator.horizon "
                f"({self.operator.horizon:g} fs)"
            )
        if self.window > self.operator.segment:
            raise ValueError(
                f"loss.window ({self.window:g} fs) is longer than operator.segment "
                f"({self.operator.segment:g} fs): use loss.chain for longer paths"
            )
        if self.operator.architecture == "paper":
            self._check_paper()
        elif self.energy_from:
            raise ValueError("energy_from is for architecture: paper")
        if self.refit_energies and not self.start_from:
            raise ValueError("refit_energies needs start_from")
        return self

    def _check_paper(self) -> None:
        if self.trainer.compile:
            raise ValueError("trainer.compile is for architecture: spectral")
        learned = self.loss.force or self.loss.energy
        if not self.operator.velocities:
            raise ValueError(
                "operator.velocities must be true to train for propagation; operators of positions "
                "alone are trained by python -m training.benchmark"
            )
        if learned and self.operator.energy is None:
            raise ValueError("loss.force and loss.energy must be 0 without operator.energy")
        if learned and self.energy_from:
            raise ValueError("loss.force and loss.energy must be 0 with energy_from")
        if self.energy_from and self.operator.energy is None:
            raise ValueError("energy_from needs operator.energy, the sizes of the head to take")

    @property
    def window(self) -> float:
        """Longest lag of one jump in the loss, fs."""
        return self.operator.segment if self.loss.window is None else self.loss.window


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainingConfig:
    """Read a run's settings.

    Parameters
    ----------
    path
        YAML file.
    overrides
        ``section.key=value`` strings that replace what the file says; values are YAML.

    Raises
    ------
    ConfigError
        If the file cannot be read, a key is unknown (the nearest known one is named), or a value
        is of the wrong type or out of range.
    """
    path = Path(path)
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold sections such as data: and trainer:")
    for override in overrides:
        _override(settings, override)
    refuse_unknown(TrainingConfig, settings, str(path))
    try:
        return TrainingConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(explain(error, str(path))) from error


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings that differ between two plain configurations: dotted key to ``old → new``."""
    found: dict[str, str] = {}
    for key in sorted({*old, *new}):
        left, right = old.get(key), new.get(key)
        name = f"{prefix}{key}"
        if isinstance(left, dict) and isinstance(right, dict):
            found.update(differences(left, right, f"{name}."))
        elif left != right:
            found[name] = f"{left} → {right}"
    return found


def listed(changed: dict[str, str], prefix: str = "") -> str:
    """Differences as a message lists them: ``section.key: old → new, ...``."""
    return ", ".join(f"{prefix}{key}: {change}" for key, change in changed.items())


def _override(settings: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set takes section.key=value, not {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error
    place = settings
    for key in keys[:-1]:
        below = place.get(key)
        place[key] = place = below if isinstance(below, dict) else {}
    place[keys[-1]] = value


def refuse_unknown(model: type[BaseModel], settings: dict, source: str, prefix: str = "") -> None:
    """Refuse keys that a model does not know, naming the nearest that it does."""
    for key, value in settings.items():
        if key not in model.model_fields:
            known = list(model.model_fields)
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{source}: unknown key {prefix}{key}; {hint}")
        section = _section(model.model_fields[key].annotation, value)
        if section is not None and isinstance(value, dict):
            refuse_unknown(section, value, source, f"{prefix}{key}.")


def _section(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The model of a field: where there are several architectures, that which the value names."""
    kinds = (annotation, *get_args(annotation))
    if ArchitectureConfig in kinds:
        found = find_architecture(architecture_of(value))
        return None if found is None else found.config
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def explain(error: ValidationError, source: str) -> str:
    """One line on the first thing that pydantic found wrong."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    value = first["input"]
    shown = (
        ""
        if first["type"] == "missing" or isinstance(value, BaseModel | dict)
        else f", not {value!r}"
    )
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{source}: {where + ': ' if where else ''}{message}{shown}{more}"
