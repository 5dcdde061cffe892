"""Networks without memory, to look at the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Undrawn(TorchFunctionMode):
    """Leaves out what draws first weights.

    On torch's device ``meta`` a normal distribution, of all things, imports torch's compiler, which
    takes half as long again as torch itself.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func.__module__ == "torch.nn.init":
            return args[0] if args else named["tensor"]
        return func(*args, **named)


@contextmanager
def blueprint() -> Iterator[None]:
    """Let networks that are made inside have shapes, but no memory and no weights.

    The settings in a file may ask for far more memory than the file is long.
    """
    with torch.device("meta"), _Undrawn():
        yield
