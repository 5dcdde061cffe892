"""Units used inside the package, and the conversions at its borders.

Inside: Å, fs, eV, amu, K; velocities in Å/fs. ASE's own unit of time is Å·sqrt(amu/eV), about
10.18 fs; OpenMM and mdtraj use nm and ps. Every conversion in the package goes through this
module. The constants are ASE's, so that energies and temperatures agree with ASE's to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from ase import units as _ase

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Scalable = TypeVar("Scalable", "float", "np.ndarray", "Tensor")

FS: float = float(_ase.fs)
"""One femtosecond in ASE's unit of time."""

KB: float = float(_ase.kB)
"""Boltzmann's constant in eV/K."""

AMU_A2_FS2_IN_EV: float = 1.0 / FS**2
"""The energy 1 amu Å²/fs² in eV (about 103.64)."""

NM: float = 10.0
"""One nanometre in Å."""

PS: float = 1000.0
"""One picosecond in fs."""

NM_PS: float = NM / PS
"""One nm/ps, OpenMM's unit of velocity, in Å/fs."""

KJ_MOL: float = float(_ase.kJ / _ase.mol)
"""One kJ/mol in eV."""


def velocities_from_ase(velocities: Scalable) -> Scalable:
    """Convert velocities from ASE's unit to Å/fs."""
    return velocities * FS


def velocities_to_ase(velocities: Scalable) -> Scalable:
    """Convert velocities from Å/fs to ASE's unit."""
    return velocities / FS


def nm_to_angstrom(lengths: Scalable) -> Scalable:
    """Convert lengths from nm to Å."""
    return lengths * NM


def angstrom_to_nm(lengths: Scalable) -> Scalable:
    """Convert lengths from Å to nm."""
    return lengths / NM


def ps_to_fs(times: Scalable) -> Scalable:
    """Convert times from ps to fs."""
    return times * PS


def fs_to_ps(times: Scalable) -> Scalable:
    """Convert times from fs to ps."""
    return times / PS


def thermal_speed(masses: Scalable, temperature: float) -> Scalable:
    """Return the standard deviation of one velocity component at a temperature.

    Parameters
    ----------
    masses
        Masses in amu.
    temperature
        Temperature in K.

    Returns
    -------
    sqrt(k_B T / m) in Å/fs, of the masses' shape; infinite where a mass is zero.
    """
    speed: Scalable = (KB * temperature / AMU_A2_FS2_IN_EV / masses) ** 0.5
    return speed


def parse_time(text: str) -> float:
    """Read a time such as ``10ps``, ``16 fs``, ``0.5ns`` or ``16`` (fs) and return it in fs.

    Raises
    ------
    ValueError
        If the text is no finite number followed by one of the units fs, ps, ns, us or none.
    """
    text = text.strip()
    scales = {"fs": 1.0, "ps": PS, "ns": 1e3 * PS, "us": 1e6 * PS}
    scale = 1.0
    for unit, factor in scales.items():
        if text.endswith(unit):
            text, scale = text[: -len(unit)], factor
            break
    try:
        value = float(text) * scale
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise ValueError("a number followed by fs, ps, ns or us, such as 10ps or 16fs")
    return value


def format_time(femtoseconds: float) -> str:
    """Write a time in the largest unit that keeps it at or above one: ``16 fs``, ``10 ps``."""
    for unit, factor in (("us", 1e6 * PS), ("ns", 1e3 * PS), ("ps", PS)):
        if abs(femtoseconds) >= factor:
            return f"{femtoseconds / factor:.6g} {unit}"
    return f"{femtoseconds:.6g} fs"


def format_charge(charges: int | Iterable[int]) -> str:
    """Return charges as text: ``0``, ``+1`` or ``-1, 0, +1``."""
    if isinstance(charges, int):
        return f"{charges:+d}" if charges else "0"
    return ", ".join(format_charge(charge) for charge in charges)
