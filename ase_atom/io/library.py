"""Lists of molecules of any length, a record at a time: SMILES, CSV and SDF files."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ase_atom.errors import DataError

NAMES = ("name", "id", "cid", "title")
KINDS = {".smi": "smi", ".smiles": "smi", ".txt": "smi", ".csv": "csv", ".sdf": "sdf", ".sd": "sdf"}


class Record(NamedTuple):
    """One molecule of a list, unparsed.

    Parameters
    ----------
    kind
        ``smiles`` or ``mol``.
    name
        Its name, perhaps empty.
    text
        SMILES, or the block of a mol file.
    line
        Where it begins in the file, from 1.
    """

    kind: str
    name: str
    text: str
    line: int


def read_records(path: Path) -> Iterator[Record]:
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
    ending = ending_of(path)
    kind = KINDS.get(ending) if ending else "smi"
    if kind is None:
        raise DataError(f"{path}: {ending} is none of {', '.join(KINDS)}, with or without .gz")
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
            yield from _READERS[kind](file, path)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is damaged or truncated: {error}") from error


def ending_of(path: Path) -> str:
    """Ending of a file in lower case, without ``.gz``."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _lines(file: IO[str], _: Path) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        rest = words[1].strip() if len(words) > 1 else ""
        smiles, name = (rest, words[0]) if rest and words[0].isdigit() else (words[0], rest)
        yield Record("smiles", name, smiles, number)


def _rows(file: IO[str], path: Path) -> Iterator[Record]:
    reader = csv.DictReader(file)
    columns = {column.strip().lower(): column for column in reader.fieldnames or ()}
    if "smiles" not in columns:
        raise DataError(f"{path}: has no column smiles, only {', '.join(columns) or 'nothing'}")
    named = next((columns[name] for name in NAMES if name in columns), None)
    for row in reader:
        name = (row[named] or "").strip() if named else ""
        yield Record("smiles", name, (row[columns["smiles"]] or "").strip(), reader.line_num)


def _blocks(file: IO[str], _: Path) -> Iterator[Record]:
    lines: list[str] = []
    begin = 1
    for number, line in enumerate(file, 1):
        if line.startswith("$$$$"):
            yield Record("mol", lines[0].strip() if lines else "", "".join(lines), begin)
            lines, begin = [], number + 1
        else:
            lines.append(line)
    if any(line.strip() for line in lines):
        yield Record("mol", lines[0].strip(), "".join(lines), begin)


_READERS = {"smi": _lines, "csv": _rows, "sdf": _blocks}
