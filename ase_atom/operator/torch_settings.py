"""Torch inside the package: the same whatever the process has set, and left as it was found.

Torch keeps a default type and device, autocast, inference mode and the precision of products for
the whole process or thread. Results must depend on none of them, and must not change them either.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

from ase_atom.errors import ConfigError
from ase_atom.errors.values import whole_number

P = ParamSpec("P")
T = TypeVar("T")

_AUTOCAST = ("cpu", "cuda")
_EXACT = "ieee"  # products of single precision in single precision, by its name in torch.backends

_CPU = torch.device("cpu")

_process = threading.local()
"""``settings``: those of the process, while the package's own are in force."""


@dataclass(frozen=True)
class _Settings:
    dtype: torch.dtype
    device: torch.device
    autocast: tuple[str, ...]
    inference: bool
    grad: bool
    precisions: tuple[str, ...]
    threads: int


def check_threads(count: int) -> None:
    """Check a number of threads before torch starts them, which can end the process.

    Raises
    ------
    ConfigError
        For less than one, or more than there are processors.
    """
    most = os.cpu_count() or 1
    if not 1 <= whole_number("threads", count) <= most:
        raise ConfigError(
            f"threads must be 1 to {most}, the number of this machine's processors, not {count}"
        )


def set_threads(count: int) -> None:
    """Let torch use so many threads in this process; errors as `check_threads`."""
    check_threads(count)
    torch.set_num_threads(count)


def own_torch(threads: int | None = None) -> _OwnTorch:
    """Compute as the package needs it inside the block; also a decorator of functions.

    Defaults are single precision and the CPU, without autocast, inference mode or shortened
    products. Whether gradients are recorded stays as it is.

    Parameters
    ----------
    threads
        Torch's threads inside the block; None changes nothing. One small molecule gains nothing
        from a second thread, and loses severalfold where cores are busy, yet torch takes them all
        by default.
    """
    return _OwnTorch(threads)


class _OwnTorch:
    """See `own_torch`. Where the settings hold already, a function is called and no more."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._inside: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> None:
        self._inside = nullcontext() if _holds(self._threads) else _owned(self._threads)
        self._inside.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._inside.__exit__(*error)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        threads = self._threads

        @wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> T:
            if _holds(threads):
                return function(*args, **kwargs)
            with _owned(threads):
                return function(*args, **kwargs)

        return inside


def without_gradients(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that records no gradients, as `torch.no_grad` does.

    Where none are recorded already, the function is called and no more.
    """

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return inside


def _holds(threads: int | None) -> bool:
    """Whether the package's own settings are in force, with so many threads."""
    as_many = threads in (None, torch.get_num_threads())
    if threads is not None and not as_many:
        check_threads(threads)
    return as_many and getattr(_process, "settings", None) is not None


@contextmanager
def _owned(threads: int | None) -> Iterator[None]:
    before, present = getattr(_process, "settings", None), _present()
    wanted = _Settings(
        torch.float32,
        _CPU,
        (),
        False,
        present.grad,
        tuple(_EXACT if _backends() else "highest" for _ in present.precisions),
        present.threads if threads is None else threads,
    )
    _process.settings = before or present
    try:
        if present == wanted:  # as in most processes, jump after jump
            yield
        else:
            with _changed(present, wanted):
                yield
    finally:
        _process.settings = before


@contextmanager
def users_torch() -> Iterator[None]:
    """Go back to the settings of the process inside the block, for code of a caller's own."""
    settings = getattr(_process, "settings", None)
    if settings is None:
        yield
        return
    _process.settings = None
    try:
        with _changed(_present(), settings):
            yield
    finally:
        _process.settings = settings


def _present() -> _Settings:
    # A tensor tells at once what takes several times as long to ask for one by one.
    probe = torch.empty(0)
    return _Settings(
        probe.dtype,
        _CPU if probe.is_cpu else torch.get_default_device(),
        tuple(device for device in _AUTOCAST if torch.is_autocast_enabled(device)),
        probe.is_inference(),
        torch.is_grad_enabled(),
        _precisions(),
        torch.get_num_threads(),
    )


@contextmanager
def _changed(present: _Settings, wanted: _Settings) -> Iterator[None]:
    """Go from one kind of settings to another, and back at the end, touching only what differs."""
    with ExitStack() as stack:
        if wanted.inference != present.inference:
            stack.enter_context(torch.inference_mode(wanted.inference))
        if wanted.grad != torch.is_grad_enabled():
            stack.enter_context(torch.set_grad_enabled(wanted.grad))
        if wanted.device != present.device:
            stack.enter_context(wanted.device)
        for device in set(wanted.autocast) ^ set(present.autocast):
            torch.set_autocast_enabled(device, device in wanted.autocast)
            stack.callback(torch.set_autocast_enabled, device, device in present.autocast)
        if wanted.dtype != present.dtype:
            torch.set_default_dtype(wanted.dtype)
            stack.callback(torch.set_default_dtype, present.dtype)
        if wanted.precisions != present.precisions:
            stack.callback(_set_precisions, present.precisions)
            _set_precisions(wanted.precisions)
        if wanted.threads != present.threads:
            torch.set_num_threads(wanted.threads)
            stack.callback(torch.set_num_threads, present.threads)
        yield


def _precisions() -> tuple[str, ...]:
    """Return the precision of products in single precision, of each backend that has one."""
    backends = _backends()
    if not backends:
        return (torch.get_float32_matmul_precision(),)
    # Where a backend has none of its own, the one for all of them holds.
    unset = _EXACT if torch.backends.fp32_precision in ("none", _EXACT) else "none"
    found = (each.fp32_precision for each in backends)
    return tuple(unset if value == "none" else value for value in found)


def _set_precisions(values: tuple[str, ...]) -> None:
    backends = _backends()
    if not backends:
        torch.set_float32_matmul_precision(values[0])
    for each, value in zip(backends, values, strict=False):
        each.fp32_precision = value


@cache
def _backends() -> tuple[Any, ...]:
    """Return the backends that have a precision each, as they do from torch 2.9 on."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    return tuple(each for each in backends if hasattr(each, "fp32_precision"))
