"""Everything that can be wrong with an evaluation's input, looked at before anything is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ase.calculators.calculator import Calculator

from ase_atom.errors import ConfigError, CoverageError, HorizonError
from ase_atom.molecules.topology import canonical
from ase_atom.operator import Operator, load_operator
from ase_atom.operator.torch_settings import set_threads
from ase_atom.propagation import default_stride
from training.data.burst import Burst
from training.evaluation.accuracy import (
    MoleculeKey,
    chain_lags,
    duration,
    group_by_molecule,
    lag_frames,
)
from training.evaluation.selection import Selection, read_all, reference_engine, select_bursts
from training.evaluation.verdicts import check_reference

_DEFAULT_LAGS = (8.0, 16.0, 32.0, 64.0)
REPORT = "report.json"


@dataclass(frozen=True)
class Settings:
    """Options of the command line; see ``python -m training.evaluate --help``."""

    checkpoint: str
    data: tuple[Path, ...]
    output: Path | None = None
    overwrite: bool = False
    split: str = "test"
    lags: tuple[float, ...] | None = None
    starts: int = 16
    stride: float | None = None
    engine: bool = True
    langevin_ps: float = 100.0
    nve_ps: float = 20.0
    replicas: int = 64
    temperature: float = 300.0
    friction: float = 0.01
    energy_correction: bool = True
    reversible: bool | None = None
    molecule: str | None = None
    reference: Path | None = None
    seed: int = 0
    threads: int | None = None

    def check(self) -> None:
        """Refuse impossible values.

        Raises
        ------
        ConfigError
        """
        for name, value, zero in (
            ("--langevin", self.langevin_ps, True),
            ("--nve", self.nve_ps, True),
            ("--temperature", self.temperature, False),
            ("--friction", self.friction, False),
            ("--stride", 1.0 if self.stride is None else self.stride, False),
        ):
            if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
                least = "at least 0" if zero else "above 0"
                raise ConfigError(f"{name} must be {least}, not {value:g}")


@dataclass(frozen=True)
class Prepared:
    """Checked input of an evaluation.

    Attributes
    ----------
    settings
        As asked for.
    operator
        To evaluate.
    folder
        To write to.
    chosen, groups
        Bursts, and the same by molecule.
    stride, lags
        fs.
    key
        Molecule to roll out.
    reference
        The engine's own thermostatted run of it, if given.
    engine, no_engine
        Reference engine, or None and why.
    """

    settings: Settings
    operator: Operator
    folder: Path
    chosen: Selection
    groups: dict[MoleculeKey, list[Burst]]
    stride: float
    lags: tuple[float, ...]
    key: MoleculeKey
    reference: list[Burst] | None
    engine: Calculator | None
    no_engine: str


def prepare(settings: Settings) -> Prepared:
    """Read and check all input.

    Raises
    ------
    AtomError
        For anything wrong with it.
    """
    settings.check()
    if settings.threads is not None:
        set_threads(settings.threads)
    operator = load_operator(settings.checkpoint)
    card = operator.card
    folder = settings.output or Path("evaluation") / card.name
    if (folder / REPORT).exists() and not settings.overwrite:
        raise ConfigError(f"{folder / REPORT} exists: pass --overwrite to replace it")
    stride = default_stride(operator) if settings.stride is None else settings.stride
    for name, asked in (("stride", stride), ("lag", max(settings.lags or (0.0,)))):
        if asked > operator.horizon:
            raise HorizonError(
                f"a {name} of {asked:g} fs lies beyond the horizon of {card.name}, "
                f"{operator.horizon:g} fs"
            )
    chosen = select_bursts(settings.data, card, settings.split)
    groups = group_by_molecule(chosen.bursts)
    key = _rollout_molecule(groups, settings.molecule)
    reference = _reference_bursts(settings, key)
    engine, no_engine = None, "left out by --no-engine"
    if settings.engine:
        engine, no_engine = reference_engine(chosen.bursts)
    return Prepared(
        settings=settings,
        operator=operator,
        folder=folder,
        chosen=chosen,
        groups=groups,
        stride=stride,
        lags=_lags(settings, chosen.bursts, operator.horizon, stride),
        key=key,
        reference=reference,
        engine=engine,
        no_engine=no_engine,
    )


def _lags(
    settings: Settings, bursts: list[Burst], horizon: float, stride: float
) -> tuple[float, ...]:
    lags = settings.lags
    if lags is None:
        longest = min(horizon, *(duration(burst) for burst in bursts))
        lags = tuple(lag for lag in _DEFAULT_LAGS if lag <= longest) or (longest,)
    for burst in bursts:
        lag_frames(burst, (*lags, *chain_lags(bursts, stride)))
    return lags


def _rollout_molecule(groups: dict[MoleculeKey, list[Burst]], wanted: str | None) -> MoleculeKey:
    keys = list(groups)
    if wanted is None:
        return keys[0]
    for key in keys:
        if canonical(key[0]) == canonical(wanted):
            return key
    known = ", ".join(sorted({key[0] for key in keys}))
    raise CoverageError(f"--molecule {wanted}: the bursts are of {known}")


def _reference_bursts(settings: Settings, key: MoleculeKey) -> list[Burst] | None:
    if settings.reference is None:
        return None
    groups = group_by_molecule(read_all([settings.reference]))
    if key not in groups:
        raise CoverageError(
            f"{settings.reference} holds no run of {key[0]} with the atoms in the order of the data"
        )
    check_reference(groups[key], settings.temperature)
    return groups[key]
