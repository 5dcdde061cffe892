"""Other operators beside the audited one: fine-tuned, single-task, or other seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from ase_atom.errors import ConfigError
from ase_atom.operator import Operator, load_operator
from ase_atom.operator.checkpoint import SUFFIX
from training.auditing.errors import Pairing, median, pair, ratios, squares
from training.curation.scaffolds import identity
from training.data.store import Burst


@dataclass(frozen=True)
class Other:
    """An operator, or several that differ by their seed, on the audit's starts.

    Attributes
    ----------
    label
        Its name on the page.
    errors
        RMS position error over RMS displacement at each lag by compound, mean over seeds.
    medians
        Of each seed at each lag, over these compounds.
    audited
        Medians of the audited operator over the same compounds.
    taught
        Compounds that an operator here was trained on; it must have been on other bursts.
    """

    label: str
    errors: dict[str, list[float]] = field(default_factory=dict)
    medians: list[list[float]] = field(default_factory=list)
    audited: list[float] = field(default_factory=list)
    taught: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Two operators on the compounds that both were measured on, at each lag."""

    first: str
    second: str
    pairs: list[Pairing]


class Files:
    """Where the operators of one label are.

    Parameters
    ----------
    label
        Of all of them.
    paths
        One for each seed: a file, or a folder with ``COMPOUND.safetensors``.

    Attributes
    ----------
    theories
        Levels of theory that they were trained on, once they are checked.

    Raises
    ------
    ConfigError
        If there is no operator for one of these compounds, or not for the same ones in each folder.
    """

    def __init__(self, label: str, paths: Sequence[Path], compounds: Sequence[str]) -> None:
        self.label, self.paths = label, list(paths)
        self.loaded: dict[Path, Operator] = {}
        self.theories: set[str] = set()
        have = [
            [name for name in compounds if not path.is_dir() or _file(path, name).exists()]
            for path in paths
        ]
        if not have[0]:
            raise ConfigError(
                f"{paths[0]} holds no operator of a compound of the audit, "
                f"{_file(Path(), compounds[0])} for one"
            )
        for path, names in zip(paths, have, strict=True):
            if names != have[0]:
                odd = sorted(set(names) ^ set(have[0]))[0]
                raise ConfigError(f"{label}: {path} and {paths[0]} differ, by {odd} for one")
        self.compounds = have[0]

    def check(self, bursts: Mapping[str, Sequence[Burst]], lags: Sequence[float]) -> None:
        """Read every operator, and take a step with it.

        Raises
        ------
        CheckpointError, DataError, ValueError
            If one is damaged, does not know an element, or does not reach a lag.
        """
        for name in self.compounds:
            for seed in range(len(self.paths)):
                operator = self.load(seed, name)
                self.theories.add(operator.card.level_of_theory)
                squares(operator, bursts[name][:1], lags, 1)

    def load(self, seed: int, compound: str) -> Operator:
        """The operator of a seed for a compound."""
        path = self.paths[seed]
        if path.is_dir():
            return load_operator(_file(path, compound))
        if path not in self.loaded:
            self.loaded[path] = load_operator(path)
        return self.loaded[path]


def _file(folder: Path, compound: str) -> Path:
    return folder / f"{compound}{SUFFIX}"


def measure(
    files: Files,
    bursts: Mapping[str, Sequence[Burst]],
    lags: Sequence[float],
    starts: int,
    audited: Mapping[str, Sequence[float]],
) -> Other:
    """Errors of other operators on the audit's starts.

    Parameters
    ----------
    files
        The operators.
    bursts
        By the compounds' names.
    lags, starts
        As of `training.auditing.errors.squares`.
    audited
        Errors of the audited operator by the compounds' names.
    """
    found = np.empty((len(files.paths), len(files.compounds), len(lags)))
    taught = set()
    for row, seed in np.ndindex(len(files.compounds), len(files.paths)):
        name = files.compounds[row]
        operator = files.load(seed, name)
        found[seed, row] = ratios(squares(operator, bursts[name], lags, starts).sum(0))
        known = {identity(smiles) for smiles in operator.card.smiles}
        if identity(bursts[name][0].smiles) in known:
            taught.add(name)
    return Other(
        files.label,
        dict(zip(files.compounds, found.mean(0).tolist(), strict=True)),
        median(found, axis=1).tolist(),
        median([audited[name] for name in files.compounds], axis=0).tolist(),
        sorted(taught),
    )


def compare_all(
    name: str, audited: Mapping[str, Sequence[float]], others: Sequence[Other]
) -> list[Comparison]:
    """Paired comparisons of the audited operator with the others, and of these with each other."""
    labels = {name: audited} | {other.label: other.errors for other in others}
    found = []
    for first, second in combinations(labels, 2):
        both = [one for one in labels[first] if one in labels[second]]
        if both:
            a, b = (np.array([labels[label][one] for one in both]) for label in (first, second))
            pairs = [pair(a[:, lag], b[:, lag]) for lag in range(a.shape[1])]
            found.append(Comparison(first, second, pairs))
    return found
