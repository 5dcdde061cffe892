"""Hyper-parameters of the spectral architecture at long lags."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ase_atom.operator import SpectralConfig
from ase_atom.operator.config import Element


class LongLagConfig(SpectralConfig):
    """Hyper-parameters of a long-lag operator, beside those of a spectral one.

    Attributes
    ----------
    carrier
        How velocities carry the atoms on: ``ballistic``, v t, or ``bounded``, v τ (1 − e^(−t/τ)),
        for lags past which a molecule does not remember its velocities.
    carrier_time
        τ of the bounded carrier, fs.
    rest
        Where a bounded carrier leaves the atoms at long lags: ``none``, where it took them;
        ``learned``, displaced by one more learned vector; or ``aligned``, that and on a structure
        rotated into the state's frame, see `LongLagOperator.set_rest`.
    rest_numbers
        Atomic numbers, in order, of the one molecule that an aligned structure is of.
    rest_terms
        Number of structures that an aligned rest is made of, weighted 1, e^(−t/T), e^(−2t/T), …
        with T half a segment: a mean blurs as orientation and conformation are forgotten.
    response
        Whether paths answer linearly to displacements from an aligned structure and to velocities
        beside what the network makes of them, see `LongLagOperator.set_response`.
    centre
        ``uniform``: the centre of mass moves uniformly; ``free``: it is where the atoms' paths take
        it, for atoms that are not all of a molecule's.
    """

    architecture: Literal["long_lag"] = "long_lag"  # type: ignore[assignment]
    carrier: Literal["ballistic", "bounded"] = "ballistic"
    carrier_time: float = Field(default=100.0, gt=0)
    rest: Literal["none", "learned", "aligned"] = "none"
    rest_numbers: tuple[Element, ...] = Field(default=(), max_length=10_000)
    rest_terms: int = Field(default=1, ge=1, le=64)
    response: bool = False
    centre: Literal["uniform", "free"] = "uniform"

    @model_validator(mode="after")
    def _resting(self) -> Self:
        if self.rest != "none" and self.carrier != "bounded":
            raise ValueError(f"rest: {self.rest} needs carrier: bounded")
        if (self.rest == "aligned") != bool(self.rest_numbers):
            raise ValueError("rest: aligned and rest_numbers go together")
        if self.response and self.rest != "aligned":
            raise ValueError(f"response: true needs rest: aligned, not {self.rest}")
        return self
