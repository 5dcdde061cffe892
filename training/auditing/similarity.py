"""How near a compound is to a training set: in its structure, and to the operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from rdkit.DataStructs import BulkTanimotoSimilarity

from ase_atom.operator import Operator
from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.spectral import SpectralOperator
from ase_atom.state import PhaseState
from training.curation.scaffolds import scaffold

GROUPS = {
    "alcohol": "[CX4][OX2H]",
    "phenol": "c[OX2H]",
    "ether": "[OD2;!$(OC=O)]([#6;!$(C=O)])[#6;!$(C=O)]",
    "aldehyde": "[$([CX3H1](=O)[#6]),$([CX3H2]=O)]",
    "ketone": "[#6][CX3](=O)[#6]",
    "carboxylic acid": "[CX3](=O)[OX2H]",
    "ester": "[CX3](=O)[OX2][#6]",
    "amide": "[CX3](=O)[NX3]",
    "amine": "[NX3;!$(N[C,S]=[O,S]);!$(N=*);!$([N+])]",
    "imine": "[CX3]=[NX2]",
    "nitrile": "C#N",
    "nitro": "[N+](=O)[O-]",
    "thiol": "[SX2H]",
    "thioether": "[SX2;!$(SC=O)]([#6])[#6]",
    "thioester": "[SX2]C=O",
    "disulfide": "[SX2][SX2]",
    "peroxide": "[OX2][OX2]",
    "aromatic carbonyl": "c=O",
    "sulfoxide or sulfone": "[SX3,SX4](=O)",
    "thiocarbonyl": "C=S",
    "chloride": "[#6]Cl",
    "alkene": "[CX3]=[CX3]",
    "alkyne": "C#C",
    "benzene ring": "c1ccccc1",
    "aromatic nitrogen": "n",
    "aromatic oxygen or sulfur": "[o,s]",
    "three- or four-membered ring": "[r3,r4]",
    "fused or bridged ring": "[x3]",
}
"""Functional groups as SMARTS."""


@dataclass(frozen=True)
class Likeness:
    """A compound beside a training set.

    Attributes
    ----------
    largest, mean
        Tanimoto similarity of Morgan fingerprints (radius 2, 2048 bits) to the training compounds.
    nearest
        SMILES of the most similar.
    scaffold, shared_scaffold
        Bemis-Murcko scaffold, empty without a ring, and how many training compounds have it.
    groups
        Functional groups in it, each with the number of training compounds that have it.
    distance
        Distance to the nearest training compound in the operator's embedding, in units of the
        median such distance within the training set; None where there is no embedding.
    """

    largest: float
    mean: float
    nearest: str
    scaffold: str
    shared_scaffold: int
    groups: dict[str, int]
    distance: float | None = None

    @property
    def unseen_groups(self) -> list[str]:
        """Functional groups that no training compound has."""
        return [name for name, count in self.groups.items() if not count]


def functional_groups(smiles: str) -> set[str]:
    """Names of the `GROUPS` in a molecule."""
    molecule = Chem.MolFromSmiles(smiles)
    return {
        name
        for name, pattern in GROUPS.items()
        if molecule.HasSubstructMatch(Chem.MolFromSmarts(pattern))
    }


def compare(
    compounds: Sequence[str],
    training: Sequence[str],
    embeddings: Mapping[str, NDArray] | None = None,
) -> dict[str, Likeness]:
    """Compare compounds with a training set, all by SMILES.

    Parameters
    ----------
    compounds, training
        SMILES.
    embeddings
        Of compounds and training compounds, by SMILES, see `embed`; those without one are left out.
    """
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)

    def print_of(smiles: str) -> object:
        return generator.GetFingerprint(Chem.MolFromSmiles(smiles))

    prints = [print_of(smiles) for smiles in training]
    scaffolds = [scaffold(smiles) for smiles in training]
    groups = [functional_groups(smiles) for smiles in training]
    known, usual = _known(training, embeddings)
    found = {}
    for smiles in compounds:
        similar = np.array(BulkTanimotoSimilarity(print_of(smiles), prints))
        core = scaffold(smiles)
        distance = None
        if usual and embeddings and smiles in embeddings:
            nearest = np.linalg.norm(known - embeddings[smiles], axis=1).min()
            distance = float(nearest / usual)
        found[smiles] = Likeness(
            largest=float(similar.max()),
            mean=float(similar.mean()),
            nearest=training[int(similar.argmax())],
            scaffold=core,
            shared_scaffold=sum(other == core for other in scaffolds) if core else 0,
            groups={
                name: sum(name in others for others in groups)
                for name in sorted(functional_groups(smiles))
            },
            distance=distance,
        )
    return found


def _known(
    training: Sequence[str], embeddings: Mapping[str, NDArray] | None
) -> tuple[NDArray, float]:
    """Embeddings of the training set, and the median distance to the nearest other."""
    known = [embeddings[smiles] for smiles in training if smiles in (embeddings or {})]
    if len(known) < 3:
        return np.zeros((0, 0)), 0.0
    table = np.array(known)
    apart = np.linalg.norm(table[:, None] - table[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return table, float(np.median(apart.min(1)))


def embed(operator: Operator, state: PhaseState) -> NDArray | None:
    """A molecule as the operator's trunk sees it: its atoms' scalars, mean over atoms and frames.

    Parameters
    ----------
    operator
        A spectral one; others have no embedding yet.
    state
        Frames of one molecule; their velocities are not looked at.

    Returns
    -------
    ``[width]``, or None.
    """
    if not isinstance(operator, SpectralOperator):
        return None
    working = next(operator.parameters()).dtype
    centre, _ = state.center_of_mass()
    x = (state.positions - centre[:, None]).to(working)
    masses = state.masses.to(working)
    speeds = thermal_speeds(masses, operator.config.temperature_scale)
    species = operator.species(state)
    with torch.no_grad():
        features = operator.trunk(operator.lift(species, x, torch.zeros_like(x), speeds))
    return features.scalars.mean((0, 1)).double().numpy()
