"""Units that files state in words, and their factors to the package's own."""

from __future__ import annotations

from ase import units

from ase_atom.units import FS, NM, PS

_HARTREE, _BOHR = float(units.Hartree), float(units.Bohr)
_ATOMIC_TIME = float(units._aut * units.s) / FS

_FACTORS = {
    "length": {
        "angstrom angstroms ang a å": 1.0,
        "nanometer nanometers nanometre nanometres nm": NM,
        "picometer picometers picometre picometres pm": 0.01,
        "bohr bohrs atomic_unit au a.u.": _BOHR,
        "meter meters metre metres m": 1e10,
    },
    "time": {
        "femtosecond femtoseconds fs": 1.0,
        "picosecond picoseconds ps": PS,
        "nanosecond nanoseconds ns": 1e3 * PS,
        "second seconds s": 1e15,
        "atomic_unit au a.u.": _ATOMIC_TIME,
    },
    "angle": {"degree degrees deg": 1.0, "radian radians rad": 57.29577951308232},
    "energy": {
        "electronvolt electronvolts ev": 1.0,
        "hartree hartrees eh ha atomic_unit au a.u.": _HARTREE,
        "rydberg ry": 0.5 * _HARTREE,
        "kilocalorie/mole kcal/mol": float(units.kcal / units.mol),
        "kilojoule/mole kj/mol kilojoules_per_mole": float(units.kJ / units.mol),
    },
}
_RATIOS = {"velocity": ("length", "time"), "force": ("energy", "length")}


def unit_factor(text: str, kind: str) -> float:
    """Return what numbers in a unit are multiplied by to be in Å, fs, degrees, eV, or their ratios.

    Parameters
    ----------
    text
        As files have it: ``nanometer``, ``kilocalorie/mole/angstrom``, ``atomic_unit``.
    kind
        ``length``, ``time``, ``angle``, ``energy``, ``velocity`` or ``force``.

    Raises
    ------
    ValueError
        If the unit is not known.
    """
    name = text.strip().lower()
    if kind in _RATIOS:
        above, below = _RATIOS[kind]
        over, _, under = name.rpartition("/")
        if name in ("atomic_unit", "au", "a.u."):
            over = under = name
        return unit_factor(over or text, above) / unit_factor(under, below)
    for names, factor in _FACTORS[kind].items():
        if name in names.split():
            return factor
    raise ValueError(f"the unit {text.strip()!r} is none of {kind} that is known")
