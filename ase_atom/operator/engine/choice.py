"""Which engine evaluates an operator, and on which device."""

from __future__ import annotations

import difflib
import importlib.util
from typing import Literal, get_args

import torch

from ase_atom.errors import ConfigError, EngineWarning
from ase_atom.errors.warning import warn
from ase_atom.operator.base import Operator
from ase_atom.operator.engine.runtime import NumbaEngine, OnnxEngine

Engine = Literal["auto", "torch", "onnx", "numba"]
"""``auto`` is ONNX Runtime where it can evaluate the operator, and torch where not."""


def check_engine(engine: str, device: str) -> torch.device:
    """Return the device, if engine and device exist and go together.

    Raises
    ------
    ConfigError
        If not, naming what would be right.
    """
    engines = get_args(Engine)
    if engine not in engines:
        near = difflib.get_close_matches(str(engine), engines, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(engines)}"
        raise ConfigError(f"unknown engine {engine!r}: {hint}")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        present = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
        raise ConfigError(
            f"there is no device {str(device)!r} here: there is {', '.join(present)}"
        ) from error
    if found.type == "meta":
        raise ConfigError("nothing is computed on the device 'meta'")
    needed = _NEEDED.get(engine, ())
    if needed and found.type != "cpu":
        raise ConfigError(f"engine={engine!r} is for the CPU, not {device}: use engine='torch'")
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"engine={engine!r} needs the package {package}: install it")
    return found


_NEEDED = {"onnx": ("onnxruntime",), "numba": ("numba", "threadpoolctl")}


def evaluated_by(
    operator: Operator, engine: Engine = "torch", device: str = "cpu"
) -> Operator | OnnxEngine:
    """Return an operator evaluated by an engine on a device.

    Parameters
    ----------
    operator
        In torch; it is moved to the device.
    engine
        See `Engine`.
    device
        As torch names it; ``auto`` is torch on any but the CPU.

    Raises
    ------
    ConfigError
        For an unknown engine, a device that is not there, or an operator that ``onnx`` cannot
        evaluate.
    """
    place = check_engine(engine, device)
    operator = operator.to(place)
    if engine == "torch" or place.type != "cpu":
        return operator
    if engine != "auto":
        return {"onnx": OnnxEngine, "numba": NumbaEngine}[engine](operator, strict=True)
    if operator.network() is None:
        return operator
    if importlib.util.find_spec("onnxruntime") is None:
        warn(
            "the package onnxruntime is not installed: torch evaluates the operator instead, "
            "several times slower for small molecules",
            EngineWarning,
        )
        return operator
    return OnnxEngine(operator)
