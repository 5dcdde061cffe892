"""Hyper-parameters of the spectral architecture."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ase_atom.operator.trunk import TrunkConfig

_RETIRED = {
    "carrier": "ballistic",
    "rest": "none",
    "rest_numbers": (),
    "rest_terms": 1,
    "response": False,
    "centre": "uniform",
}
"""Settings that earlier versions wrote, with the values that are the architecture's only ones."""


class SpectralConfig(TrunkConfig):
    """Hyper-parameters of a spectral operator, beside those of its trunk.

    Attributes
    ----------
    modes
        Number of frequencies of the decoder.
    frequency_range
        Lowest and highest initial angular frequency, rad/fs.
    force_input
        Whether the atoms' first vectors hold the forces of a potential besides the velocities.
    """

    architecture: Literal["spectral"] = "spectral"
    modes: int = Field(default=16, ge=1, le=4096)
    frequency_range: tuple[float, float] = (0.04, 0.85)
    force_input: bool = False

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, settings: Any) -> Any:
        """Read files from before the settings of long lags left, which it never used."""
        if cls is not SpectralConfig or not isinstance(settings, dict):
            return settings
        kept = dict(settings)
        for name, only in _RETIRED.items():
            value = kept.pop(name, only)
            if (tuple(value) if isinstance(value, list) else value) != only:
                raise ValueError(
                    f"{name}: {value} is a setting of the architecture long_lag of "
                    "training.benchmarks, not of spectral"
                )
        kept.pop("carrier_time", None)  # of the other carrier
        return kept

    @model_validator(mode="after")
    def _rising(self) -> Self:
        low, high = self.frequency_range
        if not 0 < low < high:
            raise ValueError(f"frequency_range must rise from above zero, not {low} to {high}")
        return self
