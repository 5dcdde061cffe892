"""The sections of a comparison, with what only some of them need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ase.calculators.calculator import Calculator

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Missing
from ase_atom.analysis.measures.energies import compare_energies, with_energies
from ase_atom.analysis.measures.infrared import compare_infrared, with_dipoles
from ase_atom.analysis.measures.motion import (
    Motion,
    Temperatures,
    nominal_temperature,
    rotational_freedom,
    split_motion,
    temperatures,
)
from ase_atom.analysis.measures.pair import Pair, of_both
from ase_atom.analysis.measures.pathwise import compare_paths
from ase_atom.analysis.measures.thermodynamics import compare_thermodynamics, ensemble_of
from ase_atom.analysis.options import Options
from ase_atom.analysis.plots import Section
from ase_atom.analysis.reference_engines import make_calculator
from ase_atom.analysis.sides import Sides
from ase_atom.errors import ConfigError

if TYPE_CHECKING:
    from ase_atom.analysis.rollout import OperatorRun

_ROOM = 300.0  # K, for free energies where nothing says how hot it was


@dataclass(frozen=True)
class Kinetics:
    """What velocities tell of both sides.

    Attributes
    ----------
    motions
        Of each run: translation, rotation and vibration; None if a side has no velocities.
    temperatures
        None likewise.
    ensembles
        ``nve``, ``canonical`` or empty.
    """

    motions: tuple[list[Motion], list[Motion]] | None
    temperatures: tuple[Temperatures, Temperatures] | None
    ensembles: tuple[str, str]

    @classmethod
    def of(cls, sides: Sides) -> Kinetics:
        """Measure both sides."""
        both = sides.trajectory, sides.reference
        if sides.lacks:
            return cls(None, None, of_both(lambda side: ensemble_of(side, None), both))
        turning = rotational_freedom(sides.reference)
        ours, theirs = ([split_motion(run, side.masses, turning) for run in side] for side in both)
        return cls(
            (ours, theirs),
            (temperatures(sides.trajectory, ours), temperatures(sides.reference, theirs)),
            of_both(lambda side: ensemble_of(side, side.kinetic_energies()), both),
        )

    def temperature(self, reference: Trajectory) -> float:
        """Temperature of the reference: of its vibration, or as its file says, or 300 K."""
        if self.temperatures is not None:
            return self.temperatures[1].mean_vibration
        stated = nominal_temperature(reference)
        return _ROOM if stated is None else stated


@dataclass(frozen=True)
class Energies:
    """What computes potential energies: a calculator, or None where the files have them.

    Attributes
    ----------
    calculator, source
        And what it is called.
    frames
        Of either side that get energies.
    """

    calculator: Calculator | None
    source: str
    frames: int

    @classmethod
    def of(cls, options: Options) -> Energies:
        """The calculator that is asked for, if one is.

        Raises
        ------
        ConfigError
            If there is no such calculator.
        """
        if isinstance(options.energy, str):
            return cls(make_calculator(options.energy), options.energy, options.energy_frames)
        return cls(options.energy, "the given calculator", options.energy_frames)

    def or_own(self, run: OperatorRun | None) -> Energies:
        """Return this, or in place of none the operator's own energy, if it has one."""
        if self.calculator is not None or run is None or not run.operator.has_energy:
            return self
        from ase_atom.analysis.molecule.minima import HeadCalculator

        own = HeadCalculator(run.operator)
        return replace(self, calculator=own, source="the operator's own energy")


def paths(pair: Pair, kinetics: Kinetics, sides: Sides) -> Section:
    """Paths of the two from common starts, or of the operator where the two have none."""
    if sides.run is not None and sides.beside and not pair.common_starts:
        cut, rolled = sides.run.reference, sides.run.trajectory
        own = replace(pair, trajectory=rolled, reference=cut, common_starts=True)
        section = compare_paths(own, "")
        section.remarks.append(
            f"Paths are those of {rolled.name}, started from {len(cut.segments)} frames of the "
            "reference, and not of the trajectory."
        )
        return section
    reason = ""
    if "canonical" in kinetics.ensembles:
        reason = "a thermostat's noise parts paths at once"
    elif not pair.common_starts:
        reason = "the runs of the two do not start from the same states"
    return compare_paths(pair, reason)


def add_infrared(pair: Pair, energies: Energies, wanted: bool, section: Section) -> None:
    """Add infrared spectra where there are dipoles, or they are to be computed."""
    sides, calculator = pair.sides, energies.calculator
    if wanted and calculator is None:
        raise ConfigError("an infrared spectrum needs --energy with a calculator that has dipoles")
    if wanted and calculator is not None:
        sides = of_both(partial(with_dipoles, calculator=calculator), sides)
    elif not all(run.dipoles is not None for side in sides for run in side):
        return
    compare_infrared(pair, sides, energies.source if wanted else "as the files have it", section)


def thermodynamics(
    pair: Pair, kinetics: Kinetics, lacks: Sequence[str], energies: Energies
) -> Section:
    """Temperatures, energies and their distributions, and the temperature of every mode."""
    both, ensembles = kinetics.temperatures, kinetics.ensembles
    calculator, source = energies.calculator, energies.source
    if both is None:
        section = Section("thermodynamics")
        section.missing.append(Missing("thermodynamics", "temperatures", "; ".join(lacks)))
    else:
        section = compare_thermodynamics(pair, both)
    if calculator is not None:
        own, other = (with_energies(side, calculator, energies.frames) for side in pair.sides)
        compare_energies(pair, (own, other), both, ensembles, source, section)
        if kinetics.motions is not None and "forces" in calculator.implemented_properties:
            from ase_atom.analysis.measures.modes import compare_modes

            compare_modes(pair, kinetics.motions, calculator, source, section)
    elif all(side.has_energies for side in pair.sides):
        compare_energies(
            pair, pair.sides, both, ensembles, "energies as the files have them", section
        )
    else:
        lacking = [s.short_name for s in pair.sides if not s.has_energies]
        has = "have" if len(lacking) > 1 else "has"
        for name in ("potential energies", "drift of the total energy", "temperature by mode"):
            section.missing.append(
                Missing(
                    "thermodynamics",
                    name,
                    f"{' and '.join(lacking)} {has} no energies, and no --energy was named to "
                    "compute them",
                )
            )
    return section
