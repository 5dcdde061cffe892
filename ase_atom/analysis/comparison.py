"""The comparison as a whole: from two trajectories to lines, verdicts and plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_atom.analysis.checks import check_alone, check_pair
from ase_atom.analysis.conservation import compare_conservation
from ase_atom.analysis.coordinates import Coordinates, perceive
from ase_atom.analysis.diagnosis import Finding, diagnose
from ase_atom.analysis.dynamics import compare_dynamics
from ase_atom.analysis.energies import compare_energies, with_energies
from ase_atom.analysis.lines import Line, Missing, Tolerances, Verdict, judge
from ase_atom.analysis.motion import Motion, Temperatures, split_motion, temperatures
from ase_atom.analysis.pair import Pair, have_common_starts
from ase_atom.analysis.pathwise import compare_paths
from ase_atom.analysis.plots import Plot, Section
from ase_atom.analysis.sources import load_trajectory
from ase_atom.analysis.structure import compare_structure
from ase_atom.analysis.thermodynamics import compare_thermodynamics, ensemble_of
from ase_atom.analysis.trajectory import Trajectory
from ase_atom.analysis.velocities import with_velocities
from ase_atom.errors import ConfigError

if TYPE_CHECKING:
    from ase_atom.operator import Operator

_ROOM = 300.0  # K, for free energies where nothing says how hot it was


@dataclass(frozen=True)
class Comparison:
    """A trajectory laid beside a reference.

    Attributes
    ----------
    trajectory, reference
        As they were compared.
    coordinates
        Of the molecule.
    lines
        Every number with its verdict.
    missing
        What could not be measured, and why.
    plots
        In the order of the report.
    remarks
        How things were measured: section and sentence.
    facts
        Numbers without a verdict: section, what they are, and what they say.
    findings
        Diseases of the trajectory, by name.
    tolerances
        That the verdicts are about.
    """

    trajectory: Trajectory
    reference: Trajectory
    coordinates: Coordinates
    lines: tuple[Line, ...]
    missing: tuple[Missing, ...]
    plots: tuple[Plot, ...]
    remarks: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str, str], ...]
    findings: tuple[Finding, ...]
    tolerances: Tolerances

    @property
    def sections(self) -> list[str]:
        """Names of the sections, in the order of the report."""
        named = [line.section for line in self.lines] + [plot.section for plot in self.plots]
        return list(dict.fromkeys(named))

    def line(self, name: str) -> Line:
        """Return the line of a name.

        Raises
        ------
        KeyError
            If there is none.
        """
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(name)

    def count(self, verdict: Verdict, section: str | None = None) -> int:
        """Number of lines with a verdict, of one section or of all."""
        return Counter(
            line.verdict for line in self.lines if section is None or line.section == section
        )[verdict]

    def worst(self, section: str | None = None) -> list[Line]:
        """Lines by deviation over tolerance, the largest first."""
        chosen = [line for line in self.lines if section is None or line.section == section]
        return sorted(chosen, key=lambda line: -line.severity)

    def write(self, folder: str | Path, *, command: str = "", overwrite: bool = False) -> Path:
        """Write the report, and return the page; see `ase_atom.analysis.report.write_report`."""
        from ase_atom.analysis.report import write_report

        return write_report(self, Path(folder), command=command, overwrite=overwrite)


def compare(
    trajectory: str | Path | Trajectory | None,
    reference: str | Path | Trajectory,
    *,
    topology: Atoms | str | Path | None = None,
    operator: str | Operator | None = None,
    rollout: dict[str, Any] | None = None,
    starts: int | None = None,
    energy: str | Calculator | None = None,
    energy_frames: int = 400,
    reorder: bool = False,
    discard: float = 0.0,
    tolerances: Tolerances | None = None,
    frame_interval: float | None = None,
    reference_interval: float | None = None,
    molecule: str | None = None,
    temperature: float | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare a trajectory with a reference.

    Parameters
    ----------
    trajectory, reference
        Files that `ase_atom.analysis.load_trajectory` reads, or what it returns. Without a
        trajectory, that of the operator is compared.
    topology
        Elements of the atoms, for files that do not say.
    operator
        Name, file or operator, to be started from frames of the reference. With a trajectory at
        hand it only adds the comparison of paths from common starts.
    rollout
        Settings of the operator's run, for `ase_atom.analysis.rollout.roll_out`; the ensemble is
        the reference's by default.
    starts
        Frames of the reference to start from; by default the starts of its runs, or 32 evenly
        spread ones if those are few.
    energy
        Name or ASE calculator that potential energies and normal modes are computed with; by
        default the operator's own energy, or energies in the files.
    energy_frames
        Frames of either side whose energies are computed.
    reorder
        Put the trajectory's atoms into the reference's order where the bonds tell how.
    discard
        Time at the start of each run that is left out, fs.
    tolerances
        For the verdicts.
    frame_interval, reference_interval
        fs, for files without times.
    molecule, temperature
        Choose among bursts, see `load_trajectory`.
    seed
        Of the bootstrap, and of the operator's noise.

    Raises
    ------
    AtomError
        For anything that cannot be compared, saying why.
    """
    tolerances = tolerances or Tolerances()
    random = np.random.default_rng(seed)
    choice = {"molecule": molecule, "temperature": temperature}
    theirs = _load(reference, topology, discard, frame_interval=reference_interval, **choice)
    rolled = cut = None
    if operator is not None:
        settings = {"seed": seed} | (rollout or {})
        cut, rolled, model = _roll_out(operator, theirs, starts, settings)
    elif trajectory is None:
        raise ConfigError("there is nothing to compare: name a trajectory or an operator")
    if trajectory is None:
        theirs, ours = cut, rolled
        check_alone(ours)
    else:
        ours = _load(trajectory, topology, discard, frame_interval=frame_interval, **choice)
    ours, mixed = check_pair(ours, theirs, reorder)
    (ours, lack), (theirs, other_lack) = (with_velocities(side) for side in (ours, theirs))
    lacks = [reason for reason in (lack, other_lack) if reason]
    coordinates = perceive(theirs.numbers, theirs.pooled("positions", 1000))
    motions = kinetics = None
    if not lacks:
        motions = tuple([split_motion(run, side.masses) for run in side] for side in (ours, theirs))
        kinetics = tuple(temperatures(*both) for both in zip((ours, theirs), motions, strict=True))
    ensembles = tuple(
        ensemble_of(side, None if lacks else side.kinetic_energies()) for side in (ours, theirs)
    )
    # A thermostat's noise makes paths from common starts part at once.
    common = "canonical" not in ensembles and have_common_starts(ours, theirs)
    warmth = _temperature(theirs, None if kinetics is None else kinetics[1])
    pair = Pair(ours, theirs, coordinates, tolerances, random, warmth, common)
    dynamics, spectra = compare_dynamics(pair, motions, lacks)
    calculator, source = energy, "the given calculator"
    if isinstance(energy, str):
        from ase_atom.analysis.engines import make_calculator

        calculator, source = make_calculator(energy), energy
    elif energy is None and operator is not None and hasattr(model, "energy_and_forces"):
        from ase_atom.analysis.minima import HeadCalculator

        calculator, source = HeadCalculator(model), "the operator's own energy"
    sections = [
        _paths(pair, ensembles, trajectory is not None, rolled, cut),
        compare_structure(pair),
        dynamics,
        _thermodynamics(
            pair, motions, kinetics, lacks, ensembles, calculator, source, energy_frames
        ),
        compare_conservation(pair, motions, ensembles),
    ]
    lines = judge([line for section in sections for line in section.lines])
    findings = diagnose(pair, lines, kinetics, spectra, mixed)
    return _assemble(pair, sections, lines, findings)


