"""Candidate compounds: in chunks, parsed, and in an order that nobody chose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice

from rdkit import Chem

from ase_atom.io.library import Record


def chunks(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    """Yield records in lists of a given size; the last may be shorter."""
    while chunk := list(islice(records, size)):
        yield chunk


def parse(record: Record) -> Chem.Mol | None:
    """Return the molecule of a record; None if RDKit cannot read it."""
    if record.kind == "mol":
        molecule = Chem.MolFromMolBlock(record.text)
        # Through SMILES, so that a molecule is the same whichever file it comes from.
        return None if molecule is None else Chem.MolFromSmiles(Chem.MolToSmiles(molecule))
    return Chem.MolFromSmiles(record.text)


def digest(text: str) -> str:
    """SHA-256 of a text: an order that nobody chose."""
    return hashlib.sha256(text.encode()).hexdigest()
