"""Networks without memory, to look at the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MAKERS = (torch.empty, torch.zeros, torch.ones)
_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)


class _Unfilled(TorchFunctionMode):
    """Makes tensors on torch's device ``meta``, and draws no first weights.

    It is for weights alone: to compute on that device, torch imports its compiler, which takes as
    long as torch itself. Tables of a few numbers are computed where they always are.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func in _DRAWS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else named["tensor"]
        if func in _MAKERS:
            named["device"] = "meta"
        return func(*args, **named)


@contextmanager
def blueprint() -> Iterator[None]:
    """Let networks that are made inside have shapes, but no memory and no weights.

    The settings in a file may ask for far more memory than the file is long.
    """
    with _Unfilled():
        yield
