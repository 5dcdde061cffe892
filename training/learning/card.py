"""The card of a trained operator: what its run and its data say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rdkit import Chem

from ase_atom.operator import OperatorCard, read_card
from ase_atom.operator.checkpoint import find_operator
from ase_atom.operator.fingerprints import frame_fingerprints
from training.data.store import Burst
from training.learning.config import TrainingConfig
from training.learning.reference import Reference

_LARGEST_SCATTER = 0.2  # of the temperature, for molecules of a few vibrations


def make_card(config: TrainingConfig, reference: Reference, command: str) -> OperatorCard:
    """What the trained operator says of itself."""
    bursts = reference.part("train")  # what is only measured was not learned
    masses = {
        int(number): round(float(mass), 6)
        for burst in bursts
        for number, mass in zip(burst.numbers, burst.masses, strict=True)
    }
    known = [one for burst in bursts for one in _fingerprints(burst)]
    smiles = {Chem.CanonSmiles(burst.smiles) for burst in bursts}
    charges = {burst.charge for burst in bursts}
    low, high = temperature_range(bursts)
    if config.start_from:  # its weights have learned from what made it, too
        parent = read_card(find_operator(config.start_from))
        known = [*parent.training_frames, *known]
        if not config.refit_energies:  # and of the same level of theory
            smiles |= set(parent.smiles)
            charges |= set(parent.charges)
            masses = parent.masses | masses
            cold, hot = parent.temperature_range_K
            low, high = min(low, cold), max(high, hot)
    theories = sorted({str(burst.attrs.get("theory", "unknown")) for burst in bursts})
    return OperatorCard(
        name=config.name,
        smiles=sorted(smiles),
        largest_molecule=config.largest_molecule,
        elements=sorted(masses),
        masses=dict(sorted(masses.items())),
        charges=sorted(charges),
        temperature_range_K=(low, high),
        horizon_fs=config.operator.horizon,
        stride_fs=config.stride,
        level_of_theory="; ".join(theories),
        training_command=command,
        training_config=config.model_dump(mode="json"),
        data_fingerprint=reference.fingerprint,
        split=reference.split,
        training_frames=list(dict.fromkeys(known)),
        notes=config.notes,
    )


def temperature_range(bursts: Sequence[Burst]) -> tuple[float, float]:
    """Lowest and highest temperature of bursts, K, at least a thermal fluctuation about their mean.

    A microcanonical run has its temperature by chance: in the ensemble that it is a sample of the
    energy of f = 3N − 6 vibrations scatters by 1/√f of its mean, and its own frames scatter as much
    about its temperature. So much is counted as learned, but for no more than a fifth.
    """
    temperatures = [burst.temperature_K for burst in bursts]
    mean = float(np.mean(temperatures))
    vibrations = max(3 * max(len(burst.numbers) for burst in bursts) - 6, 1)
    scatter = min(1 / math.sqrt(vibrations), _LARGEST_SCATTER)
    low, high = round(mean * (1 - scatter), 1), round(mean * (1 + scatter), 1)
    return min(low, *temperatures), max(high, *temperatures)


def _fingerprints(burst: Burst) -> list[str]:
    """Fingerprints of three frames, one of which is likely to be in any piece of the burst."""
    last = len(burst.positions) - 1
    return frame_fingerprints(burst.numbers, burst.positions[[last // 4, last // 2, 3 * last // 4]])
