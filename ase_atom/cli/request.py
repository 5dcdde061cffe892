"""What is asked of ``ase-atom run``: its options, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ase_atom.cli.options import check_belongs, check_positive
from ase_atom.errors import ConfigError
from ase_atom.units import PS, format_time

if TYPE_CHECKING:
    from ase_atom.propagation import Settings

TEMPERATURE, FRICTION, TAUT = 300.0, 10.0, 100.0  # K, 1/ps, fs
MOST_REPLICAS = 100_000

RESTART_INTERVAL = 500
"""Jumps between two restart files: some seconds, which is what a killed run loses at the most."""


class EnsembleName(StrEnum):
    """Choices of ``--ensemble``."""

    langevin = "langevin"
    bussi = "bussi"
    nve = "nve"


class EngineName(StrEnum):
    """Choices of ``--engine``."""

    auto = "auto"
    torch = "torch"
    onnx = "onnx"


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The options of one ``ase-atom run``; None where an option was not given.

    Times are in fs, temperatures in K, the friction in 1/ps.

    Raises
    ------
    ConfigError
        For options that contradict each other, do nothing, or have impossible values.
    """

    structures: tuple[Path, ...]
    output: Path
    overwrite: bool
    operator: str | None
    force: bool
    time: float
    stride: float | None
    frame_interval: float | None
    replicas: int
    seed: int
    ensemble: EnsembleName
    temperature: float | None
    friction: float | None
    taut: float | None
    reversible: bool | None
    uncorrected: bool
    keep_zero_velocities: bool
    equilibration: float | None
    no_equilibration: bool
    stop_on_error: bool
    threads: int
    engine: EngineName
    device: str
    log: Path | None = None
    restart: Path | None = None
    restart_interval: int = RESTART_INTERVAL

    def __post_init__(self) -> None:
        check_belongs("--friction", self.friction, EnsembleName.langevin, self.ensemble)
        taut = None if self.taut is None else format_time(self.taut).replace(" ", "")
        check_belongs("--taut", taut, EnsembleName.bussi, self.ensemble)
        check_positive("--temperature", self.kelvin, "K")
        if self.friction is not None:
            check_positive("--friction", self.friction, "1/ps")
        if self.seed < 0:
            raise ConfigError(f"--seed must be at least 0, not {self.seed}")
        for option, count in (
            ("threads", self.threads),
            ("replicas", self.replicas),
            ("restart-interval", self.restart_interval),
        ):
            if count < 1:
                raise ConfigError(f"--{option} must be at least 1, not {count}")
        if self.replicas > MOST_REPLICAS:
            raise ConfigError(f"--replicas must be at most {MOST_REPLICAS}, not {self.replicas}")
        if self.force and self.operator is None:
            raise ConfigError("--force goes with --operator: name the operator to use all the same")
        if self.equilibration is not None:
            for given, option in (
                (self.no_equilibration, "--no-equilibration"),
                (self.keep_zero_velocities, "--keep-zero-velocities"),
            ):
                if given:
                    raise ConfigError(f"--equilibration and {option} contradict each other")

    @property
    def kelvin(self) -> float:
        """The temperature, by default 300 K."""
        return TEMPERATURE if self.temperature is None else self.temperature

    @property
    def settings(self) -> Settings:
        """The dynamics, in the terms of propagation."""
        from ase_atom.propagation import Settings

        friction = FRICTION if self.friction is None else self.friction
        taut = TAUT if self.taut is None else self.taut
        own = {
            EnsembleName.langevin: {"friction": friction / PS},
            EnsembleName.bussi: {"taut": taut},
        }.get(self.ensemble, {})
        return Settings(
            kind=self.ensemble.value,
            temperature=None if self.ensemble is EnsembleName.nve else self.kelvin,
            own=own,
            energy_correction=not self.uncorrected,
            reversible=self.reversible,
            stride=self.stride,
            names={name: f"--{name}" for name in ("temperature", "friction", "taut", "stride")},
        )

    def described(self) -> str:
        """The ensemble in words."""
        friction = FRICTION if self.friction is None else self.friction
        taut = TAUT if self.taut is None else self.taut
        return {
            EnsembleName.nve: "NVE",
            EnsembleName.langevin: f"Langevin at {self.kelvin:g} K and {friction:g} per ps",
            EnsembleName.bussi: f"Bussi at {self.kelvin:g} K with {format_time(taut)}",
        }[self.ensemble]


@dataclass(frozen=True)
class ResumeRequest:
    """The options of an ``ase-atom run`` that goes on.

    Parameters
    ----------
    restart
        The restart file.
    time
        Up to when, fs; by default as long as the run was to be.
    """

    restart: Path
    time: float | None
