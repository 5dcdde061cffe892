"""What defines an operator: everything needed to rebuild it, nothing else."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_SEGMENTS = 1024
"""Pieces of the path that one call decodes, at most."""

Element = Annotated[int, Field(ge=1, le=118)]
"""An atomic number."""

Charge = Annotated[int, Field(ge=-20, le=20)]
"""A molecule's total charge, e."""


class ArchitectureConfig(BaseModel):
    """Hyper-parameters that every architecture has.

    Attributes
    ----------
    architecture
        Name under which the architecture is registered, see `ase_atom.operator.registry`.
    elements
        Atomic numbers that the operator knows.
    charges
        Total charges of molecules that the operator knows, e. With more than one, the molecule's
        charge is an input of the network.
    horizon
        Longest time that one call may ask for, fs.
    segment
        Length of one piece of the path, fs. The horizon is covered by as many pieces as it
        takes, each starting from the end of the one before, all inside one call.
    temperature_scale
        Temperature whose thermal speeds make velocities dimensionless, K.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    architecture: str
    elements: tuple[Element, ...] = Field(default=(1, 6, 8), min_length=1)
    charges: tuple[Charge, ...] = Field(default=(0,), min_length=1)
    horizon: float = Field(default=64.0, gt=0)
    segment: float = Field(default=16.0, gt=0)
    temperature_scale: float = Field(default=400.0, gt=0)

    @model_validator(mode="after")
    def _pieces(self) -> ArchitectureConfig:
        if self.segment > self.horizon:
            raise ValueError(
                f"segment ({self.segment} fs) is longer than the horizon ({self.horizon} fs)"
            )
        if self.horizon > MOST_SEGMENTS * self.segment:
            raise ValueError(
                f"a horizon of {self.horizon} fs in segments of {self.segment} fs is more than "
                f"{MOST_SEGMENTS} of them"
            )
        if len(set(self.elements)) < len(self.elements):
            raise ValueError(f"elements {list(self.elements)} holds one twice")
        if len(set(self.charges)) < len(self.charges):
            raise ValueError(f"charges {list(self.charges)} holds one twice")
        return self
