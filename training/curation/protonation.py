"""Ions that a compound becomes by one proton more or less, at the usual places."""

from __future__ import annotations

from collections.abc import Iterator

from rdkit import Chem

ACIDIC = tuple(
    Chem.MolFromSmarts(pattern)
    for pattern in (
        "[OX2H1;$(O-C=O),$(O-P=O),$(O-S=O)]",
        "[OX2H1;$(O-c)]",
        "[SX2H1]",
        "[NX3H1;$(N(-C=O)-C=O)]",
        "[NX3;H1,H2;$(N-S(=O)=O)]",
        "[nH1;$(n1nnnc1),$(n1nncc1),$(n1ncnc1)]",
    )
)
"""Atoms that give a proton away: acids, phenols, thiols, imides, sulfonamides, azoles."""

BASIC = tuple(
    Chem.MolFromSmarts(pattern)
    for pattern in (
        "[NX3;!$(N-[!#6;!#1]);!$(N-C=[O,N,S]);!$(N-a);!$(N-C#N);!$(N-C=C)]",
        "[nX2;$(n1ccccc1),$(n1cc[nH]c1),$(n1cncc1)]",
        "[NX2;$(N=C(N)N),$(N=C(C)N),$(N=C-N)]",
    )
)
"""Atoms that take one: amines, pyridines, imidazoles, amidines, guanidines."""


def ions_of(smiles: str) -> Iterator[str]:
    """Yield the SMILES of ions with a charge of one, each of one atom changed; some repeat."""
    molecule = Chem.MolFromSmiles(smiles)
    for patterns, change in ((ACIDIC, -1), (BASIC, 1)):
        for pattern in patterns:
            for place, *_ in molecule.GetSubstructMatches(pattern):
                ion = Chem.RWMol(molecule)
                atom = ion.GetAtomWithIdx(place)
                if atom.GetFormalCharge():
                    continue
                hydrogens = atom.GetTotalNumHs() + change
                atom.SetFormalCharge(change)
                atom.SetNoImplicit(True)
                atom.SetNumExplicitHs(hydrogens)
                try:
                    Chem.SanitizeMol(ion)
                except Chem.MolSanitizeException:
                    continue
                yield Chem.CanonSmiles(Chem.MolToSmiles(ion))
