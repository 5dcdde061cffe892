"""What a trained leap decoder says of itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ase_atom.errors import ConfigError
from ase_atom.units import format_time

ROUNDING = 1e-9

SHORTEST = 500.0
"""fs: five times the memory of velocities at a friction of 10 per ps."""

MEMORIES = 5.0


def memory(friction: float) -> float:
    """Shortest lag in fs that is past the memory of velocities, 1/γ, at a friction in 1/fs.

    At least `SHORTEST`, where strides begin to mean leaps.
    """
    return max(SHORTEST, MEMORIES / friction)


class LeapCard(BaseModel):
    """Facts that travel with a leap decoder, beside the card of its operator.

    Attributes
    ----------
    smiles
        Canonical SMILES of the molecules whose dynamics it learned.
    largest_molecule
        For leaps of molecules in general: atoms in the largest that they are for. They are then
        for every molecule of their elements up to that size; by default for those listed alone.
    lags_fs
        Shortest and longest leap, with the time of settling in it.
    temperature_range_K
        Lowest and highest temperature of the dynamics it learned.
    friction
        Langevin friction of these dynamics, 1/fs.
    passes
        Passes of the network that make one sample.
    settling_jumps, settling_friction
        Jumps of the operator that give the stiff vibrations back to it, and their friction, 1/fs.
    settling_fs
        Part of a leap's lag that they stand for, as was measured; None if it was not.
    training_command, training_config
        What made it, and its settings as plain data.
    data_fingerprint
        SHA-256 over the trajectories.
    notes
        Anything else a user should know.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    smiles: list[str] = Field(min_length=1)
    largest_molecule: int | None = Field(default=None, ge=1)
    lags_fs: tuple[float, float]
    temperature_range_K: tuple[float, float]
    friction: float = Field(gt=0)
    passes: int = Field(default=8, ge=1, le=1000)
    settling_jumps: int = Field(default=8, ge=0, le=1000)
    settling_friction: float = Field(default=0.1, gt=0)
    settling_fs: float | None = Field(default=None, ge=0)
    training_command: str
    training_config: dict[str, Any] = Field(default_factory=dict)
    data_fingerprint: str
    notes: str = ""

    @property
    def charges(self) -> list[int]:
        """Total charges in e of the molecules that were learned from, sorted."""
        from rdkit import Chem

        read = (Chem.MolFromSmiles(smiles, sanitize=False) for smiles in self.smiles)
        return sorted({int(Chem.GetFormalCharge(molecule)) for molecule in read})

    @property
    def charges_in_words(self) -> str:
        """These charges for people."""
        return " or ".join(f"{charge:+d}" if charge else "0" for charge in self.charges)

    def check(self, lag: float, temperature: float) -> None:
        """Check that a lag in fs and a temperature in K are among those that were learned.

        Raises
        ------
        ConfigError
            If not, naming those that are.
        """
        low, high = self.lags_fs
        if not low * (1 - ROUNDING) <= lag <= high * (1 + ROUNDING):
            raise ConfigError(
                f"leaps of {format_time(lag)} were not learned: those of this operator are from "
                f"{format_time(low)} to {format_time(high)} long"
            )
        cold, hot = self.temperature_range_K
        if not cold <= temperature <= hot:
            raise ConfigError(
                f"leaps at {temperature:g} K were not learned: those of this operator are for "
                f"{cold:g} to {hot:g} K"
            )
