"""The spectral operator: lift, trunk, decode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_atom.errors import ConfigError, CoverageError
from ase_atom.operator.base import Operator
from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.spectral.energy import read_energy, readouts
from ase_atom.operator.spectral.lifting import Lift
from ase_atom.operator.spectral.rest import laid, orientation
from ase_atom.operator.spectral.temporal import SpectralDecoder
from ase_atom.operator.spectral.trunk import Trunk
from ase_atom.state import PhaseState


class SpectralOperator(Operator):
    """Equivariant messages, and paths as sums over learned frequencies.

    Rotations, reflections and permutations of like atoms commute with the map exactly (the last
    not with ``rest: aligned``, whose structure tells like atoms apart); paths start at the given
    state, and velocities are the derivatives of positions, exactly too.
    """

    config: SpectralConfig

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__(config)
        self.lift = Lift(config)
        self.trunk = Trunk(config)
        self.decoder = SpectralDecoder(config)
        self.energy_atoms, self.energy_pairs = readouts(config)
        if config.rest == "aligned":
            numbers = torch.tensor(config.rest_numbers)
            self.register_buffer("rest_numbers", numbers, persistent=False)
            self.rest = nn.Parameter(torch.zeros(len(config.rest_numbers), 3))

    def set_rest(self, structure: Tensor) -> None:
        """Say where the molecule of an aligned rest goes at long lags.

        At time t the ballistic part has given way to this structure to the share g(t), see
        `SpectralDecoder`: x + v c(t) becomes (1 − g) (x + v c) + g Q s, with Q from `orientation`.

        Parameters
        ----------
        structure
            Å, ``[N, 3]``, such as the mean of the training data's poses laid on each other. It is
            where training starts from; learned from there.

        Raises
        ------
        ConfigError
            If the operator has no aligned rest, or the structure is of another size.
        """
        if self.config.rest != "aligned" or structure.shape != self.rest.shape:
            wanted = list(self.rest.shape) if self.config.rest == "aligned" else "none"
            raise ConfigError(
                f"a structure of shape {list(structure.shape)} cannot be the rest of an operator "
                f"that takes {wanted}"
            )
        with torch.no_grad():
            self.rest.copy_(structure)

    def segment(
        self,
        species: Tensor,
        masses: Tensor,
        x: Tensor,
        v: Tensor,
        times: Tensor,
        graph: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One piece of the path; see `Operator.segment`. There is no graph: all pairs speak."""
        working = self.decoder.frequencies.dtype
        speeds = thermal_speeds(masses, self.config.temperature_scale).to(working)
        coefficients = self.path_coefficients(
            species, masses.to(working), x.to(working), v.to(working), speeds
        )
        basis_x, basis_v = self.decoder.basis(times.to(working))
        shift_x = torch.einsum("bnxk,kt->btnx", coefficients, basis_x).to(x.dtype)
        shift_v = torch.einsum("bnxk,kt->btnx", coefficients, basis_v).to(x.dtype)
        carried, speed = (side[:, None, None] for side in self.decoder.carrier(times.to(x.dtype)))
        path_x, path_v = x[:, None] + v[:, None] * carried, v[:, None] * speed
        if self.config.rest == "aligned":
            away = self._rest_of(species, masses, x)[:, None] - path_x
            arrived, rate = (s[:, None, None] for s in self.decoder.arrival(times.to(x.dtype)))
            path_x, path_v = path_x + arrived * away, path_v * (1 - arrived) + rate * away
        return path_x + shift_x, path_v + shift_v

    def _rest_of(self, species: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """The structure laid into each pose about its centre of mass, ``[B, N, 3]``."""
        wanted = self.species_of[self.rest_numbers]
        if species.shape[1] != len(wanted) or not bool((species == wanted).all()):
            raise CoverageError(
                f"{self.name} rests on a structure of one molecule, atoms "
                f"{list(self.config.rest_numbers)} in this order, and was given another"
            )
        weights = (masses / masses.sum(1, keepdim=True)).unsqueeze(-1).to(x)
        about = self.rest.to(x) - (weights[0] * self.rest.to(x)).sum(0)
        centre = (weights * x).sum(1, keepdim=True)
        return laid(about, orientation(about.detach(), x - centre, masses)) + centre

    def _frame(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        centre, drift = super()._frame(state)
        return centre, (torch.zeros_like(drift) if self.config.centre == "free" else drift)

    def path_coefficients(
        self, species: Tensor, masses: Tensor, x: Tensor, v: Tensor, speeds: Tensor
    ) -> Tensor:
        """Coefficient vectors of the decoder's basis in Å/fs, ``[B, N, 3, 2 K (+ 1)]``.

        Their mass-weighted mean is taken out, so that the centre of mass keeps its place, unless
        it is free.
        """
        features = self.trunk(self.lift(species, x, v, speeds))
        coefficients = self.decoder.coefficients(features) * speeds.unsqueeze(-1)
        if self.config.centre == "free":
            return coefficients * features.atom_mask.unsqueeze(-1)
        weights = (masses / masses.sum(1, keepdim=True))[:, :, None, None]
        mean = (weights * coefficients).sum(1, keepdim=True)
        return (coefficients - mean) * features.atom_mask.unsqueeze(-1)

    def energy_output(self, species: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """The energy head's dimensionless output, ``[B]``, at zero velocity."""
        speeds = thermal_speeds(masses, self.config.temperature_scale)
        features = self.lift(species, x, torch.zeros_like(x), speeds)
        features = self.trunk(features, depth=self.config.energy_blocks)
        return read_energy(features, self.energy_atoms, self.energy_pairs)
