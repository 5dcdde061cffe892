"""Scales that make inputs and outputs dimensionless."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.units import thermal_speed


def thermal_speeds(masses: Tensor, temperature: float) -> Tensor:
    """√(k_B T/m) per Cartesian direction, Å/fs, ``[B, N, 1]``; 1 where the mass is zero.

    Parameters
    ----------
    masses
        amu, ``[B, N]``.
    temperature
        K.
    """
    real = masses > 0
    speeds = thermal_speed(torch.where(real, masses, torch.ones_like(masses)), temperature)
    return torch.where(real, speeds, torch.ones_like(speeds)).unsqueeze(-1)
