"""Molecules of similar size together, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

from ase_atom.errors import DataError
from training.data.store import Burst


def bucketed(bursts: Sequence[Burst], edges: Sequence[int]) -> list[list[Burst]]:
    """Bursts in groups by their molecules' size.

    Parameters
    ----------
    bursts
        Reference bursts.
    edges
        Atoms in the largest molecule of each group, rising; none for a single group.

    Returns
    -------
    list
        Groups that are not empty, the smallest molecules first.

    Raises
    ------
    DataError
        If a molecule is larger than the last edge.
    """
    if not edges:
        return [list(bursts)]
    groups: list[list[Burst]] = [[] for _ in edges]
    for burst in bursts:
        atoms = len(burst.numbers)
        if atoms > edges[-1]:
            raise DataError(
                f"burst {burst.key} has {atoms} atoms, more than the last of data.buckets "
                f"({edges[-1]})"
            )
        groups[next(n for n, edge in enumerate(edges) if atoms <= edge)].append(burst)
    return [group for group in groups if group]


def shares(groups: Sequence[Sequence[Burst]], total: int) -> list[int]:
    """How many of a batch each group gives: as its number of frames, but at least one.

    Rounded so that they add up to ``total``, where there are not more groups than that.
    """
    frames = [sum(len(burst.energies) for burst in group) for group in groups]
    wanted = [total * count / sum(frames) for count in frames]
    found = [max(1, int(share)) for share in wanted]
    by_rest = sorted(range(len(found)), key=lambda n: found[n] - wanted[n])
    for n in by_rest[: max(0, total - sum(found))]:
        found[n] += 1
    while sum(found) > max(total, len(found)):
        # Those that give one for less than one are made up for by the others.
        most = max(range(len(found)), key=lambda n: (found[n] > 1, found[n] - wanted[n]))
        found[most] -= 1
    return found
