"""What a trained operator says of itself: what it covers and how it was made."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ase_atom.operator.config import Element
from ase_atom.operator.trust import Calibration


class OperatorCard(BaseModel):
    """Facts that travel inside a checkpoint.

    Attributes
    ----------
    name
        Name under which the operator is shipped or was trained.
    smiles
        Canonical SMILES (RDKit, hydrogens implicit) of the molecules it was trained for.
    largest_molecule
        For an operator of molecules in general: atoms in the largest that it is for. It is then
        for every neutral closed-shell molecule of its elements up to that size, on the list of
        SMILES or not; by default for those on the list alone.
    elements
        Atomic numbers it was trained on.
    masses
        Atomic masses in amu by atomic number; the dynamics of other isotopes differ.
    charges
        Total charges of molecules that it was trained for, e.
    temperature_range_K
        Lowest and highest temperature of the training data, and at least 1/√(3N − 6), or a fifth if
        that is less, to either side of their mean: so much of one run's temperature is chance.
    horizon_fs, stride_fs
        Longest time one call may ask for, and the jump recommended for propagation.
    level_of_theory
        Of the reference data, with the engine and its version.
    training_command, training_config
        What made it, and the whole configuration as plain data.
    data_fingerprint
        SHA-256 over the reference data.
    split
        Keys of the reference trajectories in ``train``, ``validation`` and ``test``.
    training_frames
        Fingerprints of three frames of each trajectory in ``train``, see
        `ase_atom.operator.fingerprints.frame_fingerprints`, and of those that an operator it
        started from had learned from: by these the data are known under any
        name. Empty if they were not recorded.
    calibration
        From the round trip of a jump to its expected error; None where that was never measured.
    notes
        Anything else a user should know.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    smiles: list[str] = Field(min_length=1)
    largest_molecule: int | None = Field(default=None, ge=1)
    elements: list[Element] = Field(min_length=1)
    masses: dict[Element, Annotated[float, Field(gt=0)]]
    charges: list[int] = Field(default=[0], min_length=1)
    temperature_range_K: tuple[float, float]
    horizon_fs: float = Field(gt=0)
    stride_fs: float = Field(gt=0)
    level_of_theory: str
    training_command: str
    training_config: dict[str, Any] = Field(default_factory=dict)
    data_fingerprint: str
    split: dict[str, list[str]] = Field(default_factory=dict)
    training_frames: list[str] = Field(default_factory=list)
    calibration: Calibration | None = None
    notes: str = ""

    @model_validator(mode="before")
    @classmethod
    def _one_charge(cls, facts: Any) -> Any:
        """Read cards from before there were several charges."""
        if isinstance(facts, dict) and "charge" in facts and "charges" not in facts:
            facts = dict(facts)
            facts["charges"] = [facts.pop("charge")]
        return facts
