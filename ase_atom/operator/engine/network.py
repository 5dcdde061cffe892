"""What an architecture gives to an engine."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ase_atom.operator.engine.session import Evaluator


class Network(Protocol):
    """An operator as ONNX models, and what they are given.

    A model of the path takes positions ``x`` and velocities ``v`` in Å and Å/fs, ``[B, N, 3]``,
    and gives ``positions`` and ``velocities``, ``[B, T, N, 3]``; one of the energy takes ``x`` and
    gives the dimensionless ``energy``, ``[B, 1, 1]``, and its ``gradient`` in 1/Å. All are in
    double precision, in which the centre of mass moves exactly.
    """

    def path(self) -> bytes:
        """Model of one piece of the path."""
        ...

    def energy(self, gradient: bool) -> bytes:
        """Model of the energy, with or without its gradient."""
        ...

    def molecule(self, species: Tensor, masses: Tensor) -> dict[str, Tensor]:
        """Inputs that depend on the molecules alone; species and masses (amu) are ``[B, N]``."""
        ...

    def instants(self, times: Tensor) -> dict[str, Tensor]:
        """Inputs that depend on the times alone; fs from the piece's start, ``[T]``."""
        ...

    def kernel(self, kind: str, threads: int) -> Evaluator | None:
        """What Numba compiled in the place of a model, ``path``, ``energy`` or ``forces``.

        None where a model has none.
        """
        ...
