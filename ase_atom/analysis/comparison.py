"""The comparison as a whole: from two trajectories to lines, verdicts and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_atom.analysis.inputs.checks import check_alone, check_pair, with_masses_noted
from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.inputs.velocities import with_velocities
from ase_atom.analysis.lines import Line, Tolerances, Verdict, judge
from ase_atom.analysis.measures.conservation import compare_conservation
from ase_atom.analysis.measures.diagnosis import Finding, diagnose
from ase_atom.analysis.measures.dynamics import compare_dynamics
from ase_atom.analysis.measures.motion import rotational_freedom, split_motion, temperatures
from ase_atom.analysis.measures.pair import Pair, have_common_starts
from ase_atom.analysis.measures.structure import compare_structure
from ase_atom.analysis.measures.thermodynamics import ensemble_of
from ase_atom.analysis.molecule.coordinates import perceive
from ase_atom.analysis.outcome import Outcome
from ase_atom.analysis.parts import (
    add_infrared,
    check_choice,
    load,
    noting_rollout,
    paths,
    run_operator,
    temperature_of,
    thermodynamics,
)
from ase_atom.analysis.plots import Section
from ase_atom.analysis.statistics import LEAST_BLOCKS
from ase_atom.errors import ConfigError
from ase_atom.reference_engines import make_calculator

if TYPE_CHECKING:
    from ase_atom.operator import Operator


SHORT = 1000.0
"""fs; few runs that together are shorter are one sample of soft modes."""

_HOLDS_AT_ONCE = ("position error", "motion beside velocities", "centre of mass")


class Comparison(Outcome):
    """A trajectory laid beside a reference, with its report."""

    def write(self, folder: str | Path, *, command: str = "", overwrite: bool = False) -> Path:
        """Write the report, and return the page; see `ase_atom.analysis.report.write_report`."""
        # Matplotlib and the page's templates take time to import.
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
    infrared: bool = False,
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
        Settings of the operator's run, for `ase_atom.analysis.rollout.run_from`; the ensemble is
        the reference's by default.
    starts
        Frames of the reference to start from; by default the starts of its runs, or 32 evenly
        spread ones if those are few.
    energy
        Name or ASE calculator that potential energies and normal modes are computed with; by
        default the operator's own energy, or energies in the files.
    energy_frames
        Frames of either side whose energies are computed.
    infrared
        Compute the dipole of every frame too, which the calculator must have.
    reorder
        Put the trajectory's atoms into the reference's order where the bonds tell how.
    discard
        Time at the start of each run that is left out, fs.
    tolerances
        For the verdicts.
    frame_interval, reference_interval
        fs, for files without times of their own.
    molecule, temperature
        Choose among bursts, see `load_trajectory`.
    seed
        Of the bootstrap, and of the operator's noise.

    Raises
    ------
    AtomError
        For anything that cannot be compared, saying why.
    """
    if operator is None and trajectory is None:
        raise ConfigError("there is nothing to compare: name a trajectory or an operator")
    if operator is None and (rollout or starts is not None):
        raise ConfigError("rollout and starts are about an operator's run: name the operator")
    tolerances = tolerances or Tolerances()
    calculator, source = energy, "the given calculator"
    if isinstance(energy, str):
        calculator, source = make_calculator(energy), energy
    random = np.random.default_rng(seed)
    choice = {"molecule": molecule, "temperature": temperature}
    theirs = load(reference, topology, discard, frame_interval=reference_interval, **choice)
    rolled = cut = model = None
    if operator is not None:
        settings = {"seed": seed} | (rollout or {})
        cut, rolled, model = run_operator(operator, theirs, starts, settings)
    if trajectory is None:
        theirs, ours = cut, rolled
        check_alone(ours)
    else:
        ours = load(trajectory, topology, discard, frame_interval=frame_interval, **choice)
    of_operator = (rollout or {}).get("temperature")
    check_choice((ours, theirs), molecule, temperature if of_operator is None else None)
    ours, mixed = check_pair(ours, theirs, reorder)
    (ours, lack), (theirs, other_lack) = (with_velocities(side) for side in (ours, theirs))
    lacks = [reason for reason in (lack, other_lack) if reason]
    ours = with_masses_noted(_with_intervals_noted(ours, theirs), theirs)
    coordinates = perceive(theirs.numbers, theirs.pooled("positions", 1000))
    motions = kinetics = None
    if not lacks:
        turning = rotational_freedom(theirs)
        motions = tuple(
            [split_motion(run, side.masses, turning) for run in side] for side in (ours, theirs)
        )
        kinetics = tuple(temperatures(*both) for both in zip((ours, theirs), motions, strict=True))
    ensembles = tuple(
        ensemble_of(side, None if lacks else side.kinetic_energies()) for side in (ours, theirs)
    )
    # A thermostat's noise makes paths from common starts part at once.
    common = "canonical" not in ensembles and have_common_starts(ours, theirs)
    if trajectory is not None and rolled is not None and not common:
        theirs = noting_rollout(theirs, rolled, cut)
    warmth = temperature_of(theirs, None if kinetics is None else kinetics[1])
    pair = Pair(ours, theirs, coordinates, tolerances, random, warmth, common)
    dynamics, spectra = compare_dynamics(pair, motions, lacks)
    if energy is None and model is not None and model.has_energy:
        from ase_atom.analysis.molecule.minima import HeadCalculator

        calculator, source = HeadCalculator(model), "the operator's own energy"
    add_infrared(pair, calculator if infrared else None, source, infrared, dynamics)
    sections = [
        paths(pair, ensembles, trajectory is not None, rolled, cut),
        compare_structure(pair),
        dynamics,
        thermodynamics(
            pair, motions, kinetics, lacks, ensembles, calculator, source, energy_frames
        ),
        compare_conservation(pair, motions, ensembles),
    ]
    lines = judge([line for section in sections for line in section.lines])
    lines = _humble(lines, pair)
    findings = diagnose(pair, lines, kinetics, spectra, mixed)
    return _assemble(pair, sections, lines, findings)


def _humble(lines: Sequence[Line], pair: Pair) -> list[Line]:
    """Claim no difference where a side is a few runs, all together shorter than slow motion.

    Frames of so short a stretch of time are one sample of soft modes, and blocking cannot see that.
    What holds at every frame is exempt.
    """

    def brief(side: Trajectory) -> bool:
        known = side.duration is not None and len(side.segments) < LEAST_BLOCKS
        return known and side.duration < SHORT

    if not any(brief(side) for side in pair.sides):
        return list(lines)
    note = f"less than {SHORT / 1000:g} ps in few runs shows no difference for sure"
    return [
        replace(line, verdict=Verdict.UNCLEAR, note=f"{line.note}; {note}".lstrip("; "))
        if line.verdict is Verdict.DIFFERS and line.group not in _HOLDS_AT_ONCE
        else line
        for line in lines
    ]


def _with_intervals_noted(trajectory: Trajectory, reference: Trajectory) -> Trajectory:
    """Say what becomes of frames that are not equally far apart."""
    ours, theirs = trajectory.interval, reference.interval
    if ours is None or theirs is None or abs(ours - theirs) <= 1e-3 * theirs:
        return trajectory
    return trajectory.noting(
        f"its frames are {ours:g} fs apart, those of the reference {theirs:g} fs: paths are "
        "compared at the times that both have, everything else at the frames that each has, and "
        "nothing is interpolated"
    )


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