def _load(
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


def _roll_out(
    operator: str | Operator, reference: Trajectory, starts: int | None, settings: dict[str, Any]
) -> tuple[Trajectory, Trajectory, Operator]:
    """Return the reference cut into runs, the operator's from their starts, and the operator."""
    from ase_atom.analysis.rollout import cut_runs, roll_out
    from ase_atom.catalogue import operator_for

    reference, lack = with_velocities(reference)
    if lack:
        raise ConfigError(f"no operator can start from frames of the reference: {lack}")
    model = operator_for(_typical(reference), operator)
    cut = cut_runs(reference, starts, 4 * model.horizon)
    kind = ensemble_of(reference, reference.kinetic_energies())
    defaults: dict[str, Any] = {"ensemble": "nve"}
    if kind == "canonical":
        motions = [split_motion(run, reference.masses) for run in reference]
        kinetics = temperatures(reference, motions)
        defaults = {
            "ensemble": "langevin",
            "temperature": _temperature(reference, None, kinetics),
            "friction": float(reference.facts.get("friction_per_fs", 0.01)),
            "fix_com": kinetics.com_fixed,
        }
    chosen = defaults | {name: value for name, value in settings.items() if value is not None}
    return cut, roll_out(model, cut, **chosen), model


def _typical(reference: Trajectory) -> Atoms:
    """The molecule as in a typical frame, from which its bonds are perceived."""
    from ase_atom.analysis.coordinates import typical_frame

    atoms = reference.atoms()
    atoms.positions = typical_frame(reference.pooled("positions", 200))
    return atoms


def _paths(
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


def _thermodynamics(
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
            from ase_atom.analysis.modes import compare_modes

            compare_modes(pair, motions, calculator, source, section)
    elif all(side.has_energies for side in pair.sides):
        compare_energies(
            pair, pair.sides, kinetics, ensembles, "energies as the files have them", section
        )
    else:
        lacking = " and ".join(s.short_name for s in pair.sides if not s.has_energies)
        for name in ("potential energies", "drift of the total energy", "temperature by mode"):
            section.missing.append(
                Missing(
                    "thermodynamics",
                    name,
                    f"{lacking} has no energies, and no --energy was named to compute them",
                )
            )
    return section


def _temperature(
    reference: Trajectory, kinetics: Temperatures | None, measured: Temperatures | None = None
) -> float:
    """Temperature of the reference: of its vibration, or as its file says, or 300 K.

    The nominal one goes before ``measured``, which is taken where the file says nothing.
    """
    if kinetics is not None:
        return float(np.concatenate(kinetics.vibration).mean())
    try:
        return float(reference.facts["temperature_K"])
    except (KeyError, ValueError):
        return _ROOM if measured is None else _temperature(reference, measured)


def _assemble(
    pair: Pair, sections: Sequence[Section], lines: Sequence[Line], findings: Sequence[Finding]
) -> Comparison:
    return Comparison(
        pair.trajectory,
        pair.reference,
        pair.coordinates,
        tuple(lines),
        tuple(one for section in sections for one in section.missing),
        tuple(plot for section in sections for plot in section.plots),
        tuple((section.name, text) for section in sections for text in section.remarks),
        tuple((section.name, *fact) for section in sections for fact in section.facts),
        tuple(findings),
        pair.tolerances,
    )
