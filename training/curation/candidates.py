"""Candidate compounds from files of any length, a few records in memory at a time."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from rdkit import Chem

from ase_atom.errors import DataError

Record = tuple[str, str, str]
"""Kind (``smiles`` or ``mol``), name and text of a candidate."""

NAMES = ("name", "id", "cid", "title")
KINDS = {".smi": "smi", ".smiles": "smi", ".txt": "smi", ".csv": "csv", ".sdf": "sdf", ".sd": "sdf"}


def read_candidates(path: Path) -> Iterator[Record]:
    """Yield the records of a file, unparsed.

    Parameters
    ----------
    path
        ``.smi``, ``.smiles`` or ``.txt``: on each line SMILES and perhaps a name, or, as in
        PubChem's ``CID-SMILES``, a number and SMILES. ``.csv``: a column ``smiles`` and perhaps
        one of ``name``, ``id``, ``cid`` or ``title``. ``.sdf`` or ``.sd``. Each also with ``.gz``;
        a file without an ending, such as ``CID-SMILES.gz``, is read as SMILES.

    Raises
    ------
    DataError
        If the file is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    name = path.name.removesuffix(".gz")
    ending = Path(name).suffix.lower()
    kind = KINDS.get(ending) if ending else "smi"
    if kind is None:
        raise DataError(f"{path}: {ending} is none of {', '.join(KINDS)}, with or without .gz")
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
            yield from READERS[kind](file, path)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is damaged or truncated: {error}") from error


def chunks(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    """Yield records in lists of a given size; the last may be shorter."""
    while chunk := list(islice(records, size)):
        yield chunk


def parse(record: Record) -> Chem.Mol | None:
    """Return the molecule of a record; None if RDKit cannot read it."""
    kind, _, text = record
    if kind == "mol":
        molecule = Chem.MolFromMolBlock(text)
        # Through SMILES, so that a molecule is the same whichever file it comes from.
        return None if molecule is None else Chem.MolFromSmiles(Chem.MolToSmiles(molecule))
    return Chem.MolFromSmiles(text)


def digest(text: str) -> str:
    """SHA-256 of a text: an order that nobody chose."""
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(file: IO[str], _: Path) -> Iterator[Record]:
    for line in file:
        words = line.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        rest = words[1].strip() if len(words) > 1 else ""
        smiles, name = (rest, words[0]) if rest and words[0].isdigit() else (words[0], rest)
        yield "smiles", name, smiles


def _rows(file: IO[str], path: Path) -> Iterator[Record]:
    reader = csv.DictReader(file)
    columns = {column.strip().lower(): column for column in reader.fieldnames or ()}
    if "smiles" not in columns:
        raise DataError(f"{path}: has no column smiles, only {', '.join(columns) or 'nothing'}")
    named = next((columns[name] for name in NAMES if name in columns), None)
    for row in reader:
        name = (row[named] or "").strip() if named else ""
        yield "smiles", name, (row[columns["smiles"]] or "").strip()


def _blocks(file: IO[str], _: Path) -> Iterator[Record]:
    lines: list[str] = []
    for line in file:
        if line.startswith("$$$$"):
            yield "mol", lines[0].strip() if lines else "", "".join(lines)
            lines = []
        else:
            lines.append(line)
    if any(line.strip() for line in lines):
        yield "mol", lines[0].strip(), "".join(lines)


READERS = {"smi": _lines, "csv": _rows, "sdf": _blocks}
