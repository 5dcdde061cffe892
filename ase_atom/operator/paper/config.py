"""Hyper-parameters of the published architecture; the defaults are the published ones."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ase_atom.operator.config import ArchitectureConfig


class EnergyConfig(BaseModel):
    """Size of the energy head, an invariant network of its own (the first blocks of `spectral`).

    Attributes
    ----------
    width, pair_width, vector_channels, blocks, heads, pair_vectors, radial_channels
        As in `SpectralConfig`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=80, ge=8, le=4096)
    pair_width: int = Field(default=40, ge=8, le=4096)
    vector_channels: int = Field(default=40, ge=4, le=4096)
    blocks: int = Field(default=2, ge=1, le=64)
    heads: int = Field(default=8, ge=1, le=1024)
    pair_vectors: int = Field(default=12, ge=1, le=4096)
    radial_channels: int = Field(default=32, ge=1, le=4096)


class PaperConfig(ArchitectureConfig):
    """Hyper-parameters of the published ATOM, beside those that every operator has.

    A segment is the published horizon Δ, and by default the whole horizon. Every default is the
    published single-task value; docs/paper-architecture.md says what each switch does.

    Attributes
    ----------
    timesteps
        Number P of copies of the state along time, at the multiples of segment/P.
    anchor
        One more copy, at time 0.
    width, blocks, heads
        Channels d, number of blocks, attention heads in each.
    lift
        ``tensor_product`` of the lifted positions and velocities, ``equivariant`` linear maps
        alone, or ``plain`` linear maps.
    walks, radius
        Number of random-walk return probabilities among the inputs, and the bond length of the
        graph they walk on, Å.
    positional
        ``temporal_rope``, ``rope`` and ``sinusoidal`` by token, or ``none``.
    rope_base
        Of the rotary frequencies.
    attention
        ``heterogeneous`` (one softmax for each of x, v and phase space) or ``self``.
    attention_scale
        What divides scores: the head's width, ``fixed``, or a ``learned`` number for each head.
    trunk
        ``unconstrained``, or ``equivariant``.
    activation
        ``swiglu`` or ``silu``.
    value_residual
        Weight of a block's own output against the first block's: ``learned``, ``fixed``, or
        ``none`` for no such mixing.
    output_heads
        Number of output maps, mixed by a gate if there are several.
    velocities
        Whether to predict velocities too.
    update
        What the outputs are: ``absolute`` positions, a ``delta``, or the bend of a ``path`` that
        starts at the state.
    frame
        ``laboratory``: coordinates as they come; ``centre_of_mass``: about it, and its motion
        exactly uniform; ``body``: also along the axes of `body_axes`, which turn with the molecule.
    frame_interval
        Time that makes velocities displacements, fs: the interval between the data's frames. None
        for units of the element's thermal speed.
    constant_input
        Whether positions and velocities are lifted beside a constant, which keeps their
        magnitude through the normalisation.
    noise
        Standard deviation of the noise on inputs in training, Å and the velocities' unit.
    attention_dropout, dropout
        Share of attention weights, and of the feed-forward network's hidden values, dropped in
        training.
    energy
        Size of the energy head; None for no head.
    """

    architecture: Literal["paper"] = "paper"
    segment: float = Field(gt=0)
    timesteps: int = Field(default=8, ge=1, le=1024)
    anchor: bool = False
    width: int = Field(default=128, ge=8, le=4096)
    blocks: int = Field(default=5, ge=1, le=64)
    heads: int = Field(default=8, ge=1, le=1024)
    lift: Literal["tensor_product", "equivariant", "plain"] = "tensor_product"
    walks: int = Field(default=0, ge=0, le=1024)
    radius: float = Field(default=1.6, gt=0)
    positional: Literal["temporal_rope", "rope", "sinusoidal", "none"] = "temporal_rope"
    rope_base: float = Field(default=1000.0, gt=1)
    attention: Literal["heterogeneous", "self"] = "heterogeneous"
    attention_scale: Literal["fixed", "learned"] = "fixed"
    trunk: Literal["unconstrained", "equivariant"] = "unconstrained"
    activation: Literal["swiglu", "silu"] = "swiglu"
    value_residual: Literal["learned", "fixed", "none"] = "learned"
    output_heads: int = Field(default=1, ge=1, le=64)
    velocities: bool = False
    update: Literal["absolute", "delta", "path"] = "absolute"
    frame: Literal["laboratory", "centre_of_mass", "body"] = "laboratory"
    frame_interval: float | None = Field(default=0.5, gt=0)
    constant_input: bool = False
    noise: float = Field(default=0.1, ge=0)
    attention_dropout: float = Field(default=0.2, ge=0, lt=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    energy: EnergyConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_segment(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and settings.get("segment") is None:
            horizon = settings.get("horizon", cls.model_fields["horizon"].default)
            return settings | {"segment": horizon}
        return settings

    @model_validator(mode="after")
    def _consistent(self) -> PaperConfig:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width ({self.width}) must be a multiple of twice the heads ({self.heads})"
            )
        if self.segment < self.horizon and not self.velocities:
            raise ValueError(
                f"a horizon ({self.horizon:g} fs) beyond the segment ({self.segment:g} fs) needs "
                "velocities: true"
            )
        if self.update == "path" and not self.velocities:
            raise ValueError("update: path needs velocities: true")
        if self.trunk == "equivariant":
            if self.lift == "plain":
                raise ValueError("trunk: equivariant needs an equivariant lift, not plain")
            if self.width // self.heads < 6:
                raise ValueError("trunk: equivariant needs six channels a head, for two vectors")
            if self.positional == "sinusoidal":
                raise ValueError("trunk: equivariant cannot add sinusoidal positions to vectors")
        return self
