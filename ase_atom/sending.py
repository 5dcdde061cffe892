"""Objects that go to other processes as bytes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any


class Sendable:
    """Classes derived from it are sent between processes by `multiprocessing` as plain pickles.

    Torch would move each tensor in them to shared memory and keep a file of it open: a pool that is
    given a hundred atoms with a calculator runs out of files and hangs, and arrays that look into
    the tensors are left with memory that was freed.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        ForkingPickler.register(cls, _as_bytes)


def _as_bytes(sent: object) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
    return pickle.loads, (pickle.dumps(sent, pickle.HIGHEST_PROTOCOL),)
