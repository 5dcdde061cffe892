"""Elements of atoms from what files call them, in XYZ files and in PDB files without elements.

A label is taken for an element only where one reading is left; the rest is refused with both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

HEAVY_HYDROGEN = {"D": 2.01410177812, "T": 3.01604927790}
"""Masses in amu (AME 2020) of what files call deuterium and tritium."""
_DUMMIES = {"X", "XX", "DU", "BQ", "GH", "LP", "EP", "M", "MW", "VS", "DA", "Q", "TV"}
_HEAVIEST = 92  # what is heavier is no second reading of a name: nobelium of "NO", …
_SURE = {"Cl", "Br", "Si", "Se"}  # two letters that no one uses for a part of a name
_PLAIN = frozenset(chemical_symbols[1:])
_TWO = frozenset(symbol for symbol in _PLAIN if len(symbol) == 2)
_LABEL = re.compile(r"([A-Za-z]{1,2})(?:[0-9_+*'.-].*)?")
# Letters that number the atoms of a residue outwards: α, β, γ, δ, ε, ζ, η.
_REMOTE = set("ABGDEZH")


def symbols_of(labels: Iterable[str]) -> tuple[list[str], np.ndarray | None]:
    """Return element symbols of the labels in an XYZ file, and masses in amu if some are isotopes.

    Labels are symbols in any case, atomic numbers, ``D`` and ``T``, or symbols with something
    behind, as CP2K's kinds: ``C1``, ``H_w``.

    Raises
    ------
    ValueError
        For a dummy or ghost atom, and for what is no element or could be two.
    """
    labels = list(labels)
    if all(label in _PLAIN for label in labels):
        return labels, None
    # Where atoms have names, two letters may be one of these: CA of an amino acid.
    named = any(not _is_symbol(label) for label in set(labels))
    symbols = []
    for index, label in enumerate(labels):
        try:
            symbols.append(_symbol(label, named))
        except ValueError as error:
            raise ValueError(f"atom {index + 1} {error}") from error
    return with_masses(symbols)


def with_masses(symbols: list[str]) -> tuple[list[str], np.ndarray | None]:
    """Return symbols with ``H`` for ``D`` and ``T``, and masses in amu, None without any such."""
    heavy = {i: HEAVY_HYDROGEN[s] for i, s in enumerate(symbols) if s in HEAVY_HYDROGEN}
    if not heavy:
        return symbols, None
    plain = ["H" if symbol in HEAVY_HYDROGEN else symbol for symbol in symbols]
    masses = atomic_masses[[atomic_numbers[symbol] for symbol in plain]]
    masses[list(heavy)] = list(heavy.values())
    return plain, masses


def _is_symbol(label: str) -> bool:
    return label.capitalize() in _PLAIN or label in HEAVY_HYDROGEN or label.isdigit()


@lru_cache(maxsize=4096)
def _symbol(label: str, named: bool) -> str:
    if label in _PLAIN or label in HEAVY_HYDROGEN:
        return label
    if label.isdigit() and 0 < int(label) < len(chemical_symbols):
        return chemical_symbols[int(label)]
    core = _LABEL.fullmatch(label)
    letters = core[1] if core else ""
    if letters.upper() in _DUMMIES or label == "0" or re.search(r"[:(]|[Bb][Qq]", label):
        raise ValueError(f"is called {label!r}, a dummy or ghost atom: take it out of the file")
    symbol = letters.capitalize()
    if symbol not in _PLAIN and letters not in HEAVY_HYDROGEN:
        raise ValueError(f"is called {label!r}, which is no element: give its symbol")
    one = letters[:1].upper()
    unsure = named and len(letters) == 2 and letters != symbol and symbol not in _SURE
    if unsure and one in _PLAIN:
        raise ValueError(f"is called {label!r}, which may be {symbol} or {one}: give its symbol")
    return symbol if symbol in _PLAIN else letters


# ---- names in PDB files --------------------------------------------------------------------------

_PROTEIN = """ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL SEC
 PYL ASH ASX CYM CYX GLH GLX HID HIE HIP HSD HSE HSP HYP LYN MSE SEP TPO PTR ACE NME NMA NHE
 NH2 FOR"""
_NUCLEIC = "A C G U I T DA DC DG DT DU DI RA RC RG RU ADE CYT GUA THY URA"
_WATER = {"HOH", "WAT", "H2O", "SOL", "TIP", "TIP3", "TIP4", "TIP5", "TP3", "SPC", "DOD", "D2O"}
_RESIDUES = {*_PROTEIN.split(), *_NUCLEIC.split(), *_WATER}
_RESIDUES |= {f"{one}{end}" for one in _NUCLEIC.split() for end in "35"}
_RESIDUES |= {f"{end}{one}" for one in _PROTEIN.split() if len(one) == 3 for end in "NC"}
_IONS = {
    "SOD": "Na", "POT": "K", "CLA": "Cl", "CIM": "Cl", "CIO": "Cs", "CAL": "Ca", "LIT": "Li",
    "RUB": "Rb", "CES": "Cs", "BAR": "Ba", "CAD": "Cd", "IOD": "I", "ZN2": "Zn", "MG2": "Mg",
}  # fmt: skip
"""Names that CHARMM and others give to ions; most others have the symbol's own."""


