"""XYZ and extended XYZ through ASE, as other programs write them too."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Sequence
from itertools import islice
from typing import BinaryIO

import numpy as np
from ase import Atoms
from ase.io import extxyz

from ase_atom.io.appending import AppendingWriter
from ase_atom.io.ase_frames import TIME, isotope_masses, left_out, to_atoms, with_results
from ase_atom.io.dialects import is_of_lammps, other_length, step_of_cp2k, understood
from ase_atom.io.frames import FrameBlock
from ase_atom.io.labels import symbols_of
from ase_atom.io.reader import TrajectoryReader
from ase_atom.io.text import END, NotReadError, TextReader

_VELOCITIES = ("vel", "velo", "vels", "velocity", "velocities")
"""Columns whose unit differs between the programs that write them, and so is not known."""
_UNIT = "a unit in the comment"
_ENERGIES = ("REF_energy", "ref_energy", "dft_energy", "DFT_energy", "MACE_energy")
_FORCES = (
    *("force", "REF_forces", "ref_forces", "dft_forces", "dft_force", "DFT_forces"),
    "MACE_forces",
)
"""What training sets call energies in eV and forces in eV/Å, beside ASE's own names."""
_PREDICTED = "MACE_"

_LONGEST_COUNT = 18  # digits
_UNIT_OF_TIME = re.compile(r"\s*[-+.\deE]+\s*(?:fs|ps|ns)\s*")
_LATTICE = re.compile(r'Lattice\s*=\s*"[^"]*"(?:\s+pbc\s*=\s*"[^"]*")?')
_KEYS = {"lattice", "cell", "pbc", "properties", "charge", "spin", "mult", "multiplicity", "time"}
"""Of plain comments, what is taken for more than prose."""
_PROPERTIES = re.compile(r'Properties\s*=\s*"?([^\s"]+)')


class XYZReader(TextReader):
    """Read XYZ and extended XYZ."""

    def _frame(self, file: BinaryIO, index: int) -> bytes | None:
        head = file.readline()
        if index == 0:
            head = head.removeprefix(codecs.BOM_UTF8)
        while head and not head.strip():
            head = file.readline()
        if not head:
            return END
        digits = head.strip()
        if not digits.isdigit() or len(digits) > _LONGEST_COUNT:
            raise self._not_one(f"frame {index + 1} does not begin with its number of atoms")
        size = int(digits) + 2
        lines = [head, *islice(file, size - 1)]  # ends with the file, whatever the number
        if len(lines) < size or not (lines[-1].endswith(b"\n") or _is_whole(lines[1], lines[2:])):
            return None
        return b"".join(lines)

    def _build(self, lines: list[str]) -> Atoms:
        text = lines[1].strip()
        if step_of_cp2k(text) and re.search(r"-(vel|frc)-\d+\.xyz$", self.path.name):
            raise NotReadError("by its name it holds velocities or forces of CP2K, not positions")
        try:
            comment = understood(text)
        except ValueError as error:
            raise NotReadError(str(error)) from error
        is_extended = "Properties=" in text or "Lattice=" in text
        left = comment.text if is_extended or _is_keys(comment.text) else ""
        if not comment.text and (lattice := _LATTICE.search(text)):
            left = lattice[0]
        if not lines[2:]:
            raise NotReadError("it has no atoms")
        rows, masses = self._with_symbols(lines, text)
        atoms: Atoms = next(extxyz.read_extxyz(io.StringIO("\n".join([lines[0], left, *rows])), 0))
        if not atoms.numbers.all():
            dummy = int(np.argmin(atoms.numbers)) + 1
            raise NotReadError(f"atom {dummy} is a dummy or ghost atom: take it out of the file")
        if masses is not None and not atoms.has("masses"):
            atoms.set_masses(masses)
        atoms.positions *= comment.length
        if comment.cell is not None:
            atoms.set_cell(comment.cell)
            atoms.pbc = True
        if comment.time is not None:
            atoms.info[TIME] = comment.time
        if comment.energy is not None:
            with_results(atoms, energy=comment.energy)
        _take_time(atoms)
        _take_results(atoms)
        names = left_out(atoms)
        if not is_extended:  # what looks like a key may be prose
            names = [name for name in names if name.lower() in _KEYS]
        if not is_extended and comment.energy is None and atoms.calc is not None:
            names += list(atoms.calc.results)  # whose units a plain comment does not say
            atoms.calc = None
        if not is_extended and comment.text and (unit := other_length(text)):
            names.append(_UNIT + f" ({unit}): positions are taken to be in Å")
        if len(rows[0].split()) > _columns(text):
            names.append("columns that its comment does not name")
        self._report_left_out(names)
        return atoms

    def _with_symbols(self, lines: list[str], comment: str) -> tuple[list[str], np.ndarray | None]:
        """Return the lines of atoms with element symbols for their labels, and isotopes' masses."""
        rows = lines[2:]
        place = _place_of_labels(comment)
        if place is None:
            return rows, None
        if place == 0:
            labels = [row.split(None, 1)[0] for row in rows]
        else:
            labels = [row.split()[place] for row in rows]
        if is_of_lammps(comment) and any(label.isdigit() for label in labels):
            raise NotReadError(
                "its labels are LAMMPS's types of atoms, which say no elements: write them with "
                "dump_modify element"
            )
        try:
            symbols, masses = symbols_of(labels)
        except ValueError as error:
            raise NotReadError(str(error)) from error
        if symbols == labels:
            return rows, masses
        named = []
        for row, symbol in zip(rows, symbols, strict=True):
            fields = row.split()
            fields[place] = symbol
            named.append(" ".join(fields))
        return named, masses


