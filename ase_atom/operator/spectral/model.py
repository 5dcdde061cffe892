"""The spectral operator: lift, trunk, decode."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.operator.base import Operator
from ase_atom.operator.engine.network import Network
from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.spectral.temporal import SpectralDecoder
from ase_atom.operator.trunk import Lift, Trunk, read_energy, readouts
from ase_atom.operator.trunk.lifting import limited, push_limits, push_scale


class SpectralOperator(Operator):
    """Equivariant messages, and paths as sums over learned frequencies.

    Rotations, reflections and permutations of like atoms commute with the map exactly; paths start
    at the given state, and velocities are the derivatives of positions, exactly too.
    """

    config: SpectralConfig

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__(config)
        self.lift = Lift(config, config.force_input)
        self.trunk = Trunk(config)
        self.decoder = self.make_decoder(config)
        self.energy_atoms, self.energy_pairs = readouts(config)

    def network(self) -> Network:
        """The operator as graphs; see `Operator.network`."""
        from ase_atom.operator.spectral.graph import SpectralNetwork

        return SpectralNetwork(self.config, self.state_dict(), self.lift, self.decoder)

    def make_decoder(self, config: SpectralConfig) -> SpectralDecoder:
        """The untrained decoder; a derived architecture may have another."""
        return SpectralDecoder(config)

    def segment(
        self,
        species: Tensor,
        masses: Tensor,
        x: Tensor,
        v: Tensor,
        times: Tensor,
        graph: Tensor | None = None,
        forces: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One piece of the path; see `Operator.segment`. There is no graph: all pairs speak.

        With ``force_input``, ``forces`` are those of the potential at ``x`` in eV/Å, where they are
        known already.
        """
        if self.config.force_input and forces is None:
            forces = self.forces_heard(species, x)
        working = self.decoder.frequencies.dtype
        speeds = thermal_speeds(masses, self.config.temperature_scale).to(working)
        coefficients = self.path_coefficients(
            species, masses.to(working), x.to(working), v.to(working), speeds, forces
        )
        shift_x, shift_v = self.shifts(coefficients, times)
        carried = times.to(x.dtype)[:, None, None]
        return x[:, None] + v[:, None] * carried + shift_x.to(x), v[:, None] + shift_v.to(x)

    def shifts(self, coefficients: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """What coefficients add to positions and velocities at times, each ``[B, T, N, 3]``."""
        basis_x, basis_v = self.decoder.basis(times.to(coefficients.dtype))
        return (
            torch.einsum("bnxk,kt->btnx", coefficients, basis_x),
            torch.einsum("bnxk,kt->btnx", coefficients, basis_v),
        )

    def path_coefficients(
        self,
        species: Tensor,
        masses: Tensor,
        x: Tensor,
        v: Tensor,
        speeds: Tensor,
        forces: Tensor | None = None,
    ) -> Tensor:
        """Coefficient vectors of the decoder's basis in Å/fs, ``[B, N, 3, 2 K]``.

        Their mass-weighted mean is taken out, so that the centre of mass keeps its place.
        """
        pushes = None
        if forces is not None:
            pushes = limited(forces.to(x) * push_scale(masses, speeds), push_limits(masses))
        features = self.trunk(self.lift(species, x, v, speeds, pushes))
        coefficients = self.decoder.coefficients(features) * speeds.unsqueeze(-1)
        return self.settled(coefficients, species, masses)

    def settled(self, coefficients: Tensor, species: Tensor, masses: Tensor) -> Tensor:
        """Coefficients that leave the centre of mass and padding where they are."""
        weights = (masses / masses.sum(1, keepdim=True))[:, :, None, None]
        mean = (weights * coefficients).sum(1, keepdim=True)
        return (coefficients - mean) * (species > 0)[..., None, None].to(coefficients)

    def energy_output(self, species: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """The energy head's dimensionless output, ``[B]``, at zero velocity."""
        speeds = thermal_speeds(masses, self.config.temperature_scale)
        features = self.lift(species, x, torch.zeros_like(x), speeds)
        features = self.trunk(features, depth=self.config.energy_blocks)
        return read_energy(features, self.energy_atoms, self.energy_pairs)
