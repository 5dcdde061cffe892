"""Checkpoints of training runs: tensors, numbers and texts, and no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ase_atom.errors import CheckpointError
from ase_atom.io.guard import reading


def load_plain(path: str | Path, device: Any = "cpu") -> dict[str, Any]:
    """Read a file that ``torch.save`` has written, without running what it may hold.

    Parameters
    ----------
    path
        The file.
    device
        Where its tensors go, as ``map_location`` of `torch.load`.

    Raises
    ------
    CheckpointError
        If it is damaged, or holds anything but tensors and plain data.
    """
    path = Path(path)
    what = "is damaged, or holds more than tensors and plain data, and is not read"
    with reading(path, CheckpointError, what=what):
        return torch.load(path, map_location=device, weights_only=True)


class PlainCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, read by `load_plain` alone."""

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", **_: Any) -> dict:
        """Read a checkpoint; Lightning's own choice between plain and not is left out."""
        return load_plain(path, map_location)
