"""The spectral architecture: exactly equivariant, with paths as sums over learned frequencies."""

from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.spectral.model import SpectralOperator
from ase_atom.operator.spectral.temporal import SpectralDecoder

__all__ = ["SpectralConfig", "SpectralDecoder", "SpectralOperator"]
