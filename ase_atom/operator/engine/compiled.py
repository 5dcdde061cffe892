"""Networks compiled by Numba, in the place of a `Session`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import scipy.linalg.cython_blas  # noqa: F401  Numba's BLAS, loaded for its threads to be known
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Arrays = dict[str, NDArray[Any]]


class Kernel(ABC):
    """Evaluates the molecules of a batch one after another, or side by side in threads.

    Parameters
    ----------
    threads
        How many molecules are under way together.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._blas = ThreadpoolController().select(user_api="blas").lib_controllers

    @abstractmethod
    def outputs(self, constant: Arrays, moving: Arrays) -> list[NDArray[Any]]:
        """What `evaluate` fills in."""

    @abstractmethod
    def evaluate(self, constant: Arrays, moving: Arrays, row: int, out: list[NDArray[Any]]) -> None:
        """Fill in the outputs of one molecule, a row of the batch."""

    def rows(self, shape: tuple[int, ...]) -> int:
        """How many molecules to give to a call; see `Session.rows`."""
        return shape[0]

    def __call__(self, constant: Arrays, moving: Arrays) -> list[NDArray[Any]]:
        """Evaluate a batch; see `Session`."""
        out = self.outputs(constant, moving)
        before = [library.get_num_threads() for library in self._blas]
        try:
            # A product is too small for threads of its own.
            for library in self._blas:
                library.set_num_threads(1)
            self._evaluate(constant, moving, out)
        finally:
            for library, threads in zip(self._blas, before, strict=True):
                library.set_num_threads(threads)
        return out

    def _evaluate(self, constant: Arrays, moving: Arrays, out: list[NDArray[Any]]) -> None:
        count = len(moving["x"])
        if self._threads == 1 or count == 1:
            for row in range(count):
                self.evaluate(constant, moving, row, out)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            work = [pool.submit(self.evaluate, constant, moving, row, out) for row in range(count)]
        for each in work:
            each.result()
