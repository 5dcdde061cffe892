"""Compounds of an audit: those of a table's part, what data there are, and what is left out."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from rdkit import RDLogger

from ase_atom.errors import ConfigError, CoverageError, DataError
from ase_atom.molecules.topology import canonical
from training.curation.scaffolds import identity
from training.data.molecules import from_smiles
from training.data.store import Burst, iterate_collection
from training.data.tables import find_table


@dataclass(frozen=True)
class Part:
    """Compounds of one part of a table.

    Attributes
    ----------
    names
        By canonical SMILES.
    sets
        The set of each compound by its name, where the table has a column ``set``.
    left_out
        By name the reason to leave out what stands there twice.
    """

    names: dict[str, str]
    sets: dict[str, str]
    left_out: dict[str, str]


def read_part(table: Path, part: str) -> Part:
    """Compounds of one part of a table.

    Parameters
    ----------
    table
        CSV with columns ``name``, ``smiles`` and ``part``; relative to the current folder, or to
        the repository's.
    part
        Which of them.

    Raises
    ------
    ConfigError
        If there is no such table or part, or RDKit cannot read a SMILES.
    """
    try:
        with find_table(table).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise ConfigError(f"{table}: {error.strerror or error}") from error
    if not rows or not {"name", "smiles", "part"} <= rows[0].keys():
        raise ConfigError(f"{table} needs columns name, smiles and part")
    chosen = [row for row in rows if row["part"] == part]
    if not chosen:
        parts = ", ".join(sorted({str(row["part"]) for row in rows}))
        raise ConfigError(f"{table} has no compounds of part {part!r}, but of {parts}")
    RDLogger.DisableLog("rdApp.*")
    found: dict[str, str] = {}
    known: dict[str, str] = {}
    twice = {}
    for row in chosen:
        try:
            smiles = canonical(row["smiles"] or "")
        except CoverageError as error:
            raise ConfigError(f"{table}, {row['name']}: {error}") from error
        first = known.setdefault(identity(smiles), row["name"])
        if first in found.values():
            twice[row["name"]] = f"it is the compound {first}, or a stereoisomer"
        else:
            found[smiles] = row["name"]
    sets = {row["name"]: row["set"] for row in chosen if row.get("set")}
    return Part(found, sets, twice)


def without_data(wanted: Mapping[str, str], found: Collection[str]) -> dict[str, str]:
    """Why compounds have no bursts, by name.

    Parameters
    ----------
    wanted
        Names by canonical SMILES.
    found
        SMILES of those that have some.
    """
    reasons = {}
    for smiles, name in wanted.items():
        if smiles in found:
            continue
        try:
            from_smiles(smiles, charges=(-1, 0, 1))
            reasons[name] = "the data hold no microcanonical bursts of it"
        except DataError as error:
            reasons[name] = f"it cannot be simulated: {error}"
    return reasons


def collect(
    data: Sequence[Path], wanted: Mapping[str, str], training: set[str]
) -> tuple[dict[str, list[Burst]], dict[str, list[Atoms]]]:
    """Bursts of the wanted compounds, and four frames of each compound there is, by SMILES."""
    bursts: dict[str, list[Burst]] = {}
    frames: dict[str, list[Atoms]] = {}
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
                frames[smiles] = [
                    Atoms(burst.numbers, place, info={"charge": burst.charge})
                    for place in burst.positions[places]
                ]
    return bursts, frames


def thermostatted(paths: Sequence[Path], wanted: Mapping[str, str]) -> dict[str, list[Burst]]:
    """Reference runs of the wanted compounds, by SMILES."""
    runs: dict[str, list[Burst]] = {}
    for path in paths:
        for burst in iterate_collection(path):
            if (smiles := canonical(burst.smiles)) in wanted:
                runs.setdefault(smiles, []).append(burst)
    if paths and not runs:
        raise DataError(f"{', '.join(map(str, paths))} holds no run of a compound of the audit")
    return runs
