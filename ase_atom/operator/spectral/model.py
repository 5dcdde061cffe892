"""The spectral operator: lift, trunk, decode."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.errors import ConfigError, CoverageError
from ase_atom.operator.base import Operator
from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.spectral.energy import read_energy, readouts
from ase_atom.operator.spectral.lifting import Lift
from ase_atom.operator.spectral.rest import AlignedRest, Pose
from ase_atom.operator.spectral.temporal import SpectralDecoder
from ase_atom.operator.spectral.trunk import Trunk
from ase_atom.state import PhaseState

_SMALLEST = 1e-4
"""Singular value, of the largest, below which functions are one over the given times."""


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
        self.rest = AlignedRest(config) if config.rest == "aligned" else None

    def set_rest(self, structures: Tensor, times: Tensor) -> None:
        """Say where the molecule of an aligned rest is on the mean, once it has forgotten.

        At time t the ballistic part has given way to this path s(t) to the share g(t), see
        `SpectralDecoder`: x + v c(t) becomes (1 − g) (x + v c) + g Q s, with Q from `orientation`
        of the path's start.

        Parameters
        ----------
        structures
            Mean positions in the frame of the start, Å, ``[T, N, 3]``: training starts from the
            terms that fit them best.
        times
            Of the structures, fs, ``[T]``.

        Raises
        ------
        ConfigError
            If the operator has no aligned rest, or the structures are of another size.
        """
        if self.rest is None or structures.shape[1:] != self.rest.structures.shape[1:]:
            wanted = "none" if self.rest is None else self.rest.structures.shape[1]
            raise ConfigError(
                f"structures of {structures.shape[1]} atoms cannot be the rest of an operator that "
                f"takes {wanted}"
            )
        weights = self.rest.weights(times.double())[0].T
        # Ridge enough for fewer times than terms, too little to show otherwise.
        square = weights.T @ weights + 1e-9 * torch.eye(weights.shape[1], dtype=torch.float64)
        found = torch.linalg.solve(square, weights.T @ structures.double().flatten(1))
        with torch.no_grad():
            self.rest.structures.copy_(found.view(self.rest.structures.shape))

    def set_response(self, slopes: Tensor, times: Tensor) -> None:
        """Say how the molecule of an aligned rest answers to displacements and velocities.

        Parameters
        ----------
        slopes
            Of displacements in Å at some times, beside those of the rest of the operator, to what
            `AlignedRest.seen` gives at the start, ``[T, 6 N, 3 N]``: training starts from the
            smallest coefficients that make them.
        times
            Of the displacements, fs, ``[T]``.

        Raises
        ------
        ConfigError
            If the operator has no response, or the slopes are of another size.
        """
        response = None if self.rest is None else self.rest.response
        if response is None or slopes.shape[1:] != response.shape[:2]:
            wanted = "none" if response is None else "{} to {}".format(*response.shape[:2])
            raise ConfigError(
                f"slopes from {slopes.shape[1]} to {slopes.shape[2]} numbers cannot be the "
                f"response of an operator that takes {wanted}"
            )
        with torch.no_grad():
            basis, _ = self.decoder.basis(times.double())
            inverse = torch.linalg.pinv(basis, rtol=_SMALLEST)
            response.copy_(torch.einsum("tde,tk->dek", slopes.double(), inverse))

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
        pose = self._pose(species, masses, x)
        coefficients = self.path_coefficients(
            species, masses.to(working), x.to(working), v.to(working), speeds
        )
        if pose is not None and self.rest.response is not None:
            answer = self.rest.answer(pose, x, v).to(working)
            coefficients = coefficients + self._settled(answer, species, masses.to(working))
        basis_x, basis_v = self.decoder.basis(times.to(working))
        shift_x = torch.einsum("bnxk,kt->btnx", coefficients, basis_x).to(x.dtype)
        shift_v = torch.einsum("bnxk,kt->btnx", coefficients, basis_v).to(x.dtype)
        carried, speed = (side[:, None, None] for side in self.decoder.carrier(times.to(x.dtype)))
        path_x, path_v = x[:, None] + v[:, None] * carried, v[:, None] * speed
        if pose is not None:
            place, pace = self.rest.path(pose, times.to(x.dtype))
            arrived, rate = (s[:, None, None] for s in self.decoder.arrival(times.to(x.dtype)))
            path_v = path_v * (1 - arrived) + rate * (place - path_x) + arrived * pace
            path_x = path_x + arrived * (place - path_x)
        return path_x + shift_x, path_v + shift_v

    def _pose(self, species: Tensor, masses: Tensor, x: Tensor) -> Pose | None:
        if self.rest is None:
            return None
        wanted = self.species_of[self.rest.numbers]
        if species.shape[1] != len(wanted) or not bool((species == wanted).all()):
            raise CoverageError(
                f"{self.name} rests on a structure of one molecule, atoms "
                f"{list(self.config.rest_numbers)} in this order, and was given another"
            )
        return self.rest.pose(masses, x)

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
        return self._settled(coefficients, species, masses)

    def _settled(self, coefficients: Tensor, species: Tensor, masses: Tensor) -> Tensor:
        """Coefficients that leave the centre of mass and padding where they are."""
        real = (species > 0)[..., None, None].to(coefficients)
        if self.config.centre == "free":
            return coefficients * real
        weights = (masses / masses.sum(1, keepdim=True))[:, :, None, None]
        mean = (weights * coefficients).sum(1, keepdim=True)
        return (coefficients - mean) * real

    def energy_output(self, species: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """The energy head's dimensionless output, ``[B]``, at zero velocity."""
        speeds = thermal_speeds(masses, self.config.temperature_scale)
        features = self.lift(species, x, torch.zeros_like(x), speeds)
        features = self.trunk(features, depth=self.config.energy_blocks)
        return read_energy(features, self.energy_atoms, self.energy_pairs)
