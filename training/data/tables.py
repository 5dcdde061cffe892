"""Tables of compounds: where they are, and which part each compound is in."""

from __future__ import annotations

import csv
from pathlib import Path

from ase_atom.errors import ConfigError, CoverageError
from training.curation.scaffolds import identity
from training.data.split import PARTS

REPOSITORY = Path(__file__).parents[2]


def read_partition(path: str) -> dict[str, str]:
    """Part of each compound, ``train``, ``validation`` or ``test``, by its identity.

    Parameters
    ----------
    path
        CSV table with columns ``smiles`` and ``part``; relative to the current folder, or to the
        repository's.

    Raises
    ------
    ConfigError
        If there is no such table, it lacks the columns, or a row holds something else.
    """
    try:
        with find_table(path).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        found = {identity(row["smiles"] or ""): row["part"] for row in rows}
    except OSError as error:
        raise ConfigError(f"data.partition: {path}: {error.strerror or error}") from error
    except KeyError as error:
        raise ConfigError(f"data.partition: {path} needs columns smiles and part") from error
    except CoverageError as error:
        raise ConfigError(f"data.partition: {path}: {error}") from error
    if strange := sorted({str(part) for part in found.values()} - set(PARTS)):
        raise ConfigError(f"data.partition: {path}: {strange[0]!r} is none of {', '.join(PARTS)}")
    return found


def find_table(path: str | Path) -> Path:
    """A table's file: as given, or in the repository."""
    file = Path(path).expanduser()
    return file if file.is_file() else REPOSITORY / path
