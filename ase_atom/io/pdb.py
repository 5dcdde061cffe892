"""The models of a PDB file.

Parsed by columns here (wwPDB format 3.3): ASE's reader guesses missing elements from the letters of
names, takes all alternate locations for atoms, and knows no numbers beyond 9999.
"""

from __future__ import annotations

import codecs
import re
from functools import cached_property
from itertools import groupby
from typing import BinaryIO

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_atom.io.cells import cells_from
from ase_atom.io.labels import HEAVY_HYDROGEN, element_of_name, keeps_columns, with_masses
from ase_atom.io.text import END, NotReadError, TextReader

_SYMBOLS = {symbol.upper(): symbol for symbol in (*chemical_symbols[1:], *HEAVY_HYDROGEN)}
_CHARGE = re.compile(r"([1-9]?)([+-])([1-9]?)")


class PDBReader(TextReader):
    """Read the models of a PDB file; it has no times."""

    def _frame(self, file: BinaryIO, index: int) -> bytes | None:
        cell, inside = b"", False
        lines: list[bytes] = []
        for line in iter(file.readline, b""):
            line = line.removeprefix(codecs.BOM_UTF8)
            record = line[:6].strip()
            if record == b"CRYST1":
                cell = line
            elif record in (b"ATOM", b"HETATM"):
                lines.append(line)
            elif record == b"MODEL":
                inside = True
            elif record in (b"ENDMDL", b"END"):
                inside = False
                if lines:
                    break
        else:
            if inside:
                return None
            if not lines:
                return END
        return b"".join([cell or b"\n", *lines])

    @cached_property
    def _shared_cell(self) -> str:
        """The CRYST1 record that all models share: the only one, before the first of them."""
        with self.path.open("rb") as file:
            starts = [line for line in file if line.startswith((b"CRYST1", b"ATOM  ", b"HETATM"))]
        cells = [line for line in starts if line.startswith(b"CRYST1")]
        alone = len(cells) == 1 and starts[0] is cells[0]
        return cells[0].decode("ascii", "replace") if alone else ""

    def _build(self, lines: list[str]) -> Atoms:
        lines, others = _first_locations(lines)
        cell, *rows = lines
        names = [f"alternate locations of {others} atoms"] if others else []
        symbols, masses = with_masses(_elements(rows))
        positions = [[float(row[at : at + 8]) for at in (30, 38, 46)] for row in rows]
        atoms = Atoms(symbols, positions, masses=masses)
        cell = cell.strip() or self._shared_cell
        if cell:
            starts = ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))
            numbers = np.array([float(cell[a:b]) for a, b in starts])
            vectors = cells_from(numbers[None, :3], numbers[None, 3:])
            if vectors is not None:
                atoms.set_cell(vectors[0])
                atoms.pbc = True
        charges = [_charge(row[78:80]) for row in rows]
        if any(charges):
            atoms.set_initial_charges(charges)
            names.append("formal charges")
        self._report_left_out(names)
        atoms.set_array("atomtypes", np.array([row[12:16].strip() for row in rows]))
        atoms.set_array("residuenames", np.array([row[17:21].strip() for row in rows]))
        return atoms


def _residue(row: str) -> tuple[str, str]:
    """Return chain, number and insertion code of a residue, and its name."""
    return row[21:27], row[17:21].strip()


def _first_locations(lines: list[str]) -> tuple[list[str], int]:
    """Return the lines without alternate locations after each residue's first, and how many."""
    chosen: dict[str, str] = {}
    kept = []
    for line in lines:
        place = line[16:17].strip()
        if not place or chosen.setdefault(line[21:27], place) == place:
            kept.append(line)
    return kept, len(lines) - len(kept)


def _elements(rows: list[str]) -> list[str]:
    """Return the symbols of atoms, ``D`` for deuterium, as their columns or their names have them.

    Raises
    ------
    NotReadError
        If they do not say.
    """
    stated = [_stated(row[76:80]) for row in rows]
    if all(stated):
        return stated
    fields = [f"{row[12:16]:4}" for row in rows]
    aligned = keeps_columns(fields)
    symbols: list[str] = []
    for (_, residue), members in groupby(zip(rows, stated, fields, strict=True), _residue_of):
        group = list(members)
        alone = len({field for *_, field in group}) == 1
        for _row, symbol, field in group:
            try:
                symbols.append(symbol or element_of_name(field, residue, alone, aligned))
            except ValueError as error:
                raise NotReadError(
                    f"atom {len(symbols) + 1}, {field.strip()!r} of residue {residue!r}, has no "
                    f"element in columns 77-78, and by its name it {error}: write the elements"
                ) from error
    return symbols


def _residue_of(member: tuple[str, str, str]) -> tuple[str, str]:
    return _residue(member[0])


def _stated(field: str) -> str:
    """Return the symbol in the columns of element and charge, empty if there is none."""
    found = re.match(r"\s*([A-Za-z]{1,2})(?![A-Za-z])", field)
    return _SYMBOLS.get(found[1].upper(), "") if found else ""


def _charge(field: str) -> int:
    found = _CHARGE.fullmatch(field.strip())
    if not found:
        return 0
    size = int(found[1] or found[3] or 1)
    return size if found[2] == "+" else -size
