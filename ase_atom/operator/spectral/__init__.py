"""The spectral architecture: exactly equivariant, with paths as sums over learned frequencies."""

from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.spectral.model import SpectralOperator

__all__ = ["SpectralConfig", "SpectralOperator"]
