"""Which bursts are made in one batch."""

from __future__ import annotations

from collections.abc import Sequence

from training.generation.targets import Target

Job = tuple[Target, int]

BLOCK = 64
"""Compounds that are finished together, in the order of the list."""

ATOMS = 320
"""Atoms of a batch, padding included: more make a force call of AIMNet2 no cheaper on a CPU."""


def group(jobs: Sequence[Job]) -> list[list[Job]]:
    """Put bursts into batches: of a few compounds of like size, so that little is padding.

    The list of compounds is taken in blocks of `BLOCK`. What a stopped run has made is all bursts
    of the first compounds, so a list whose beginning is diverse makes data that are.
    """
    order: dict[int, int] = {}
    for target, _ in jobs:
        order.setdefault(id(target), len(order))
    sizes = {id(target): len(target.molecule.numbers()) for target, _ in jobs}
    waiting = sorted(
        jobs,
        key=lambda job: (
            order[id(job[0])] // BLOCK,
            sizes[id(job[0])],
            order[id(job[0])],
            job[1],
        ),
    )
    batches: list[list[Job]] = []
    block = None
    for job in waiting:
        here = order[id(job[0])] // BLOCK
        # Sizes grow within a block, so the latest is the one that the others are padded to.
        full = batches and (len(batches[-1]) + 1) * sizes[id(job[0])] > ATOMS
        if here != block or full:
            batches.append([])
        batches[-1].append(job)
        block = here
    return batches
