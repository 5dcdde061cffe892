"""The bursts of a training run: found, read and divided."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ase_atom.errors import ConfigError, CoverageError, DataError
from ase_atom.operator import load_operator
from training.config import TrainingConfig
from training.curation.scaffolds import identity
from training.folder import RunFolder
from training.split import PARTS, Split, divide_compounds, split_bursts
from training.store import Burst, data_folder, iterate_bursts

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Reference:
    """The bursts of a run.

    Attributes
    ----------
    bursts
        By key.
    split
        Keys in training, validation and test.
    fingerprint
        SHA-256 over the stored data.
    """

    bursts: dict[str, Burst]
    split: Split
    fingerprint: str

    def part(self, name: str) -> list[Burst]:
        """Bursts of ``train``, ``validation`` or ``test``."""
        return [self.bursts[key] for key in self.split[name]]

    def held_out(self) -> dict[str, list[Burst]]:
        """Validation bursts of molecules in training as ``""``, others by their molecule's name."""
        taught = {self.bursts[key].molecule for key in self.split["train"]}
        groups: dict[str, list[Burst]] = {}
        for burst in self.part("validation"):
            name = "" if burst.molecule in taught else burst.molecule
            groups.setdefault(name, []).append(burst)
        return dict(sorted(groups.items()))


def load_reference(config: TrainingConfig, folder: RunFolder) -> Reference:
    """Read the bursts and divide them, or take the division that the run began with.

    Bursts that were added after the run began are left out of it, unless ``data.grow``.

    Raises
    ------
    DataError
        If data is missing, empty, or no longer holds the bursts that the run began with.
    """
    partition = read_partition(config.data.partition) if config.data.partition else None
    bursts: dict[str, Burst] = {}
    parts: dict[str, str] = {}
    names: dict[str, str] = {}
    for burst in _bursts(config):
        if burst.key in bursts:
            raise DataError(f"burst {burst.key} is in more than one of data.paths")
        if burst.attrs.get("ensemble", "nve") != "nve":
            why = "a thermostat's noise cannot be learned"
            if burst.attrs["ensemble"] == "displaced":
                why = "its frames are no path"
            raise DataError(
                f"burst {burst.key} is of ensemble {burst.attrs['ensemble']}: {why}, train on nve "
                "bursts"
            )
        if burst.charge:
            raise DataError(
                f"burst {burst.key} has a total charge of {burst.charge:+d}: operators learn "
                "neutral molecules only, leave ions out of data.paths"
            )
        if partition is not None:
            if burst.smiles not in names:
                names[burst.smiles] = identity(burst.smiles)
            parts[burst.key] = partition.get(names[burst.smiles], "train")
            if parts[burst.key] == "test":
                continue
        bursts[burst.key] = burst
    if not bursts:
        raise DataError(f"there are no bursts to train on in {', '.join(config.data.paths)}")
    begun = None
    if partition is not None:
        split = divide_compounds(list(bursts.values()), parts, config.data.validation)
    elif folder.started and not config.data.grow:
        split, begun = folder.split()
        missing = [key for keys in split.values() for key in keys if key not in bursts]
        if missing:
            raise DataError(
                f"{len(missing)} bursts that this run began with are gone from its data, the first "
                f"{missing[0]}: restore them, or begin anew with --restart"
            )
    else:
        given = None
        if config.start_from and not config.refit_energies:
            given = load_operator(config.start_from).card.split
        if folder.started:
            given = folder.split()[0]
        shares = (config.data.validation, config.data.test, config.data.split_seed)
        split = split_bursts(list(bursts.values()), *shares, given)
    if folder.started and begun is None and not config.data.grow:
        before, begun = folder.split()
        if before != split:
            raise DataError(
                f"the bursts in {', '.join(config.data.paths)} are not those that this run began "
                "with: restore them, set data.grow, or begin anew with --restart"
            )
    digest = hashlib.sha256()  # as training.store.fingerprint has it
    for key in sorted(key for keys in split.values() for key in keys):
        digest.update(f"{key} {bursts[key].checksum()}\n".encode())
    if begun not in (None, digest.hexdigest()):
        raise DataError(
            f"the data in {', '.join(config.data.paths)} changed after this run began: "
            "restore it, or begin anew with --restart"
        )
    return Reference(bursts, split, digest.hexdigest())


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


def _bursts(config: TrainingConfig) -> Iterator[Burst]:
    for given in config.data.paths:
        path = data_folder() / Path(given).expanduser()
        if not path.exists():
            raise DataError(
                f"there is no reference data at {path}: generate it with "
                "python -m training.generate, or correct data.paths or ASE_ATOM_DATA"
            )
        yield from iterate_collection(path)


def iterate_collection(path: Path) -> Iterator[Burst]:
    """Yield the bursts of a file, a folder of files, or a collection, finished or not.

    A collection that is still being made has whole files, and folders of single bursts. While one
    is merged its bursts are in both, and a moment later in the file alone.
    """
    parts = sorted(path.glob("[!.]*.bursts")) if path.is_dir() else []
    if not parts:
        yield from iterate_bursts(path)
        return
    seen = set()
    for file in [*sorted(path.glob("[!.]*.h5")), *parts]:
        if file.is_dir() and not any(file.glob("[!.]*.h5")):
            # Empty, or merged since it was listed.
            file = file.with_suffix(".h5")
            if not file.exists():
                continue
        for burst in iterate_bursts(file):
            if burst.key not in seen:
                seen.add(burst.key)
                yield burst


def find_table(path: str | Path) -> Path:
    """A table's file: as given, or in the repository."""
    file = Path(path).expanduser()
    return file if file.is_file() else REPOSITORY / path
