"""The bursts of a training run: found, read and divided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase_atom.errors import DataError
from ase_atom.io.bursts import fingerprint_of
from ase_atom.operator import load_operator
from ase_atom.units import format_charge
from training.curation.scaffolds import identity
from training.data.split import Split, divide_compounds, split_bursts
from training.data.store import Burst, data_folder, iterate_collection
from training.data.tables import read_partition
from training.learning.config import TrainingConfig
from training.learning.folder import RunFolder


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
    displaced
        Displaced geometries of compounds in training, for the potential.
    """

    bursts: dict[str, Burst]
    split: Split
    fingerprint: str
    displaced: list[Burst] = field(default_factory=list)

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
    bursts, parts = _gathered(config)
    split, begun = _divided(config, folder, bursts, parts)
    if folder.started and begun is None and not config.data.grow:
        before, begun = folder.split()
        if before != split:
            raise DataError(
                f"the bursts in {', '.join(config.data.paths)} are not those that this run began "
                "with: restore them, set data.grow, or begin anew with --restart"
            )
    displaced = _displaced(config, [bursts[key] for key in split["train"]])
    learned = {key: bursts[key] for keys in split.values() for key in keys}
    learned |= {f"displaced/{burst.key}": burst for burst in displaced}
    fingerprint = fingerprint_of((key, burst.checksum()) for key, burst in learned.items())
    if begun not in (None, fingerprint):
        raise DataError(
            f"the data in {', '.join(config.data.paths)} changed after this run began: "
            "restore it, or begin anew with --restart"
        )
    return Reference(bursts, split, fingerprint, displaced)


def _gathered(config: TrainingConfig) -> tuple[dict[str, Burst], dict[str, str] | None]:
    """Bursts by key, without those of test compounds, and by key the part of each compound.

    The second is None without a table of parts.
    """
    partition = read_partition(config.data.partition) if config.data.partition else None
    bursts: dict[str, Burst] = {}
    parts: dict[str, str] = {}
    for burst in _bursts(config.data.paths):
        if burst.key in bursts:
            raise DataError(f"burst {burst.key} is in more than one of data.paths")
        _check_learnable(burst, config.operator.charges)
        if partition is not None:
            parts[burst.key] = partition.get(identity(burst.smiles), "train")
            if parts[burst.key] == "test":
                continue
        bursts[burst.key] = burst
    if not bursts:
        raise DataError(f"there are no bursts to train on in {', '.join(config.data.paths)}")
    return bursts, None if partition is None else parts


def _check_learnable(burst: Burst, charges: Sequence[int]) -> None:
    if burst.attrs.get("ensemble", "nve") != "nve":
        why = "a thermostat's noise cannot be learned"
        if burst.attrs["ensemble"] == "displaced":
            why = "its frames are no path, name its folder under data.displaced"
        raise DataError(
            f"burst {burst.key} is of ensemble {burst.attrs['ensemble']}: {why}; data.paths take "
            "nve bursts"
        )
    if burst.charge not in charges:
        raise DataError(
            f"burst {burst.key} has a total charge of {format_charge([burst.charge])}, and "
            f"operator.charges are {list(charges)}: add the charge, or leave the burst out of "
            "data.paths"
        )


def _divided(
    config: TrainingConfig,
    folder: RunFolder,
    bursts: dict[str, Burst],
    parts: dict[str, str] | None,
) -> tuple[Split, str | None]:
    """The division, and the fingerprint of the run that it is from, None for a new division."""
    if parts is not None:
        return divide_compounds(list(bursts.values()), parts, config.data.validation), None
    if folder.started and not config.data.grow:
        split, begun = folder.split()
        missing = [key for keys in split.values() for key in keys if key not in bursts]
        if missing:
            raise DataError(
                f"{len(missing)} bursts that this run began with are gone from its data, the first "
                f"{missing[0]}: restore them, or begin anew with --restart"
            )
        return split, begun
    given = None
    if config.start_from and not config.refit_energies:
        given = load_operator(config.start_from).card.split
    if folder.started:
        given = folder.split()[0]
    shares = (config.data.validation, config.data.test, config.data.split_seed)
    return split_bursts(list(bursts.values()), *shares, given), None


def _displaced(config: TrainingConfig, train: Sequence[Burst]) -> list[Burst]:
    """Displaced geometries of the compounds that are trained on."""
    taught = {burst.smiles for burst in train}
    found = []
    for burst in _bursts(config.data.displaced):
        if (ensemble := burst.attrs.get("ensemble", "nve")) != "displaced":
            raise DataError(
                f"burst {burst.key} is of ensemble {ensemble}: data.displaced takes what "
                "python -m training.generate --ensemble displaced makes"
            )
        if burst.smiles in taught:
            found.append(burst)
    return found


def _bursts(paths: Iterable[str]) -> Iterator[Burst]:
    for given in paths:
        path = data_folder() / Path(given).expanduser()
        if not path.exists():
            raise DataError(
                f"there is no reference data at {path}: generate it with "
                "python -m training.generate, or correct data.paths or ASE_ATOM_DATA"
            )
        yield from iterate_collection(path)
