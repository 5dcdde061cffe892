"""Networks compiled by Numba, in the place of a `Session`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import scipy.linalg.cython_blas  # noqa: F401  Numba's BLAS, loaded for its threads to be known
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Arrays = dict[str, NDArray[Any]]

_MOST_KNOWN = 32
"""Sets of constant inputs of which is kept what `Kernel.prepare` found."""


class Kernel(ABC):
    """Evaluates the molecules of a batch one after another, or side by side in threads.

    Parameters
    ----------
    threads
        How many molecules are under way together.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._known: dict[int, tuple[Arrays, list[tuple[Any, ...]]]] = {}
        self._blas = ThreadpoolController().select(user_api="blas").lib_controllers

    @abstractmethod
    def prepare(self, constant: Arrays, row: int) -> tuple[Any, ...]:
        """What all evaluations of a molecule, a row of the batch, have in common."""

    @abstractmethod
    def outputs(self, constant: Arrays, moving: Arrays) -> list[NDArray[Any]]:
        """What `evaluate` fills in."""

    @abstractmethod
    def evaluate(
        self, given: tuple[Any, ...], moving: Arrays, row: int, out: list[NDArray[Any]]
    ) -> None:
        """Fill in the outputs of one molecule, with what `prepare` found of it."""

    def rows(self, shape: tuple[int, ...]) -> int:
        """How many molecules to give to a call; see `Session.rows`."""
        return shape[0]

    def __call__(self, constant: Arrays, moving: Arrays) -> list[NDArray[Any]]:
        """Evaluate a batch; see `Session`."""
        given, out = self._molecules(constant), self.outputs(constant, moving)
        # A product is too small for threads of its own.
        before = [(each, count) for each in self._blas if (count := each.get_num_threads()) != 1]
        try:
            for library, _ in before:
                library.set_num_threads(1)
            self._evaluate(given, moving, out)
        finally:
            for library, threads in before:
                library.set_num_threads(threads)
        return out

    def _molecules(self, constant: Arrays) -> list[tuple[Any, ...]]:
        """What `prepare` finds of each molecule, worked out once for one dictionary."""
        known = self._known.get(id(constant))
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            # The dictionary is kept along, so that no other can have its identity.
            known = constant, [self.prepare(constant, row) for row in range(len(constant["atoms"]))]
            self._known[id(constant)] = known
        return known[1]

    def _evaluate(
        self, given: list[tuple[Any, ...]], moving: Arrays, out: list[NDArray[Any]]
    ) -> None:
        if self._threads == 1 or len(given) == 1:
            for row, each in enumerate(given):
                self.evaluate(each, moving, row, out)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            work = [
                pool.submit(self.evaluate, each, moving, row, out) for row, each in enumerate(given)
            ]
        for done in work:
            done.result()
