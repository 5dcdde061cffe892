"""The audit: an operator's errors on compounds outside its training set, beside their likeness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ase_atom.operator import Operator
from ase_atom.state import PhaseState
from training.auditing.canonical import BondsBeside, CanonicalRun, compare_with, roll_once
from training.auditing.compounds import thermostatted
from training.auditing.errors import (
    Correlation,
    Error,
    correlate,
    is_lost,
    median,
    relative,
    squares,
    written,
)
from training.auditing.material import Material, gather
from training.auditing.others import Comparison, Other, compare_all, measure
from training.auditing.similarity import Likeness, compare, embed
from training.auditing.theory import difference
from training.evaluation.rollouts import Plan
from training.evaluation.verdicts import check_reference

DRAWS = 1000


@dataclass(frozen=True)
class Row:
    """One compound: errors at each lag, how near the training set it is, a long run, its set.

    Bonds of the long run are beside those of the reference engine's, where there is one.
    """

    name: str
    smiles: str
    atoms: int
    bursts: int
    errors: list[Error]
    likeness: Likeness
    canonical: CanonicalRun | None = None
    set: str = ""
    bonds: BondsBeside | None = None


@dataclass(frozen=True)
class Long:
    """A long thermostatted run of each compound.

    Attributes
    ----------
    plan
        What to run.
    replicas
        Of each compound.
    folder
        Where each run is kept as soon as it is done.
    reference
        The reference engine's own runs, files or collections; none to go without.
    """

    plan: Plan
    replicas: int
    folder: Path
    reference: Sequence[Path] = ()


@dataclass(frozen=True)
class Audit:
    """All that the page shows.

    Attributes
    ----------
    operator, command
        Name, and the command line that made this.
    training
        Compounds in the training set.
    lags
        fs.
    rows
        Compounds.
    correlations
        Of the error at each lag with measures of likeness, by the measure's name.
    others
        Other operators on the same starts.
    comparisons
        Of this operator with the others, and of these with each other.
    plan
        Of the long runs, if there are any.
    theory, theories
        Level of theory that the operator was trained on, and those of the bursts.
    warnings
        Of operators that were trained on another method than that of the bursts.
    left_out
        Compounds of the part that were not measured, each with the reason.
    """

    operator: str
    command: str
    training: int
    lags: list[float]
    rows: list[Row]
    correlations: dict[str, list[Correlation | None]]
    others: list[Other] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    plan: Plan | None = None
    theory: str = ""
    theories: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def medians(self, of_set: str | None = None) -> list[float]:
        """Median error over compounds, or over those of a set, at each lag."""
        rows = [row for row in self.rows if of_set in (None, row.set)]
        return median([[e.value for e in row.errors] for row in rows], axis=0).tolist()

    def sets(self) -> list[str]:
        """Sets that the table divides the compounds into, none if it has one alone."""
        found = list(dict.fromkeys(row.set for row in self.rows))
        return found if len(found) > 1 else []


def audit(
    operator: Operator,
    data: Sequence[Path],
    table: Path,
    *,
    part: str = "test",
    lags: Sequence[float] = (8.0, 16.0, 32.0),
    starts: int = 16,
    others: Mapping[str, Sequence[Path]] | None = None,
    long: Long | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Audit:
    """Measure an operator on compounds that it was not trained on.

    Parameters
    ----------
    operator
        Its card lists what it was trained on.
    data
        Reference bursts of the compounds, and of those in training for distances between
        embeddings: files, folders or collections.
    table
        CSV of compounds with columns ``name``, ``smiles`` and ``part``.
    part
        Which compounds of the table.
    lags
        fs.
    starts
        States of each burst.
    others
        Operators to compare with by their labels, several of one label if they differ by their
        seed: a file each, or a folder of files named as the compounds.
    long
        A long thermostatted run of each compound too.
    command
        Command line for the page.
    say
        Told of each compound, of those that are left out, and of other methods.

    Raises
    ------
    ConfigError
        If there is no such table or part, RDKit cannot read a SMILES of it, or an operator to
        compare with is not there.
    DataError
        If the operator was trained on one of the compounds, or there are no bursts of them.
    """
    material = gather(operator, data, table, part, others or {})
    # What can be refused is refused before the first error is measured.
    for each in material.files:
        each.check(material.bursts, lags)
    runs = thermostatted(long.reference, material.wanted) if long else {}
    for several in runs.values():
        check_reference(several, long.plan.temperature)
    for name, reason in material.left_out.items():
        say(f"left out: {name}: {reason}")
    theories, warnings = _theories(operator, material)
    for line in warnings:
        say(f"warning: {line}")
    likeness = _likeness(operator, material)
    rows = []
    for name, bursts in material.bursts.items():
        smiles = material.smiles[name]
        rng = np.random.default_rng(0)
        errors = relative(squares(operator, bursts, lags, starts), DRAWS, rng)
        say(f"{name}: " + ", ".join(written(e.value) for e in errors))
        run = bonds = None
        if long:
            run = roll_once(long.folder, name, operator, bursts, long.plan, long.replicas)
            bonds = compare_with(runs.get(smiles, ()), run, bursts, long.plan.temperature)
            heat = "" if run.temperature is None else f", {run.temperature:.0f} K"
            say(f"{name}: {run.unbroken} of {run.replicas} unbroken{heat}")
        atoms = len(bursts[0].numbers)
        of_set = material.sets.get(name, "")
        of_it = likeness[smiles], run, of_set, bonds
        rows.append(Row(name, smiles, atoms, len(bursts), errors, *of_it))
    audited = {row.name: [error.value for error in row.errors] for row in rows}
    beside = []
    for each in material.files:
        say(f"{each.label}: {len(each.compounds)} compounds")
        beside.append(measure(each, material.bursts, lags, starts, audited))
    return Audit(
        operator=operator.name,
        command=command,
        training=len(material.training),
        lags=list(lags),
        rows=rows,
        correlations=_correlated(rows, np.array(list(audited.values()))),
        others=beside,
        comparisons=compare_all(operator.name, audited, beside),
        plan=long and long.plan,
        theory=operator.card.level_of_theory,
        theories=theories,
        warnings=warnings,
        left_out=material.left_out,
    )


def _theories(operator: Operator, material: Material) -> tuple[list[str], list[str]]:
    """Levels of theory of the bursts, and warnings of operators that learned from another."""
    measured = [burst for several in material.bursts.values() for burst in several]
    theories = sorted({str(burst.attrs.get("theory", "unknown")) for burst in measured})
    taught = {operator.name: {operator.card.level_of_theory}}
    taught |= {each.label: each.theories for each in material.files}
    lines = [difference(one, theory, theories) for one in taught for theory in sorted(taught[one])]
    return theories, [line for line in lines if line is not None]


def _likeness(operator: Operator, material: Material) -> dict[str, Likeness]:
    """How near each measured compound is to the training set, by SMILES."""
    embeddings = {}
    for smiles, frames in material.frames.items():
        state = PhaseState.from_atoms(frames)
        if (found := embed(operator, state)) is not None:
            embeddings[smiles] = found
    return compare(sorted(material.smiles.values()), material.training, embeddings)


def _correlated(rows: Sequence[Row], errors: np.ndarray) -> dict[str, list[Correlation | None]]:
    measures = {
        "largest Tanimoto similarity": [row.likeness.largest for row in rows],
        "mean Tanimoto similarity": [row.likeness.mean for row in rows],
        "training compounds of the scaffold": [row.likeness.shared_scaffold for row in rows],
    }
    if all(row.likeness.distance is not None for row in rows):
        measures["embedding distance"] = [row.likeness.distance for row in rows]
    kept = ~is_lost(errors)
    return {
        name: [
            correlate(np.array(values)[there], errors[there, n]) for n, there in enumerate(kept.T)
        ]
        for name, values in measures.items()
        if np.ptp(values) > 0
    }
