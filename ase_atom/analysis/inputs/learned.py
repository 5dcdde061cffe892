"""Which runs of a reference an operator has learned from, as far as its card can tell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.errors import ConfigError
from ase_atom.io.bursts import fingerprint_of
from ase_atom.operator.fingerprints import frame_fingerprints

if TYPE_CHECKING:
    from ase_atom.operator import OperatorCard, OperatorLike


def unseen(reference: Trajectory, model: OperatorLike) -> Trajectory:
    """Leave out the runs that an operator has learned from, and note how they were told.

    A card with fingerprints of the frames that the operator learned from tells by content,
    whatever a run is called and whichever file it is in. One without has names and the
    fingerprint of all its data together: where the reference holds all of these, names are
    certain; else they are taken at their word, unless a run is of a level of theory that the
    operator has not learned.

    Parameters
    ----------
    reference
        With the whole runs, before they are cut.
    model
        An operator; without a card nothing is known, and nothing left out.

    Raises
    ------
    ConfigError
        If nothing is left.
    """
    card = model.card
    if card is None or not (card.training_frames or card.split.get("train")):
        name = card.name if card else type(model).__name__
        return reference.noting(
            f"whether {name} has learned from its runs is not known: no card names what it "
            "learned from"
        )
    if card.training_frames:
        return _by_content(reference, card)
    return _by_name(reference, card)


def _by_content(reference: Trajectory, card: OperatorCard) -> Trajectory:
    known = set(card.training_frames)
    learned = [
        not known.isdisjoint(frame_fingerprints(reference.numbers, run.positions))
        for run in reference
    ]
    if all(learned):
        raise _nothing_left(reference, card)
    if any(learned):
        return _without(reference, learned).noting(_left_out(sum(learned), card))
    return reference.noting(
        f"none of its runs holds a frame that {card.name} is known to have learned from"
    )


def _by_name(reference: Trajectory, card: OperatorCard) -> Trajectory:
    taught = set(card.split["train"])
    named = [run.key in taught for run in reference]
    notes = []
    if certain := _is_training_data(reference, card):
        learned = named
    else:
        learned = [
            is_named and _may_be_of(run, card)
            for is_named, run in zip(named, reference, strict=True)
        ]
    if all(learned):
        if certain:
            raise _nothing_left(reference, card)
        raise ConfigError(
            f"every run of {reference.short_name} bears the name of a burst that {card.name} was "
            "trained on, and its card cannot identify runs by content: give runs that it was not "
            "trained on, or rename these if they are other runs"
        )
    if certain and any(learned):
        notes.append(_left_out(sum(learned), card))
    elif any(learned):
        notes.append(
            f"{sum(learned)} of its runs were left out for their names, which are those of bursts "
            f"that {card.name} has learned from; its card does not tell whether their contents are"
        )
    if other := sum(named) - sum(learned):
        notes.append(
            f"{other} of its runs have names of bursts that {card.name} has learned from, but are "
            "of another level of theory, and were kept"
        )
    recorded = {key for keys in card.split.values() for key in keys}
    if unknown := sum(run.key not in recorded for run in reference):
        notes.append(
            f"whether {card.name} has learned from {unknown} of its {len(reference.segments)} "
            "runs, in another file or under other names, is not known: its card tells by names"
        )
    return _without(reference, learned).noting(*notes)


def _is_training_data(reference: Trajectory, card: OperatorCard) -> bool:
    """Whether the reference's file holds all bursts of the card, with the same contents."""
    recorded = [key for keys in card.split.values() for key in keys]
    if any(key not in reference.checksums for key in recorded):
        return False
    found = fingerprint_of((key, reference.checksums[key]) for key in recorded)
    return found == card.data_fingerprint


def _may_be_of(run: Segment, card: OperatorCard) -> bool:
    """Whether a run's level of theory, if it is stated, is one of the card's."""
    return not run.theory or run.theory in card.level_of_theory.split("; ")


def _without(reference: Trajectory, left_out: list[bool]) -> Trajectory:
    kept = (run for run, out in zip(reference, left_out, strict=True) if not out)
    return replace(reference, segments=tuple(kept))


def _left_out(count: int, card: OperatorCard) -> str:
    return f"{count} of its runs, from which {card.name} has learned, were left out"


def _nothing_left(reference: Trajectory, card: OperatorCard) -> ConfigError:
    return ConfigError(
        f"{card.name} has learned from every run of {reference.short_name}: what it does there "
        "says nothing of what it can do; give runs that it has not seen"
    )
