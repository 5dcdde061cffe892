"""The parts that a comparison is put together from: sides, an operator's runs, sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_atom.analysis.inputs.checks import check_alone
from ase_atom.analysis.inputs.learned import unseen
from ase_atom.analysis.inputs.sources import load_trajectory
from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.inputs.velocities import with_velocities
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
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.measures.pathwise import compare_paths
from ase_atom.analysis.measures.thermodynamics import compare_thermodynamics, ensemble_of
from ase_atom.analysis.molecule.coordinates import typical_frame
from ase_atom.analysis.plots import Section
from ase_atom.errors import ConfigError

if TYPE_CHECKING:
    from ase_atom.operator import Operator

_ROOM = 300.0  # K, for free energies where nothing says how hot it was


def load(
    given: str | Path | Trajectory,
    topology: Atoms | str | Path | None,
    discard: float,
    **choice: Any,
) -> Trajectory:
    if not isinstance(given, Trajectory):
        given = load_trajectory(given, topology, **choice)
    given = given.discarding(discard)
    check_alone(given)
    return given


def check_choice(
    sides: Sequence[Trajectory], molecule: str | None, temperature: float | None
) -> None:
    """Refuse to choose among bursts where there are none."""
    if any(run.key for side in sides for run in side):
        return
    for name, value in (("molecule", molecule), ("temperature", temperature)):
        if value is not None:
            files = " nor ".join(dict.fromkeys(side.short_name for side in sides))
            raise ConfigError(
                f"{name} {value} chooses among reference bursts, and there are none in {files}"
            )


def run_operator(
    operator: str | Operator, reference: Trajectory, starts: int | None, settings: dict[str, Any]
) -> tuple[Trajectory, Trajectory, Operator]:
    """Return the reference cut into runs, the operator's from their starts, and the operator."""
    from ase_atom.analysis.rollout import cut_runs, run_from
    from ase_atom.catalogue import operator_for

    reference, lack = with_velocities(reference)
    if lack:
        raise ConfigError(f"no operator can start from frames of the reference: {lack}")
    model = operator_for(_typical(reference), operator)
    reference = unseen(reference, model)
    cut = cut_runs(reference, starts, 4 * model.horizon)
    kind = ensemble_of(reference, reference.kinetic_energies())
    chosen = {name: value for name, value in settings.items() if value is not None}
    chosen.setdefault("ensemble", "langevin" if kind == "canonical" else "nve")
    if chosen["ensemble"] == "nve":
        _check_nve(reference, chosen)
    else:
        turning = rotational_freedom(reference)
        motions = [split_motion(run, reference.masses, turning) for run in reference]
        chosen = {
            "friction": float(reference.facts.get("friction_per_fs", 0.01)),
            "fix_com": temperatures(reference, motions).com_fixed,
        } | chosen
    return cut, run_from(model, cut, **chosen), model


def _check_nve(reference: Trajectory, chosen: dict[str, Any]) -> None:
    """Refuse a thermostat's settings, but for a temperature that may have chosen among bursts."""
    of_bursts = any(run.key for run in reference)
    for name in ("friction", *(() if of_bursts else ("temperature",))):
        if name in chosen:
            raise ConfigError(
                f"a {name} goes with ensemble langevin or bussi, and the operator's run is nve"
            )


def _typical(reference: Trajectory) -> Atoms:
    """The molecule as in a typical frame, from which its bonds are perceived."""
    atoms = reference.atoms()
    atoms.positions = typical_frame(reference.pooled("positions", 200))
    return atoms


def paths(
    pair: Pair,
    ensembles: tuple[str, str],
    given: bool,
    rolled: Trajectory | None,
    cut: Trajectory | None,
) -> Section:
    """Paths of the two from common starts, or of the operator where the two have none."""
    if given and rolled is not None and not pair.common_starts:
        own = replace(pair, trajectory=rolled, reference=cut, common_starts=True)
        section = compare_paths(own, "")
        section.remarks.append(
            f"Paths are those of {rolled.name}, started from {len(cut.segments)} frames of the "
            "reference, and not of the trajectory."
        )
        return section
    reason = ""
    if "canonical" in ensembles:
        reason = "a thermostat's noise parts paths at once"
    elif not pair.common_starts:
        reason = "the runs of the two do not start from the same states"
    return compare_paths(pair, reason)


def noting_rollout(reference: Trajectory, rolled: Trajectory, cut: Trajectory) -> Trajectory:
    """The reference with what is to be said of the operator's runs beside a trajectory's."""
    own = [note for note in cut.notes if note not in reference.notes]
    return reference.noting(*own, *(f"of {rolled.name}: {note}" for note in rolled.notes))


def add_infrared(
    pair: Pair, calculator: Calculator | None, source: str, wanted: bool, section: Section
) -> None:
    """Add infrared spectra where there are dipoles, or they are to be computed."""
    sides = pair.sides
    if wanted and calculator is None:
        raise ConfigError("an infrared spectrum wants --energy, a calculator that has dipoles")
    if wanted:
        sides = tuple(with_dipoles(side, calculator) for side in sides)
    elif not all(run.dipoles is not None for side in sides for run in side):
        return
    compare_infrared(pair, sides, source if wanted else "as the files have it", section)


def thermodynamics(
    pair: Pair,
    motions: tuple[list[Motion], list[Motion]] | None,
    kinetics: tuple[Temperatures, Temperatures] | None,
    lacks: Sequence[str],
    ensembles: tuple[str, str],
    calculator: Calculator | None,
    source: str,
    frames: int,
) -> Section:
    if kinetics is None:
        section = Section("thermodynamics")
        section.missing.append(Missing("thermodynamics", "temperatures", "; ".join(lacks)))
    else:
        section = compare_thermodynamics(pair, kinetics)
    if calculator is not None:
        sides = tuple(with_energies(side, calculator, frames) for side in pair.sides)
        compare_energies(pair, sides, kinetics, ensembles, source, section)
        if kinetics is not None and "forces" in calculator.implemented_properties:
            from ase_atom.analysis.measures.modes import compare_modes

            compare_modes(pair, motions, calculator, source, section)
    elif all(side.has_energies for side in pair.sides):
        compare_energies(
            pair, pair.sides, kinetics, ensembles, "energies as the files have them", section
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


def temperature_of(reference: Trajectory, kinetics: Temperatures | None) -> float:
    """Temperature of the reference: of its vibration, or as its file says, or 300 K."""
    if kinetics is not None:
        return kinetics.mean_vibration
    stated = nominal_temperature(reference)
    return _ROOM if stated is None else stated
