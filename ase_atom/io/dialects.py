"""What programs write into the comment lines of XYZ files: units, cells, times, energies."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ase_atom.io.cells import vectors_of
from ase_atom.io.stated_units import unit_factor

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][-+]?\d+)?"
_IPI = re.compile(r"CELL\W?(abcABC|GENH|H)\W?:((?:\s+" + _NUMBER + r")+)")
_IN_BRACES = re.compile(r"([\w.]+)\{(\w*)\}")
_CP2K = re.compile(rf"i\s*=\s*(\d+),(?:\s*time\s*=\s*({_NUMBER}),)?\s*E\s*=\s*({_NUMBER})")
_ORCA_MD = re.compile(rf"ORCA AIMD (\w+) Step .*?t\s*=\s*({_NUMBER})\s*fs")
_ORCA_ENERGY = re.compile(rf"E_Pot\s*=\s*({_NUMBER})\s*([A-Za-z/]+)")
_ORCA_UNIT = re.compile(r"Unit is ([\w/]+)")
_ORCA = re.compile(rf"Coordinates from ORCA-job .* E\s+({_NUMBER})")
_XTB = re.compile(rf"energy:\s*({_NUMBER})\s.*\bxtb:")

_LENGTHS = r"bohrs?|nanomet(?:er|re)s?|nm|picomet(?:er|re)s?|pm"
_IN_PROSE = re.compile(
    rf"(?<![\w/*^])(?:{_LENGTHS})(?![\w/*^])"
    r"|(?:coord|coordinates?|positions?|geometry|lengths?|units?)\W+(?:(?:in|are|is)\W+){0,2}"
    r"(?:atomic[ _]units?|a\.u\.|au\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Comment:
    """What the comment line of a frame says.

    Parameters
    ----------
    text
        What is left of it for ASE to read, in the manner of extended XYZ.
    length
        What positions are multiplied by to be in Å.
    cell
        Cell vectors in Å, ``[3, 3]``.
    time, energy
        fs and eV.
    """

    text: str = ""
    length: float = 1.0
    cell: np.ndarray | None = None
    time: float | None = None
    energy: float | None = None


def understood(text: str) -> Comment:
    """Return what a comment line says in the manner of i-PI, CP2K, ORCA or xtb; else its text.

    Raises
    ------
    ValueError
        If it says that the numbers are no positions, or their unit is not known.
    """
    if "Properties=" in text:
        return Comment(text)
    if found := _IPI.search(text):
        return _of_ipi(text, found[1], found[2])
    if step := step_of_cp2k(text):
        _, time, energy = step
        return Comment(time=time, energy=energy)
    if found := _ORCA_MD.search(text):
        return _of_orca(text, found[1], float(found[2]))
    if found := _ORCA.search(text) or _XTB.search(text):
        return Comment(energy=_hartree(found[1]))
    return Comment(text)


def other_length(text: str) -> str | None:
    """Return where prose seems to state a unit of length that is not the Å of XYZ files."""
    found = _IN_PROSE.search(text)
    return None if found is None else found[0]


def is_of_lammps(text: str) -> bool:
    """Return whether a comment is that of LAMMPS, whose labels may be types, not elements."""
    return text.startswith("Atoms. Timestep:")


def step_of_cp2k(text: str) -> tuple[int, float | None, float] | None:
    """Return step, time in fs and energy in eV of a comment of CP2K, None if it is another's.

    A geometry optimisation has no times.
    """
    found = _CP2K.search(text)
    if found is None:
        return None
    time = None if found[2] is None else float(found[2])
    return int(found[1]), time, _hartree(found[3])


def _hartree(text: str) -> float:
    return float(text) * unit_factor("hartree", "energy")


def _of_ipi(text: str, kind: str, numbers: str) -> Comment:
    """Read i-PI's comment (i-PI manual, "xyz"), whose units stand in braces."""
    units = dict(_IN_BRACES.findall(text[text.index(":") :]))  # CELL{H}: states none
    cell_unit = units.pop("cell", None)
    if len(units) != 1 or cell_unit is None:
        raise ValueError("its comment, as of i-PI, should state the units of positions and cell")
    ((what, unit),) = units.items()
    if not (what == "positions" or what.startswith("x_")):
        raise ValueError(f"it holds {what} of i-PI, not positions")
    values = np.array(numbers.split(), dtype=np.float64)
    if len(values) != (6 if kind == "abcABC" else 9):
        raise ValueError(f"its comment, as of i-PI, has a cell of {len(values)} numbers")
    factor = unit_factor(cell_unit, "length")
    if kind == "abcABC":
        values[:3] *= factor
        cell = vectors_of(values)
    else:  # i-PI's vectors are columns
        cell = factor * values.reshape(3, 3).T
    return Comment(length=unit_factor(unit, "length"), cell=cell)


def _of_orca(text: str, what: str, time: float) -> Comment:
    """Read the comment of ORCA's molecular dynamics module."""
    if what != "Position":
        raise ValueError(f"it holds what ORCA calls {what}, not positions")
    unit, energy = _ORCA_UNIT.search(text), _ORCA_ENERGY.search(text)
    return Comment(
        length=unit_factor(unit[1], "length") if unit else 1.0,
        time=time,
        energy=float(energy[1]) * unit_factor(energy[2], "energy") if energy else None,
    )
