"""What a candidate compound must satisfy, judged by itself and against the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from rdkit import Chem, DataStructs, RDLogger
from rdkit.Chem import rdFingerprintGenerator

from ase_atom.errors import ConfigError
from training.curation.scaffolds import identity, scaffold

RDLogger.DisableLog("rdApp.*")

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

UNREADABLE = "cannot be read"
FRAGMENTS = "more than one fragment"
CHARGED = "charged"
OPEN_SHELL = "unpaired electrons"
ISOTOPE = "an isotope or an atom of no element"
ELEMENTS = "other elements"
OXYGENS = "too many O"
NITROGENS = "too many N"
SIZE = "more heavy atoms than its seed"
LIKE_NO_SEED = "similar to no seed"
TOO_LIKE_A_SEED = "too similar to a seed"
IS_A_SEED = "is a seed"
HELD_OUT = "has the scaffold of a compound held out, or is one"
TWICE = "accepted before"
TOO_LIKE_ACCEPTED = "too similar to one accepted"

REASONS = (
    *(UNREADABLE, FRAGMENTS, CHARGED, OPEN_SHELL, ISOTOPE, ELEMENTS, OXYGENS, NITROGENS, SIZE),
    *(IS_A_SEED, HELD_OUT, LIKE_NO_SEED, TOO_LIKE_A_SEED, TWICE, TOO_LIKE_ACCEPTED),
)
"""All reasons for which candidates are removed, in the order in which they are looked for."""


class Criteria(BaseModel):
    """The limits, by default the paper's.

    Attributes
    ----------
    elements
        Symbols of the elements allowed besides H.
    max_oxygens, max_nitrogens
        Largest number of atoms.
    max_heavy_atoms
        Largest number of heavy atoms; by default that of the candidate's seed alone.
    min_similarity, max_similarity
        The Tanimoto similarity to at least one seed lies above the one and below the other; a
        lower limit of 0 is none.
    max_accepted_similarity
        Largest similarity to any candidate accepted before.
    seeds_count
        Whether the seeds count as accepted from the start. With the paper's limits nothing could
        pass then: a candidate would be above 0.875 to a seed and at most 0.80 to it.
    radius, bits
        Of the Morgan fingerprints (Rogers and Hahn 2010); radius 2 is ECFP-4.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    elements: tuple[str, ...] = ("C", "H", "N", "O")
    max_oxygens: int = Field(5, ge=0)
    max_nitrogens: int = Field(3, ge=0)
    max_heavy_atoms: int | None = Field(None, ge=1)
    min_similarity: Share = 0.875
    max_similarity: Annotated[float, Field(ge=0, le=1.01, allow_inf_nan=False)] = 0.925
    max_accepted_similarity: Share = 0.80
    seeds_count: bool = False
    radius: int = Field(2, ge=0)
    bits: int = Field(2048, ge=64)

    @field_validator("elements")
    @classmethod
    def _check_elements(cls, elements: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in elements:
            try:
                Chem.GetPeriodicTable().GetAtomicNumber(symbol)
            except RuntimeError as error:
                raise ValueError(f"{symbol!r} is no element") from error
        return elements


@dataclass(frozen=True)
class Passed:
    """A candidate that satisfies every criterion but the one about those accepted before.

    Attributes
    ----------
    name, smiles
        Its name in the file, empty if it has none, and its canonical SMILES.
    seed, similarity
        The most similar of the seeds that admit it, and how similar.
    """

    name: str
    smiles: str
    seed: str
    similarity: float


class Judge:
    """Judges candidates against seeds.

    Parameters
    ----------
    criteria
        The limits.
    seeds
        Names and SMILES.
    held_out
        SMILES of compounds none of which, nor of whose ring scaffolds, may pass.

    Raises
    ------
    ConfigError
        If there is no seed, one cannot be read, or nothing could pass.
    """

    def __init__(
        self,
        criteria: Criteria,
        seeds: Sequence[tuple[str, str]],
        held_out: Sequence[str] = (),
    ) -> None:
        if not seeds:
            raise ConfigError("there are no seeds")
        if criteria.min_similarity >= criteria.max_similarity:
            raise ConfigError(
                f"no similarity is above {criteria.min_similarity:g} and below "
                f"{criteria.max_similarity:g}"
            )
        if criteria.seeds_count and criteria.max_accepted_similarity <= criteria.min_similarity:
            raise ConfigError(
                f"nothing can be above {criteria.min_similarity:g} to a seed and at most "
                f"{criteria.max_accepted_similarity:g} to every seed: leave the seeds out of those "
                "accepted, or change a limit"
            )
        self.criteria = criteria
        self.names = [name for name, _ in seeds]
        molecules = [Chem.MolFromSmiles(smiles) for _, smiles in seeds]
        for (name, smiles), molecule in zip(seeds, molecules, strict=True):
            if molecule is None:
                raise ConfigError(f"seed {name}: {smiles!r} cannot be read")
        self.smiles = [Chem.MolToSmiles(molecule) for molecule in molecules]
        self._known = set(self.smiles)
        self._held_out = {identity(smiles) for smiles in held_out}
        self._held_scaffolds = {scaffold(smiles) for smiles in held_out} - {""}
        self._sizes = np.array([molecule.GetNumHeavyAtoms() for molecule in molecules])
        self._generator = rdFingerprintGenerator.GetMorganGenerator(
            radius=criteria.radius, fpSize=criteria.bits
        )
        self._fingerprints = [self.fingerprint(molecule) for molecule in molecules]
        self._elements = {
            Chem.GetPeriodicTable().GetAtomicNumber(symbol) for symbol in criteria.elements
        } | {1}

    def fingerprint(self, molecule: Chem.Mol) -> DataStructs.ExplicitBitVect:
        """Return the Morgan fingerprint."""
        return self._generator.GetFingerprint(molecule)

    def judge(self, name: str, molecule: Chem.Mol | None) -> Passed | str:
        """Return the candidate if it passes, else one of `REASONS`."""
        if molecule is None or not molecule.GetNumAtoms():
            return UNREADABLE
        reason = self._composition(molecule)
        if reason is not None:
            return reason
        smiles = Chem.MolToSmiles(molecule)
        if smiles in self._known:
            return IS_A_SEED
        if self._held_out and (
            identity(smiles) in self._held_out or scaffold(smiles) in self._held_scaffolds
        ):
            return HELD_OUT
        similarities = np.array(
            DataStructs.BulkTanimotoSimilarity(self.fingerprint(molecule), self._fingerprints)
        )
        low, high = self.criteria.min_similarity, self.criteria.max_similarity
        admits = ((similarities > low) | (low == 0)) & (similarities < high)
        if not admits.any():
            return LIKE_NO_SEED if similarities.max() <= low else TOO_LIKE_A_SEED
        admits &= self._sizes >= molecule.GetNumHeavyAtoms()
        if not admits.any():
            return SIZE
        seed = int(np.where(admits, similarities, -1).argmax())
        return Passed(name, smiles, self.names[seed], float(similarities[seed]))

    def _composition(self, molecule: Chem.Mol) -> str | None:
        atoms = list(molecule.GetAtoms())
        numbers = [atom.GetAtomicNum() for atom in atoms]
        limit = self.criteria.max_heavy_atoms
        if len(Chem.GetMolFrags(molecule)) > 1:
            return FRAGMENTS
        if Chem.GetFormalCharge(molecule):
            return CHARGED
        if any(atom.GetNumRadicalElectrons() for atom in atoms):
            return OPEN_SHELL
        if any(atom.GetIsotope() for atom in atoms) or 0 in numbers:
            return ISOTOPE
        if not self._elements.issuperset(numbers):
            return ELEMENTS
        if numbers.count(8) > self.criteria.max_oxygens:
            return OXYGENS
        if numbers.count(7) > self.criteria.max_nitrogens:
            return NITROGENS
        heavy = molecule.GetNumHeavyAtoms()
        if heavy > self._sizes.max() or (limit is not None and heavy > limit):
            return SIZE
        return None


class Accepted:
    """Those accepted so far, in memory; judges whether another is different enough from all.

    Two compounds are the same if their `identity` is.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._limit = judge.criteria.max_accepted_similarity
        self._known: set[str] = set()
        self._fingerprints: list[DataStructs.ExplicitBitVect] = []
        if judge.criteria.seeds_count:
            for smiles in judge.smiles:
                molecule = Chem.MolFromSmiles(smiles)
                self._add(identity(smiles), judge.fingerprint(molecule))

    def consider(self, smiles: str) -> str | None:
        """Accept a compound, or return the reason why not."""
        molecule = Chem.MolFromSmiles(smiles)
        skeleton = identity(smiles)
        if skeleton in self._known:
            return TWICE
        fingerprint = self._judge.fingerprint(molecule)
        similarities = DataStructs.BulkTanimotoSimilarity(fingerprint, self._fingerprints)
        if max(similarities, default=0.0) > self._limit:
            return TOO_LIKE_ACCEPTED
        self._add(skeleton, fingerprint)
        return None

    def _add(self, skeleton: str, fingerprint: DataStructs.ExplicitBitVect) -> None:
        self._known.add(skeleton)
        self._fingerprints.append(fingerprint)
