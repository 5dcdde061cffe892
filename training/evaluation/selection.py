"""Which reference bursts an evaluation may use, and what is known of their being unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols

from ase_atom.errors import ConfigError, CoverageError, DataError
from ase_atom.io.bursts import fingerprint_of
from ase_atom.operator import OperatorCard
from ase_atom.units import format_charge
from training.data.burst import Burst
from training.data.store import data_folder, read_bursts
from training.engines.factory import get_engine


@dataclass(frozen=True)
class Selection:
    """Bursts to evaluate on.

    Attributes
    ----------
    bursts
        Chosen ones, never none.
    split
        What was asked for.
    fingerprint
        SHA-256 over the bursts that the checkpoint knows of, as training computes it, or over all
        if some of those are missing.
    same_data
        Whether that is the fingerprint on the card.
    unseen
        Whether no chosen burst is known to have been trained or selected on.
    note
        One line that says so.
    """

    bursts: list[Burst]
    split: str
    fingerprint: str
    same_data: bool
    unseen: bool
    note: str


def select_bursts(paths: Sequence[Path], card: OperatorCard, split: str) -> Selection:
    """Read the data and pick the bursts of a split as the operator's card records it.

    If the data are not those of the card, a burst counts as unseen when its key is neither in the
    training nor in the validation list.

    Parameters
    ----------
    paths
        Merged files or folders of bursts; what is not found is looked up in the data folder.
    card
        Of the operator.
    split
        ``test``, ``validation`` or ``all``.

    Raises
    ------
    DataError
        If the data are missing, damaged or thermostatted, or the split leaves nothing.
    CoverageError
        If the data hold an element that the operator does not know.
    """
    bursts = read_all(paths)
    _check(bursts, card)
    recorded = {key for keys in card.split.values() for key in keys}
    known = [burst for burst in bursts if burst.key in recorded]
    found = digest(known if recorded and len(known) == len(recorded) else bursts)
    same = found == card.data_fingerprint
    seen = {*card.split.get("train", []), *card.split.get("validation", [])}
    listed = set(card.split.get(split, []))
    if split == "all":
        chosen = bursts
    elif not recorded:
        raise DataError(
            f"{card.name} records no split of its data: pass --split all to use every burst"
        )
    elif same or split == "validation":
        chosen = [burst for burst in bursts if burst.key in listed]
    else:
        chosen = [burst for burst in bursts if burst.key not in seen]
    if not chosen:
        raise DataError(
            f"no burst of {', '.join(map(str, paths))} is in the {split} split of {card.name}: "
            "pass --split all to use every burst"
        )
    used = sum(burst.key in seen for burst in chosen)
    note = _note(len(chosen), used, same, bool(recorded))
    return Selection(chosen, split, found, same, bool(recorded) and not used, note)


def read_all(paths: Sequence[Path]) -> list[Burst]:
    """Bursts of several files and folders, by key.

    Raises
    ------
    DataError
        If a path is missing or damaged or two hold the same key.
    """
    bursts: dict[str, Burst] = {}
    for given in paths:
        path = given if given.exists() else data_folder() / given
        for burst in read_bursts(path if path.exists() else given):
            if burst.key in bursts:
                raise DataError(f"burst {burst.key} is in more than one of the data given")
            bursts[burst.key] = burst
    return [bursts[key] for key in sorted(bursts)]


def digest(bursts: Sequence[Burst]) -> str:
    """SHA-256 over keys and contents, as `training.data.store.fingerprint` has it."""
    return fingerprint_of((burst.key, burst.checksum()) for burst in bursts)


def _note(chosen: int, used: int, same: bool, recorded: bool) -> str:
    data = (
        "the data are those that the operator was trained on"
        if same
        else "the data are not those that the operator was trained on (other fingerprint)"
    )
    if not recorded:
        return f"{data}; {chosen} bursts, and the checkpoint does not say which it has seen"
    if used:
        return (
            f"{data}; {used} of these {chosen} bursts have keys in its training or validation "
            "list, so this is no test on unseen data"
        )
    tail = "" if same else "; bursts are told apart by their keys alone"
    return f"{data}; none of these {chosen} bursts was used for training or selection{tail}"


def _check(bursts: Sequence[Burst], card: OperatorCard) -> None:
    for burst in bursts:
        ensemble = burst.attrs.get("ensemble", "nve")
        if ensemble != "nve":
            raise DataError(
                f"burst {burst.key} is of ensemble {ensemble}: errors by lag need nve bursts; a "
                "thermostatted run goes to --reference"
            )
        if burst.charge not in card.charges:
            raise CoverageError(
                f"burst {burst.key} has a total charge of {burst.charge:+d}, and {card.name} was "
                f"trained for {format_charge(card.charges)}"
            )
        strange = sorted({int(number) for number in burst.numbers} - set(card.elements))
        if strange:
            names = ", ".join(chemical_symbols[number] for number in strange)
            known = ", ".join(chemical_symbols[number] for number in card.elements)
            raise CoverageError(
                f"burst {burst.key} holds {names}, but {card.name} was trained for {known} only"
            )


def reference_engine(bursts: Sequence[Burst]) -> tuple[Calculator | None, str]:
    """The engine that made the data, or None and the reason why it cannot be had here."""
    made_by = {(b.attrs.get("engine"), b.attrs.get("engine_options", "{}")) for b in bursts}
    if len(made_by) != 1:
        names = ", ".join(sorted(str(name) for name, _ in made_by))
        return None, f"the data come from several engines ({names})"
    name, options = made_by.pop()
    if not name:
        return None, "the data do not name their engine"
    try:
        return get_engine(str(name), str(options)).make(), ""
    except ConfigError as error:
        return None, str(error)
