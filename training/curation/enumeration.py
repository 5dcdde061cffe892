"""Candidate compounds by small edits of given ones, less those that no chemist would bottle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rdkit import Chem, RDLogger

RDLogger.DisableLog("rdApp.*")

SUBSTITUENTS = (
    *("C", "CC", "C=C", "C#C", "O", "OC", "CO", "S", "SC", "Cl", "CCl", "N", "NC", "CN", "C#N"),
    *("C=O", "C(C)=O", "C(=O)O", "C(=O)OC", "OC=O", "C(N)=O", "NC=O", "[N+](=O)[O-]", "S(C)=O"),
)
"""Groups that take the place of a hydrogen, bonded by their first atom."""

REPLACEMENTS = (6, 7, 8, 16)
"""Elements that take the place of another."""

UNLIKELY = tuple(
    Chem.MolFromSmarts(pattern)
    for pattern in (
        "[O,S]-[O,S]",  # peroxides, disulfides, sulfonates by their acids
        "[N;!$([N+]);!$(N=*);!a]-[N;!$([N+]);!$(N=*);!a]",  # hydrazines
        "[N;!a]-[N,O,S;!a]-[N,O]",  # chains of three heteroatoms, nitrates
        "O[N+](=O)[O-]",
        "[Cl]-[N,O,S]",
        "[N,n;X3;!$([N+])]-[O;X2]",  # hydroxylamines
        "[N,n]-[S;X2]",
        "[C;X4](-[O,N,S,Cl])-[O;H1]",  # gem-diols, hemiacetals, hemiaminals
        "[C;X4](-[N,O,S])-[$([NX3;H1,H2]),$([SX2H])]",  # aminals and their like
        "[C;X4](-Cl)-[O,N,S]",  # alpha-chloro ethers, amines, sulfides
        "[C;!a]=[C;!a]-[$([OX2H]),$([NX3;H1,H2]),$([SX2H])]",  # enols, enamines, enethiols
        "[C;X2]#[C;X2]-[O,N,S,Cl]",
        "N#C-[O,N,S,Cl]",
        "[C;!a]=[N;H1]",  # imines that hydrolyse, imidic acids
        "[C;!a]=[S]",
        "[C;H1](=O)-[O,S,N]-[O,N,S]",
        "[C](=O)(-[O;H1])-[O,N,S]",  # carbonic and carbamic acids
        "[C](=O)(-[O,N,S])-[S;H1]",
        "[C](=O)-Cl",
        "[N;!a](-[C;H1]=O)-[C;H1]=O",
        "*=*=*",
        "[r3,r4]=*",
        "[R2;r3]",
        "a=[N,S]",
        "[S;!a](=*)-[!#6]",
        "[S,O;+]",
        "[N;+;!$([N+](=O)[O-])]",
    )
)
"""Patterns of compounds that are unstable, tautomerise at once or that nobody has."""


def edits(smiles: str, substituents: Sequence[str] = SUBSTITUENTS) -> Iterator[str]:
    """Yield the canonical SMILES of all single edits of a compound, in no order and repeated.

    An edit puts one of the substituents in the place of a hydrogen, one element in the place of
    another, takes a terminal atom away, puts a CH2 into a single bond or makes a bond single or
    double.
    """
    molecule = Chem.MolFromSmiles(smiles)
    for edited in (
        *_substituted(molecule, substituents),
        *_replaced(molecule),
        *_shortened(molecule),
        *_lengthened(molecule),
        *_other_bonds(molecule),
    ):
        try:
            Chem.SanitizeMol(edited)
        except Chem.MolSanitizeException:
            continue
        result = Chem.MolToSmiles(edited)
        # Once more from the text: sanitising an edited molecule leaves some that it would refuse.
        if "." not in result and Chem.MolFromSmiles(result) is not None:
            yield result


def is_likely(smiles: str) -> bool:
    """Say whether none of the `UNLIKELY` patterns occurs."""
    molecule = Chem.MolFromSmiles(smiles)
    return not any(molecule.HasSubstructMatch(pattern) for pattern in UNLIKELY)


def enumerate_edits(smiles: Iterable[str]) -> list[str]:
    """Return the likely edits of some compounds, sorted, each once, the compounds left out."""
    given = {Chem.CanonSmiles(text) for text in smiles}
    found = {edited for text in sorted(given) for edited in edits(text)} - given
    return sorted(text for text in found if is_likely(text))


def _substituted(molecule: Chem.Mol, substituents: Sequence[str]) -> Iterator[Chem.RWMol]:
    size = molecule.GetNumAtoms()
    for atom in molecule.GetAtoms():
        if not atom.GetTotalNumHs():
            continue
        for group in substituents:
            edited = Chem.RWMol(Chem.CombineMols(molecule, Chem.MolFromSmiles(group)))
            edited.AddBond(atom.GetIdx(), size, Chem.BondType.SINGLE)
            place = edited.GetAtomWithIdx(atom.GetIdx())
            if place.GetNumExplicitHs():
                place.SetNumExplicitHs(place.GetNumExplicitHs() - 1)
            yield edited


def _replaced(molecule: Chem.Mol) -> Iterator[Chem.RWMol]:
    for atom in molecule.GetAtoms():
        for number in REPLACEMENTS:
            if number != atom.GetAtomicNum() and not atom.GetFormalCharge():
                edited = Chem.RWMol(molecule)
                other = Chem.Atom(number)
                other.SetIsAromatic(atom.GetIsAromatic())
                edited.ReplaceAtom(atom.GetIdx(), other)
                yield edited


def _shortened(molecule: Chem.Mol) -> Iterator[Chem.RWMol]:
    for atom in molecule.GetAtoms():
        if atom.GetDegree() == 1 and molecule.GetNumAtoms() > 1:
            edited = Chem.RWMol(molecule)
            edited.RemoveAtom(atom.GetIdx())
            yield edited


def _lengthened(molecule: Chem.Mol) -> Iterator[Chem.RWMol]:
    for bond in molecule.GetBonds():
        if bond.GetBondType() == Chem.BondType.SINGLE:
            ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            edited = Chem.RWMol(molecule)
            middle = edited.AddAtom(Chem.Atom(6))
            edited.RemoveBond(*ends)
            for end in ends:
                edited.AddBond(end, middle, Chem.BondType.SINGLE)
            yield edited


def _other_bonds(molecule: Chem.Mol) -> Iterator[Chem.RWMol]:
    other = {
        Chem.BondType.SINGLE: Chem.BondType.DOUBLE,
        Chem.BondType.DOUBLE: Chem.BondType.SINGLE,
    }
    for bond in molecule.GetBonds():
        if bond.GetBondType() in other and not bond.GetBeginAtom().GetFormalCharge():
            edited = Chem.RWMol(molecule)
            edited.GetBondWithIdx(bond.GetIdx()).SetBondType(other[bond.GetBondType()])
            yield edited
