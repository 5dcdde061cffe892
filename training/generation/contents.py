"""The table of contents of a folder of reference data: what is there, with checksums."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ase_atom.files import replace_text, replacing
from ase_atom.io.bursts import fingerprint_of
from training.data.molecules import Molecule
from training.data.store import iterate_bursts
from training.generation.campaign import Outcome

CONTENTS = "contents.csv"
TIMES = "times.json"


_KINDS = {"str": str, "int": int, "float": float}


@dataclass
class Row:
    """One compound's data.

    Attributes
    ----------
    name, smiles
        Of the compound.
    atoms
        With hydrogens.
    bursts, femtoseconds
        Their number and total length.
    temperatures
        In K, with spaces between.
    energy_error_meV
        Largest departure of a burst's total energy; empty for thermostatted ones.
    bytes
        Size of the file.
    cpu_seconds
        Processor time spent on it in all runs, failed bursts included.
    fingerprint
        SHA-256 of keys and contents, see `training.data.store.fingerprint`; empty without a
        file.
    failed
        Bursts that could not be made: how many, and why.
    """

    name: str
    smiles: str
    atoms: int = 0
    bursts: int = 0
    femtoseconds: float = 0.0
    temperatures: str = ""
    energy_error_meV: str = ""
    bytes: int = 0
    cpu_seconds: float = 0.0
    fingerprint: str = ""
    failed: str = ""


def add_times(folder: Path, outcome: Outcome) -> dict[str, float]:
    """Add a run's processor time to that of earlier ones, kept in the folder; return all, in s."""
    path = folder / TIMES
    times = json.loads(path.read_text()) if path.exists() else {}
    for name, seconds in outcome.seconds.items():
        times[name] = round(times.get(name, 0.0) + seconds, 2)
    replace_text(path, json.dumps(times, indent=0, sort_keys=True) + "\n")
    return times


def write_contents(
    folder: Path,
    molecules: Sequence[Molecule],
    outcome: Outcome,
    refused: Mapping[str, str],
    times: Mapping[str, float],
) -> list[Row]:
    """Write the table of contents after a run that was not stopped.

    Every burst is read, and with that its checksum verified. Rows of compounds that the run was not
    about, being of another part, stay as they are.

    Parameters
    ----------
    refused
        Reason by name for compounds that cannot be simulated at all.
    times
        Processor time by name, see `add_times`.
    """
    rows = [_row(folder, molecule, outcome, times) for molecule in molecules]
    rows += [Row(name, "", failed=reason) for name, reason in refused.items()]
    rows += _others(folder, {row.name for row in rows})
    columns = [field.name for field in fields(Row)]
    lines = [columns, *([asdict(row)[name] for name in columns] for row in rows)]
    with replacing(folder / CONTENTS) as unfinished, open(unfinished, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return rows


def summary(rows: Sequence[Row]) -> str:
    """Return the totals in a line."""
    there = [row for row in rows if row.bursts]
    return (
        f"{len(there)} of {len(rows)} compounds, {sum(row.bursts for row in rows)} bursts, "
        f"{sum(row.femtoseconds for row in rows):,.0f} fs, "
        f"{sum(row.bytes for row in rows) / 1e6:,.0f} MB, "
        f"{sum(row.cpu_seconds for row in rows) / 3600:.2f} h of processor time"
    )


def _row(folder: Path, molecule: Molecule, outcome: Outcome, times: Mapping[str, float]) -> Row:
    path = folder / f"{molecule.name}.h5"
    row = Row(molecule.name, molecule.smiles, cpu_seconds=times.get(molecule.name, 0.0))
    reasons: dict[str, int] = {}
    for key, reason in outcome.failed.items():
        if key.partition("/")[0] == molecule.name:
            reasons[reason] = reasons.get(reason, 0) + 1
    row.failed = "; ".join(f"{count}: {reason}" for reason, count in reasons.items())
    if not path.exists():
        return row
    checksums, errors, temperatures = {}, [], set()
    for burst in iterate_bursts(path):
        row.atoms = len(burst.numbers)
        row.bursts += 1
        row.femtoseconds += float(burst.times[-1])
        temperatures.add(burst.temperature_K)
        if "energy_error_eV" in burst.attrs:
            errors.append(1000 * burst.attrs["energy_error_eV"])
        checksums[burst.key] = burst.checksum()
    row.temperatures = " ".join(f"{value:g}" for value in sorted(temperatures))
    row.energy_error_meV = f"{max(errors):.2f}" if errors else ""
    row.bytes, row.fingerprint = path.stat().st_size, fingerprint_of(checksums.items())
    return row


def _others(folder: Path, names: Set[str]) -> list[Row]:
    if not (folder / CONTENTS).exists():
        return []
    kinds = {field.name: _KINDS[str(field.type)] for field in fields(Row)}
    with open(folder / CONTENTS, newline="") as file:
        rows = [
            Row(**{key: kinds[key](value) for key, value in row.items()})
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row.name not in names]
