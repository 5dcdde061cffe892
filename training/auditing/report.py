"""The audit: an operator's errors on compounds outside its training set, beside their likeness."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_atom.errors import ConfigError, DataError
from ase_atom.operator import Operator
from ase_atom.state import PhaseState
from ase_atom.topology import canonical
from training.auditing.canonical import CanonicalRun, roll_once
from training.auditing.errors import Correlation, Error, correlate, relative, squares
from training.auditing.others import Comparison, Files, Other, compare_all, measure
from training.auditing.similarity import Likeness, compare, embed
from training.curation.scaffolds import identity
from training.evaluation.rollouts import Plan
from training.evaluation.verdicts import check_reference
from training.reference import find_table, iterate_collection
from training.store import Burst

DRAWS = 1000


@dataclass(frozen=True)
class Row:
    """One compound: errors at each lag, how near the training set it is, and a long run."""

    name: str
    smiles: str
    atoms: int
    bursts: int
    errors: list[Error]
    likeness: Likeness
    canonical: CanonicalRun | None = None


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

    def medians(self) -> list[float]:
        """Median error over compounds at each lag."""
        return np.median([[e.value for e in row.errors] for row in self.rows], axis=0).tolist()


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
        Told of each compound.

    Raises
    ------
    ConfigError
        If the table has no such part, or an operator to compare with is not there.
    DataError
        If the operator was trained on one of the compounds, or there are no bursts of them.
    """
    wanted = _compounds(table, part)
    training = sorted({canonical(smiles) for smiles in operator.card.smiles})
    known = {identity(smiles) for smiles in training}
    if seen := sorted(smiles for smiles in wanted if identity(smiles) in known):
        raise DataError(
            f"{operator.name} was trained on {wanted[seen[0]]} ({seen[0]}), a {part} compound: "
            "an audit is of molecules that it has not seen"
        )
    bursts, frames = _collect(data, wanted, set(training))
    if not bursts:
        raise DataError(f"{', '.join(map(str, data))} holds no bursts of a {part} compound")
    order = sorted(bursts, key=lambda one: wanted[one])
    names = [wanted[smiles] for smiles in order]
    if operator.name in (others or {}):
        raise ConfigError(f"{operator.name} is audited: give the operator beside it another label")
    # What can be refused is refused before the first error is measured.
    by_name = {name: bursts[smiles] for smiles, name in zip(order, names, strict=True)}
    files = [Files(label, paths, names) for label, paths in (others or {}).items()]
    for each in files:
        each.check(by_name, lags)
    runs = _thermostatted(long.reference, wanted) if long else {}
    for several in runs.values():
        check_reference(several, long.plan.temperature)
    embeddings = {}
    for smiles, (numbers, positions) in frames.items():
        state = PhaseState.from_atoms([Atoms(numbers, place) for place in positions])
        if (found := embed(operator, state)) is not None:
            embeddings[smiles] = found
    likeness = compare(sorted(bursts), training, embeddings)
    rows = []
    for smiles, name in zip(order, names, strict=True):
        rng = np.random.default_rng(0)
        errors = relative(squares(operator, bursts[smiles], lags, starts), DRAWS, rng)
        atoms = len(bursts[smiles][0].numbers)
        say(f"{name}: " + ", ".join(f"{e.value:.3f}" for e in errors))
        run = None
        if long:
            of_it = bursts[smiles], long.plan, long.replicas, runs.get(smiles, ())
            run = roll_once(long.folder, name, operator, *of_it)
            say(f"{name}: {run.unbroken} of {run.replicas} unbroken, {run.temperature:.0f} K")
        rows.append(Row(name, smiles, atoms, len(bursts[smiles]), errors, likeness[smiles], run))
    audited = {row.name: [error.value for error in row.errors] for row in rows}
    beside = []
    for each in files:
        say(f"{each.label}: {len(each.compounds)} compounds")
        beside.append(measure(each, by_name, lags, starts, audited))
    return Audit(
        operator=operator.name,
        command=command,
        training=len(training),
        lags=list(lags),
        rows=rows,
        correlations=_correlated(rows, np.array([audited[name] for name in names])),
        others=beside,
        comparisons=compare_all(operator.name, audited, beside),
        plan=long and long.plan,
    )


def _compounds(table: Path, part: str) -> dict[str, str]:
    """Names of a part's compounds by canonical SMILES."""
    with find_table(table).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"name", "smiles", "part"} <= rows[0].keys():
        raise ConfigError(f"{table} needs columns name, smiles and part")
    chosen = [row for row in rows if row["part"] == part]
    found = {canonical(row["smiles"] or ""): row["name"] for row in chosen}
    if not found:
        parts = ", ".join(sorted({row["part"] for row in rows}))
        raise ConfigError(f"{table} has no compounds of part {part!r}, but of {parts}")
    return found


def _collect(
    data: Sequence[Path], wanted: Mapping[str, str], training: set[str]
) -> tuple[dict[str, list[Burst]], dict[str, tuple]]:
    """Bursts of the wanted compounds, and four frames of each compound there is, by SMILES."""
    bursts: dict[str, list[Burst]] = {}
    frames: dict[str, tuple] = {}
    names: dict[str, str] = {}
    as_wanted = {identity(smiles): smiles for smiles in wanted}
    for path in data:
        for burst in iterate_collection(path):
            if burst.attrs.get("ensemble", "nve") != "nve":
                continue
            if burst.smiles not in names:
                plain = canonical(burst.smiles)
                names[burst.smiles] = as_wanted.get(identity(plain), plain)
            smiles = names[burst.smiles]
            if smiles in wanted:
                bursts.setdefault(smiles, []).append(burst)
            if smiles not in frames and (smiles in wanted or smiles in training):
                places = np.linspace(0, len(burst.energies) - 1, 4).round().astype(int)
                frames[smiles] = (burst.numbers, burst.positions[places])
    return bursts, frames


def _thermostatted(paths: Sequence[Path], wanted: Mapping[str, str]) -> dict[str, list[Burst]]:
    """Reference runs of the wanted compounds, by SMILES."""
    runs: dict[str, list[Burst]] = {}
    for path in paths:
        for burst in iterate_collection(path):
            if (smiles := canonical(burst.smiles)) in wanted:
                runs.setdefault(smiles, []).append(burst)
    if paths and not runs:
        raise DataError(f"{', '.join(map(str, paths))} holds no run of a compound of the audit")
    return runs


def _correlated(rows: Sequence[Row], errors: np.ndarray) -> dict[str, list[Correlation | None]]:
    measures = {
        "largest Tanimoto similarity": [row.likeness.largest for row in rows],
        "mean Tanimoto similarity": [row.likeness.mean for row in rows],
        "training compounds of the scaffold": [row.likeness.shared_scaffold for row in rows],
    }
    if all(row.likeness.distance is not None for row in rows):
        measures["embedding distance"] = [row.likeness.distance for row in rows]
    return {
        name: [correlate(values, errors[:, n]) for n in range(errors.shape[1])]
        for name, values in measures.items()
        if np.ptp(values) > 0
    }
