"""What is asked of ``ase-atom run``: its options, read and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ase_atom.cli.options import check_belongs, check_positive, read_number, read_time
from ase_atom.errors import ConfigError
from ase_atom.files import RESTART_INTERVAL
from ase_atom.units import PS, format_time

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from ase_atom.operator import OperatorLike
    from ase_atom.propagation import Adaptive, Ensemble, Settings

TEMPERATURE = 300.0  # K
MOST_REPLICAS = 100_000


class EngineName(StrEnum):
    """Choices of ``--engine``."""

    auto = "auto"
    torch = "torch"
    onnx = "onnx"
    numba = "numba"


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
    ensemble: str
    temperature: float | None
    friction: float | None
    taut: float | None
    setting: tuple[str, ...]
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
    smiles: tuple[str, ...] = ()
    accept_error: bool = False
    tolerance: float | None = None
    fallback: str | None = None
    burst: float | None = None
    timestep: float | None = None
    quiet: bool = False
    as_json: bool = False

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance <= 1:
            raise ConfigError(
                f"--tolerance must be above 0 and at most 1, not {self.tolerance:g}: it is a "
                "relative error, such as 0.05"
            )
        if self.fallback is not None and not self.has_thermostat:
            raise ConfigError(
                f"--fallback goes with a thermostat, not with --ensemble {self.ensemble}: another "
                "potential has another energy, and what is to be kept would jump"
            )
        if self.timestep is not None:
            self._check_steps()
        check_belongs("--friction", self.friction, "langevin", self.ensemble)
        taut = None if self.taut is None else format_time(self.taut).replace(" ", "")
        check_belongs("--taut", taut, "bussi", self.ensemble)
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

    def _check_steps(self) -> None:
        """Refuse a time step that cannot be, and what is for jumps alone."""
        from ase_atom.propagation.grid import whole_steps
        from ase_atom.propagation.stepwise import HORIZON, check_timestep

        assert self.timestep is not None
        check_timestep(self.timestep, "--timestep")
        if self.stride is not None and self.stride > HORIZON:
            raise ConfigError(
                f"--stride must be at most {HORIZON:g} fs with --timestep, not "
                f"{format_time(self.stride)}: it is how often the thermostat acts"
            )
        times = {"stride": self.settings.stride, "frame interval": self.frame_interval}
        for name, time in times.items():
            if time is not None:
                option = f"--{name.replace(' ', '-')}"
                whole_steps(name, time, self.timestep, f"{option} and --timestep set them")
        for_jumps = {
            "--reversible": self.reversible is True,
            "--single-pass": self.reversible is False,
            "--tolerance": self.tolerance is not None,
            "--fallback": self.fallback is not None,
            "--burst": self.burst is not None,
            "--accept-error": self.accept_error,
            "--uncorrected": self.uncorrected,
        }
        for option, is_given in for_jumps.items():
            if is_given:
                raise ConfigError(
                    f"{option} is for jumps, and --timestep makes steps by forces in their place: "
                    "leave one of the two out"
                )

    @property
    def names(self) -> list[str]:
        """What molecules are called: their file's name, or path where names are not distinct.

        Those given as SMILES are called by that, after those of files.
        """
        short = [path.name for path in self.structures]
        return [
            name if short.count(name) == 1 else str(path)
            for name, path in zip(short, self.structures, strict=True)
        ] + list(self.smiles)

    @property
    def kelvin(self) -> float:
        """The temperature, by default 300 K."""
        return TEMPERATURE if self.temperature is None else self.temperature

    @property
    def kind(self) -> type[Ensemble]:
        """The class of the ensemble.

        Raises
        ------
        ConfigError
            If there is none of the name.
        """
        from ase_atom.propagation.ensembles import find_ensemble

        try:
            return find_ensemble(self.ensemble)
        except ConfigError as error:
            raise ConfigError(f"Invalid value for '--ensemble': {error}") from error

    @property
    def has_thermostat(self) -> bool:
        """Whether the dynamics have a temperature."""
        from ase_atom.propagation import Thermostat

        return issubclass(self.kind, Thermostat)

    @property
    def settings(self) -> Settings:
        """The dynamics, in the terms of propagation."""
        from ase_atom.propagation import Settings
        from ase_atom.propagation.settings import DEFAULT_STRIDE

        own = {
            "friction": None if self.friction is None else self.friction / PS,
            "taut": self.taut,
            **dict(self._others()),
        }
        return Settings(
            kind=self.ensemble,
            temperature=self.kelvin if self.has_thermostat else None,
            own={name: value for name, value in own.items() if value is not None},
            energy_correction=not self.uncorrected,
            reversible=self.reversible,
            stride=DEFAULT_STRIDE if self.stride is None and self.timestep else self.stride,
            names={name: f"--{name}" for name in ("temperature", "friction", "taut", "stride")},
        )

    @property
    def divides_strides(self) -> bool:
        """Whether strides are divided where jumps err too much."""
        return self.tolerance is not None or self.fallback is not None

    def moving(self, operator: OperatorLike) -> OperatorLike:
        """Return what moves the molecules: the operator, or steps by its forces.

        Raises
        ------
        ConfigError
            For steps of an operator without energies, or a time step that cannot be.
        """
        if self.timestep is None:
            return operator
        from ase_atom.propagation import PotentialSteps

        return PotentialSteps(operator, self.timestep)

    def calculator(self) -> Calculator:
        """Return the calculator that ``--fallback`` names.

        Raises
        ------
        ConfigError
            If there is none.
        """
        from ase_atom.analysis.reference_engines import make_calculator

        assert self.fallback is not None
        return make_calculator(self.fallback, "--fallback")

    def adaptive(self) -> Adaptive | None:
        """Return what divides strides, where it is asked for.

        Raises
        ------
        ConfigError
            For a fallback that is not there or computes no forces.
        """
        if not self.divides_strides:
            return None
        from ase_atom.propagation import Adaptive, Fallback
        from ase_atom.propagation.adaptive import TOLERANCE

        fallback = None
        if self.fallback is not None:
            fallback = Fallback(self.calculator(), self.fallback)
        return Adaptive(TOLERANCE if self.tolerance is None else self.tolerance, fallback)

    def _others(self) -> Iterator[tuple[str, float]]:
        """Settings given by ``--setting``, in the ensemble's units."""
        parameters = self.kind.parameters
        for text in self.setting:
            name, _, value = text.partition("=")
            if name not in parameters:
                has = ", ".join(parameters) or "none"
                raise ConfigError(f"--setting {text}: {self.ensemble} has {has}, not {name!r}")
            if parameters[name].unit == "fs":
                yield name, read_time(value, f"--setting {name}=")
            else:
                yield name, read_number(value, f"--setting {name}=", "1/ps") / PS

    def described(self) -> str:
        """The ensemble in words."""
        ensemble, kind = self.settings.ensemble(), self.kind
        text = f"{kind.title} at {self.kelvin:g} K" if self.has_thermostat else kind.title
        for name, parameter in kind.parameters.items():
            value = getattr(ensemble, name)
            if parameter.unit == "fs":
                text += f" with {format_time(value)}"
            else:
                text += f" and {value * PS:g} per ps"
        return text


@dataclass(frozen=True)
class ResumeRequest:
    """The options of an ``ase-atom run`` that goes on.

    Parameters
    ----------
    restart
        The restart file.
    time
        Up to when, fs; by default as long as the run was to be.
    quiet, as_json
        Print no summary, or the record in its place.
    """

    restart: Path
    time: float | None
    quiet: bool = False
    as_json: bool = False
