"""Division of reference bursts into training, validation and test: by burst, never by frame."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from ase_atom.errors import DataError
from training.data.store import Burst

PARTS = ("train", "validation", "test")
Split = dict[str, list[str]]


def split_bursts(
    bursts: Sequence[Burst],
    validation: float,
    test: float,
    seed: int,
    given: Mapping[str, Sequence[str]] | None = None,
) -> Split:
    """Divide bursts, never frames, into training, validation and test.

    Bursts are put in order of molecule and temperature, shuffled within each, and every
    ``1/fraction``-th is held out, so that each molecule and temperature has its share. A burst
    with the attribute ``part`` goes there: pieces of one trajectory are divided by time.

    Parameters
    ----------
    bursts
        Reference bursts.
    validation, test
        Share to hold out: a fraction below 1, or a count.
    seed
        Of the shuffling; the same seed and bursts give the same division.
    given
        An earlier division whose bursts stay where they are; only new ones are divided.

    Returns
    -------
    dict
        Sorted keys of the bursts in ``train``, ``validation`` and ``test``.

    Raises
    ------
    DataError
        If no burst is left to train on.
    """
    fixed = {burst.key: part for burst in bursts if (part := burst.attrs.get("part")) in PARTS}
    fixed |= {key: part for part in PARTS for key in (given or {}).get(part, ())}
    split: Split = {part: [] for part in PARTS}
    order: list[tuple] = []
    for burst in bursts:
        if burst.key in fixed:
            split[fixed[burst.key]].append(burst.key)
        else:
            order.append((burst.smiles, burst.temperature_K, burst.key))
    order.sort()
    rng = np.random.default_rng(seed)
    shuffled = [(*stratum, rng.random(), key) for *stratum, key in order]
    keys = [entry[-1] for entry in sorted(shuffled)]
    split["test"] += _every(keys, test, rng.random())
    held = set(split["test"])
    keys = [key for key in keys if key not in held]
    # The share of validation is one of all bursts, not of those that the test left.
    share = validation if validation >= 1 else validation * len(order) / max(len(keys), 1)
    split["validation"] += _every(keys, share, rng.random())
    held.update(split["validation"])
    split["train"] += [key for key in keys if key not in held]
    if not split["train"]:
        raise DataError(
            f"{len(bursts)} bursts leave none to train on beside validation {validation:g} and "
            f"test {test:g}: generate more, or hold out fewer"
        )
    return {part: sorted(names) for part, names in split.items()}


def divide_compounds(bursts: Sequence[Burst], parts: Mapping[str, str], share: float) -> Split:
    """Divide bursts by their compounds, and hold out some of those in training too.

    Where a burst goes does not depend on which others there are, so that a collection may grow.

    Parameters
    ----------
    bursts
        Reference bursts.
    parts
        Part of each burst's compound by the burst's key.
    share
        Of the bursts of training compounds, beside the first of each, to hold out for validation.

    Raises
    ------
    DataError
        If no burst is left to train on.
    """
    split: Split = {part: [] for part in PARTS}
    for burst in bursts:
        part = parts[burst.key]
        _, _, index = burst.key.partition("/")
        draw = int(hashlib.sha256(burst.key.encode()).hexdigest()[:8], 16) / 2**32
        if part == "train" and index.strip("0") and draw < share:
            part = "validation"
        split[part].append(burst.key)
    if not split["train"]:
        raise DataError(f"none of {len(bursts)} bursts is of a training compound")
    return {part: sorted(names) for part, names in split.items()}


def _every(keys: Sequence[str], share: float, phase: float) -> list[str]:
    """Evenly spaced keys: a fraction of them, rounded, or a count; at least one if share > 0."""
    count = min(len(keys), int(share) if share >= 1 else round(share * len(keys)))
    if share > 0 and len(keys) > 2:
        count = max(count, 1)
    return [keys[int((n + phase) * len(keys) / count)] for n in range(count)]
