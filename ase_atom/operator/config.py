"""What defines an operator's architecture: everything needed to rebuild it, nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class OperatorConfig(BaseModel):
    """Hyper-parameters of an operator.

    Attributes
    ----------
    architecture
        Name under which the architecture is registered.
    elements
        Atomic numbers that the operator knows.
    horizon
        Longest time that one call may ask for, fs.
    segment
        Length of one piece of the path, fs. The horizon is covered by as many pieces as it
        takes, each starting from the end of the one before, all inside one call.
    width, pair_width, vector_channels
        Channels of the atoms' scalars, of the pair features and of the atoms' vectors.
    blocks, heads
        Number of trunk blocks and of attention heads in each.
    pair_vectors
        Vector channels from which a block builds its directional pair invariants.
    radial_channels
        Number of learned radial vector messages per block.
    energy_blocks
        Trunk blocks that the energy head stands on.
    modes
        Number of frequencies of the decoder.
    frequency_range
        Lowest and highest initial angular frequency, rad/fs.
    temperature_scale
        Temperature whose thermal speeds make velocities dimensionless, K.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["spectral"] = "spectral"
    elements: tuple[int, ...] = Field(default=(1, 6, 8), min_length=1)
    horizon: float = Field(default=64.0, gt=0)
    segment: float = Field(default=16.0, gt=0)
    width: int = Field(default=128, ge=8)
    pair_width: int = Field(default=48, ge=8)
    vector_channels: int = Field(default=48, ge=4)
    blocks: int = Field(default=4, ge=1)
    heads: int = Field(default=8, ge=1)
    pair_vectors: int = Field(default=12, ge=1)
    radial_channels: int = Field(default=32, ge=1)
    energy_blocks: int = Field(default=2, ge=1)
    modes: int = Field(default=16, ge=1)
    frequency_range: tuple[float, float] = (0.04, 0.85)
    temperature_scale: float = Field(default=400.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> OperatorConfig:
        if self.segment > self.horizon:
            raise ValueError(
                f"segment ({self.segment} fs) is longer than the horizon ({self.horizon} fs)"
            )
        if self.width % self.heads or self.vector_channels % self.heads:
            raise ValueError(
                f"width ({self.width}) and vector_channels ({self.vector_channels}) must be "
                f"multiples of heads ({self.heads})"
            )
        if self.energy_blocks > self.blocks:
            raise ValueError(f"energy_blocks ({self.energy_blocks}) exceeds blocks ({self.blocks})")
        low, high = self.frequency_range
        if not 0 < low < high:
            raise ValueError(f"frequency_range must rise from above zero, not {low} to {high}")
        return self
