"""Hyper-parameters of the leap decoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ase_atom.operator.trunk import TrunkConfig


class LeapConfig(TrunkConfig):
    """Hyper-parameters of a leap decoder, beside those of its trunk.

    Attributes
    ----------
    horizon, segment
        Longest lag, fs: the decoder gives one later time, and no path to it.
    spread
        Width of the noise about the first structure from which a sample is made, Å.
    scale
        Size in Å of what the network may change at the noisiest; see
        `ase_atom.operator.leap.flow`.
    """

    architecture: Literal["leap"] = "leap"
    horizon: float = Field(default=16000.0, gt=0)
    segment: float = Field(default=16000.0, gt=0)
    width: int = Field(default=96, ge=8, le=4096)
    vector_channels: int = Field(default=32, ge=4, le=4096)
    radial_channels: int = Field(default=24, ge=1, le=4096)
    vector_limit: float = Field(default=8.0, ge=0)
    spread: float = Field(default=0.5, gt=0)
    scale: float = Field(default=0.7, gt=0)
