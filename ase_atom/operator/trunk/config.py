"""Hyper-parameters of the trunk."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from ase_atom.operator.config import ArchitectureConfig


class TrunkConfig(ArchitectureConfig):
    """Hyper-parameters of a network on the trunk, beside those that every operator has.

    Attributes
    ----------
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
    vector_limit
        Length that no vector channel exceeds after a block: u becomes u / (1 + (|u|/c)⁴)^¼, which
        leaves short ones as they are. 0 for none; the products of a deep trunk on many kinds of
        molecules then run away on rare states.
    """

    width: int = Field(default=128, ge=8, le=4096)
    pair_width: int = Field(default=48, ge=8, le=4096)
    vector_channels: int = Field(default=48, ge=4, le=4096)
    blocks: int = Field(default=4, ge=1, le=64)
    heads: int = Field(default=8, ge=1, le=1024)
    pair_vectors: int = Field(default=12, ge=1, le=4096)
    radial_channels: int = Field(default=32, ge=1, le=4096)
    energy_blocks: int = Field(default=2, ge=1, le=64)
    vector_limit: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if self.width % self.heads or self.vector_channels % self.heads:
            raise ValueError(
                f"width ({self.width}) and vector_channels ({self.vector_channels}) must be "
                f"multiples of heads ({self.heads})"
            )
        if self.energy_blocks > self.blocks:
            raise ValueError(f"energy_blocks ({self.energy_blocks}) exceeds blocks ({self.blocks})")
        return self
