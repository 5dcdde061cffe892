"""Known diseases of trajectories, named in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something wrong with a trajectory that has a name.

    Attributes
    ----------
    name
        A few words: ``scaled velocities``.
    text
        What shows it, with numbers, and what it may come from.
    """

    name: str
    text: str