class XYZImages(XYZReader):
    """Frames as atoms that keep all that ASE finds; velocities of an unknown unit are of no use."""

    def _report_left_out(self, names: Sequence[str]) -> None:
        super()._report_left_out(
            [name for name in names if name in _VELOCITIES or name.startswith(_UNIT)]
        )


def _properties(comment: str) -> list[tuple[str, int]]:
    """Return names and numbers of columns; without any, a label and a position."""
    found = _PROPERTIES.search(comment)
    parts = found[1].split(":") if found else ["species", "S", "1", "pos", "R", "3"]
    return list(zip(parts[::3], map(int, parts[2::3]), strict=False))


def _columns(comment: str) -> int:
    return sum(count for _, count in _properties(comment))


def _place_of_labels(comment: str) -> int | None:
    place = 0
    for name, count in _properties(comment):
        if name == "species":
            return place
        place += count
    return None


def _is_keys(comment: str) -> bool:
    """Whether a comment that is not of extended XYZ can be read as keys and values."""
    try:
        return bool(extxyz.key_val_str_to_dict(comment)) and "=" in comment
    except Exception:  # as the parser raises for what is prose
        return False


def _take_time(atoms: Atoms) -> None:
    """Take a time whose unit is stated beside it, or in its key, for the frame's."""
    info = atoms.info
    if TIME not in info and "time_ps" in info:
        info[TIME] = f"{info.pop('time_ps')} ps"
    for key in ("time", "Time"):
        stated = info.get(key)
        if TIME not in info and isinstance(stated, str) and _UNIT_OF_TIME.fullmatch(stated):
            info[TIME] = info.pop(key)


def _take_results(atoms: Atoms) -> None:
    """Take energy and forces under the one other name that a frame has them by."""
    results = getattr(atoms.calc, "results", {})
    kinds = (("energy", _ENERGIES, atoms.info), ("forces", _FORCES, atoms.arrays))
    named = [other for _, others, held in kinds for other in others if other in held]
    # What a model predicts beside a reference is none of the reference's.
    chosen = [other for other in named if not other.startswith(_PREDICTED)] or named
    for name, others, held in kinds:
        found = [other for other in others if other in chosen]
        if name not in results and len(found) == 1:
            with_results(atoms, **{name: held.pop(found[0])})


def _is_whole(comment: bytes, atoms: Sequence[bytes]) -> bool:
    """Say whether the last of a frame's lines, which no newline ends, is there to its end.

    It must have all columns, and its last field as many decimals as the fewest above it: writers
    give a column a fixed number of them, and where they vary no more can be told. In a column of
    integers the line must be as long as those above, if these are all of one length.
    """
    if not atoms:
        return True
    rows = [line.split() for line in atoms]
    above, last = rows[:-1], rows[-1]
    properties = re.search(rb'Properties="?([^\s"]+)', comment)
    if above:
        columns = len(above[-1])
    elif properties:
        columns = sum(int(part) for part in properties[1].split(b":")[2::3] if part.isdigit())
    else:
        columns = 4
    if len(last) != columns or not all(above):
        return False
    if columns == 4 or not above:  # nothing but an element and numbers of one kind
        others = [field for row in above for field in row[1:]] + last[1:-1]
    else:
        others = [row[-1] for row in above]
    if not all(_is_number(field) for field in others):
        return len(last[-1]) >= min(map(len, others), default=1)
    if not _is_number(last[-1]):
        return False
    lengths = {len(line.rstrip()) for line in atoms[:-1]}
    if len(lengths) == 1 and not any(b"." in field for field in others):
        return len(atoms[-1].rstrip()) >= lengths.pop()
    return _decimals(last[-1]) >= min(map(_decimals, others), default=0)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _decimals(field: bytes) -> int:
    return len(field.partition(b".")[2])


class XYZWriter(AppendingWriter):
    """Extended XYZ: positions, momenta (in ASE's unit), energy, forces, and ``time_fs``.

    Masses have a column where they are not the standard ones.
    """

    bytes_per_atom = 40
    holds_masses = True
    holds_velocities = True
    holds_energies = True
    holds_forces = True
    holds_any_cell = True
    holds_later_cells = True
    holds_missing_cells = True
    holds_later_velocities = True

    def _resume(self, reader: TrajectoryReader) -> None:
        self._file.seek(max(0, self._end - 1))
        if self._end and self._file.read(1) != b"\n":
            self._file.write(b"\n")
            self._end = self._file.tell()

    def _encode(self, block: FrameBlock) -> tuple[bytes, np.ndarray]:
        data, ends = bytearray(), []
        columns = ["symbols", "positions"]
        if block.velocities is not None:
            columns.append("momenta")
        if isotope_masses(self.numbers, self.masses) is not None:
            columns.append("masses")  # without them, momenta would be read as other velocities
        for frame in range(len(block)):
            atoms = to_atoms(self.numbers, block, frame, self.masses, self.charge)
            forces = atoms.calc is not None and "forces" in atoms.calc.results
            text = io.StringIO()
            extxyz.write_extxyz(text, [atoms], columns=columns + ["forces"] * forces)
            data += text.getvalue().encode()
            ends.append(len(data))
        return bytes(data), np.array(ends)
