"""Restart files: the state of a run as safetensors, with its plain values as JSON in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ase_atom.errors import FileFormatError
from ase_atom.files import replace_file
from ase_atom.io.guard import check_file, reading

FORMAT = "ase-atom-restart/1"


def write_restart(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, arrays and plain values, in nested dictionaries, in place of the file there.

    The file appears whole or not at all.

    Parameters
    ----------
    path
        The file.
    state
        What `read_restart` gives back, arrays as tensors; keys are names without a dot.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    plain = _split(state, "", tensors)
    facts = {"format": FORMAT, "state": json.dumps(plain)}
    replace_file(path, lambda scratch: scratch.write_bytes(save(tensors, metadata=facts)))


def read_restart(path: Path) -> dict[str, Any]:
    """Read what `write_restart` wrote.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or no restart file.
    TrajectoryError
        If it is a folder, a pipe or a device.
    """
    if path.exists():  # a pipe, for one
        check_file(path, "restart file")
    with reading(path, what="cannot be read as a restart file"):
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if facts.get("format") != FORMAT:
            raise FileFormatError(f"{path} is no restart file of this version of ase-atom")
        state = dict(json.loads(facts["state"]))
        for name, tensor in tensors.items():
            *parents, last = name.split(".")
            place = state
            for parent in parents:
                place = place[parent]
            place[last] = tensor
    return state


def _split(state: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return the plain values, and put the tensors aside under dotted names."""
    plain: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, Tensor):
            tensors[prefix + name] = value.detach().cpu().contiguous().clone()
        elif isinstance(value, Mapping):
            plain[name] = _split(value, f"{prefix}{name}.", tensors)
        else:
            plain[name] = value
    return plain