def element_of_name(field: str, residue: str, alone: bool, aligned: bool) -> str:
    """Return the symbol of an atom in a PDB file that does not state its element.

    Residues that everyone knows decide, and ions whose residue has their name. Else the columns do:
    symbols of two letters begin in the first of a name's four, and those of one letter in the
    second, unless the name fills all four (wwPDB format 3.3, "ATOM").

    Parameters
    ----------
    field
        Columns 13 to 16 of the line.
    residue
        Name of the residue.
    alone
        Whether all atoms of the residue have this name.
    aligned
        Whether the names of the file keep to the columns, see `keeps_columns`.

    Returns
    -------
    A symbol, ``D`` for deuterium.

    Raises
    ------
    ValueError
        If more than one reading is left, or none.
    """
    name, residue = field.strip(), residue.strip().upper()
    if re.match("[A-Z][a-z]", name) and name[:2] in _PLAIN:
        return name[:2]
    name = name.upper()
    ion = _ion(name, residue) if alone else ""
    if ion:
        return ion
    letters = name.lstrip("0123456789")[:2]
    one, two = letters[:1], letters.capitalize() if letters.isalpha() else ""
    if residue in _RESIDUES:
        if two == "Se" and residue in ("MSE", "SEC"):
            return "Se"
        if one and one in "CHNOSPD":
            return one
        raise ValueError("is no element of this residue, or a dummy atom")
    has_one = one in _PLAIN or one == "D"
    has_two = len(two) == 2 and atomic_numbers.get(two, 99) <= _HEAVIEST
    first = field[:1].isalpha()  # begins where symbols of two letters do
    if not has_two and has_one:
        return one
    if not has_one and has_two:
        return two
    if not has_two:
        raise ValueError("is no element, or a dummy atom")
    if one == "H" and (not first or len(name) == 4):
        return one
    is_place = one in "CNOSP" and two[1].upper() in _REMOTE and two != "Se"
    if not first and aligned and is_place:
        return one
    by_columns = aligned and (alone or not (is_place or one == "H"))
    if first and len(name) < 4 and (two in _SURE or by_columns):
        return two
    raise ValueError(f"may be {two} or {one}")


def _ion(name: str, residue: str) -> str:
    """Return the element of an ion, which its residue is named after, or an empty string."""
    core = residue.rstrip("0123456789+-")
    if name.rstrip("0123456789+-") != core:
        return ""
    symbol = _IONS.get(residue) or _IONS.get(core) or core.capitalize()
    return symbol if symbol in _PLAIN else ""


def keeps_columns(fields: Iterable[str]) -> bool:
    """Return whether names in a PDB file begin where their elements have them begin.

    They do not if one shorter than its four columns begins in the first, and is of one letter.
    """
    return all(
        field[:2].strip().capitalize() in _TWO
        for field in fields
        if field[:1].isalpha() and len(field.strip()) < 4
    )
