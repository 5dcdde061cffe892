"""Hyper-parameters of the spectral architecture."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ase_atom.operator.config import ArchitectureConfig


class SpectralConfig(ArchitectureConfig):
    """Hyper-parameters of a spectral operator, beside those that every operator has.

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
    modes
        Number of frequencies of the decoder.
    frequency_range
        Lowest and highest initial angular frequency, rad/fs.
    carrier
        How velocities carry the atoms on: ``ballistic``, v t, or ``bounded``, v τ (1 − e^(−t/τ)),
        for lags past which a molecule does not remember its velocities.
    carrier_time
        τ of the bounded carrier, fs.
    rest
        Where a bounded carrier leaves the atoms at long lags: ``none``, where it took them;
        ``learned``, displaced by one more learned vector; or ``aligned``, that and on a structure
        laid into the state's frame, see `SpectralOperator.set_rest`.
    rest_numbers
        Atomic numbers, in order, of the one molecule that an aligned structure is of.
    rest_terms
        Number of structures that an aligned rest is made of, weighted 1, e^(−t/T), e^(−2t/T), …
        with T half a segment: a mean blurs as orientation and conformation are forgotten.
    response
        Whether paths answer linearly to displacements from an aligned structure and to velocities
        beside what the network makes of them, see `SpectralOperator.set_response`.
    centre
        ``uniform``: the centre of mass moves uniformly; ``free``: it is where the atoms' paths take
        it, for atoms that are not all of a molecule's.
    """

    architecture: Literal["spectral"] = "spectral"
    width: int = Field(default=128, ge=8)
    pair_width: int = Field(default=48, ge=8)
    vector_channels: int = Field(default=48, ge=4)
    blocks: int = Field(default=4, ge=1)
    heads: int = Field(default=8, ge=1)
    pair_vectors: int = Field(default=12, ge=1)
    radial_channels: int = Field(default=32, ge=1)
    energy_blocks: int = Field(default=2, ge=1)
    vector_limit: float = Field(default=0.0, ge=0)
    modes: int = Field(default=16, ge=1)
    frequency_range: tuple[float, float] = (0.04, 0.85)
    carrier: Literal["ballistic", "bounded"] = "ballistic"
    carrier_time: float = Field(default=100.0, gt=0)
    rest: Literal["none", "learned", "aligned"] = "none"
    rest_numbers: tuple[int, ...] = ()
    rest_terms: int = Field(default=1, ge=1)
    response: bool = False
    centre: Literal["uniform", "free"] = "uniform"

    @model_validator(mode="after")
    def _consistent(self) -> SpectralConfig:
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
        if self.rest != "none" and self.carrier != "bounded":
            raise ValueError(f"rest: {self.rest} needs carrier: bounded")
        if (self.rest == "aligned") != bool(self.rest_numbers):
            raise ValueError("rest: aligned and rest_numbers go together")
        if self.response and self.rest != "aligned":
            raise ValueError(f"response: true needs rest: aligned, not {self.rest}")
        return self
