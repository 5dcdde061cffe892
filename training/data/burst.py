"""What a piece of reference trajectory is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ase_atom.errors import DataError
from ase_atom.units import AMU_A2_FS2_IN_EV

ARRAYS = ("numbers", "masses", "positions", "velocities", "energies", "forces")
PATHS = ("positions", "velocities", "forces")
EXTRAS = ("atomic_charges", "force_spread")
"""Arrays that a burst has only if its engine computes them."""

SCALARS = ("smiles", "interval", "temperature_K", "seed")
SPREAD_EVERY = 10
"""Every so-manieth frame has a force spread."""


@dataclass
class Burst:
    """One continuous piece of reference trajectory of one molecule.

    Attributes
    ----------
    key
        ``<molecule>/<index>``, such as ``ethanol/00012``.
    smiles
        Canonical SMILES of the molecule.
    numbers, masses
        Atomic numbers ``[N]`` and masses ``[N]`` in amu.
    positions, velocities, forces
        ``[T, N, 3]`` in Å, Å/fs and eV/Å, in double or single precision.
    energies
        Potential energy ``[T]`` in eV.
    interval
        Time between frames in fs.
    temperature_K
        Temperature in K at which the start was thermalised.
    seed
        Seed of everything random in it.
    attrs
        Its origin: engine, version, theory, ensemble, time step and so on; numbers and strings.
    charge
        Total charge in e.
    atomic_charges
        ``[T, N]`` in e, or None.
    force_spread
        The engine's own uncertainty of the force on each atom at every `SPREAD_EVERY`-th frame
        from the first, ``[ceil(T / SPREAD_EVERY), N]`` in eV/Å, or None; see
        `training.engines.potential.Potential`.
    """

    key: str
    smiles: str
    numbers: np.ndarray
    masses: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    interval: float
    temperature_K: float
    seed: int
    attrs: dict[str, Any] = field(default_factory=dict)
    charge: int = 0
    atomic_charges: np.ndarray | None = None
    force_spread: np.ndarray | None = None

    @property
    def molecule(self) -> str:
        """Name of the molecule, the key's first half."""
        return self.key.split("/")[0]

    @property
    def times(self) -> np.ndarray:
        """Times of the frames ``[T]`` in fs from the burst's start."""
        return self.interval * np.arange(len(self.energies))

    def kinetic_energies(self) -> np.ndarray:
        """Return the kinetic energy of each frame ``[T]`` in eV."""
        squares = (self.velocities**2).sum(-1)
        return 0.5 * AMU_A2_FS2_IN_EV * (squares * self.masses).sum(-1)

    def total_energies(self) -> np.ndarray:
        """Return potential plus kinetic energy of each frame ``[T]`` in eV."""
        return self.energies + self.kinetic_energies()

    def cut(self, first: int, last: int, *, key: str | None = None, **attrs: Any) -> Burst:
        """Return the frames from one up to another, with what else is computed of them.

        Parameters
        ----------
        first, last
            Frames, as in a slice.
        key
            Of the piece; by default that of the whole.
        **attrs
            More to say of its origin.
        """
        kept = {name: getattr(self, name)[first:last] for name in (*PATHS, "energies")}
        if self.atomic_charges is not None:
            kept["atomic_charges"] = self.atomic_charges[first:last]
        if self.force_spread is not None:
            # Of every so-manieth frame of the whole: of the piece only if it begins at one.
            places = slice(first // SPREAD_EVERY, -(-last // SPREAD_EVERY))
            kept["force_spread"] = None if first % SPREAD_EVERY else self.force_spread[places]
        return replace(self, key=key or self.key, attrs=self.attrs | attrs, **kept)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that it has, by name, in the types in which they are stored."""
        names = [*ARRAYS, *(name for name in EXTRAS if getattr(self, name) is not None)]
        return {name: plain(name, getattr(self, name)) for name in names}

    def checksum(self) -> str:
        """Return the SHA-256 over the key, every array and every attribute."""
        digest = hashlib.sha256(self.key.encode())
        for name, array in self.arrays().items():
            digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
            digest.update(array.tobytes())
        digest.update(json.dumps(self.attributes(), sort_keys=True).encode())
        return digest.hexdigest()

    def check(self) -> None:
        """Check that shapes fit together and every number is finite.

        Raises
        ------
        DataError
            Naming the burst and the array at fault.
        """
        frames, atoms = len(self.energies), len(self.numbers)
        wanted = {"masses": (atoms,), "energies": (frames,)}
        wanted |= dict.fromkeys(PATHS, (frames, atoms, 3))
        extras = ((frames, atoms), (-(-frames // SPREAD_EVERY), atoms))
        wanted |= {
            name: shape
            for name, shape in zip(EXTRAS, extras, strict=True)
            if getattr(self, name) is not None
        }
        for name, shape in wanted.items():
            array = np.asarray(getattr(self, name))
            if array.shape != shape:
                raise DataError(f"{self.key}: {name} has shape {array.shape}, not {shape}")
            if not np.isfinite(array).all():
                raise DataError(f"{self.key}: {name} holds a value that is not finite")

    def attributes(self) -> dict[str, Any]:
        """Return all that is not an array, by name, as plain numbers and strings."""
        own = {
            "smiles": str(self.smiles),
            "interval": float(self.interval),
            "temperature_K": float(self.temperature_K),
            "seed": int(self.seed),
        }
        if self.charge:  # files from before there were ions say nothing of it
            own["charge"] = int(self.charge)
        return own | {name: plain_scalar(value) for name, value in self.attrs.items()}


def plain(name: str, array: np.ndarray) -> np.ndarray:
    """Return one of the `ARRAYS` or `EXTRAS` in the type in which it is stored.

    Positions, velocities, forces and extras in single precision stay so: 6e-7 Å in a coordinate of
    10 Å.
    Energies are always in double, of which a total one of -1000 eV leaves 1e-13 eV.
    """
    if name == "numbers":
        kind = "<i8"
    elif name in (*PATHS, *EXTRAS) and np.asarray(array).dtype == np.float32:
        kind = "<f4"
    else:
        kind = "<f8"
    return np.ascontiguousarray(array, dtype=kind)


def plain_scalar(value: Any) -> Any:
    """Return a number or string without numpy's type around it."""
    return value.item() if isinstance(value, np.generic) else value
