"""Paths at lags past a molecule's memory: bounded, and on the way to a place of rest."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.errors import ConfigError, CoverageError
from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.spectral import SpectralDecoder, SpectralOperator
from ase_atom.state import PhaseState
from training.benchmarks.long_lag.config import LongLagConfig
from training.benchmarks.long_lag.rest import AlignedRest, Alignment

_SMALLEST = 1e-4
"""Singular value, of the largest, below which functions are one over the given times."""


class LongLagDecoder(SpectralDecoder):
    """The spectral decoder on a carrier that ends.

    With a bounded carrier, c(t) = τ (1 − e^(−t/τ)) stands in both places of t. With a place to
    rest, one more coefficient vector d_i comes with τ g(t), g(t) = 1 − (1 + t/τ) e^(−t/τ), which
    like its derivative is zero at t = 0.
    """

    def __init__(self, config: LongLagConfig) -> None:
        # A path that comes to rest has most of the answer before it learns anything.
        rests = config.rest != "none"
        super().__init__(config, more=int(rests), start=0.01 if rests else 0.1)
        self.tau = config.carrier_time if config.carrier == "bounded" else None
        self.rests = rests

    def basis(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Basis functions and their derivatives at ``times`` (fs), each ``[2 K (+ 1), T]``.

        Divided by ω_k, or with a bounded carrier by √(ω_k² + 1/τ²), so that a coefficient of one
        means a velocity of one thermal speed.
        """
        omega = self.frequencies.to(times.dtype)[:, None]
        phase = omega * times
        cosine, sine = torch.cos(phase), torch.sin(phase)
        carried, speed = self.carrier(times)
        positions = [(cosine - 1) / omega, sine / omega - carried]
        velocities = [-sine, cosine - speed]
        if self.tau is not None:
            # Slow functions grow to 1/ω over long lags: let them start no larger than τ.
            size = omega / torch.sqrt(omega**2 + self.tau**-2)
            positions = [size * side for side in positions]
            velocities = [size * side for side in velocities]
        if self.rests:
            arrived, rate = self.arrival(times)
            positions.append(self.tau * arrived[None])
            velocities.append(self.tau * rate[None])
        return torch.cat(positions), torch.cat(velocities)

    def carrier(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """How far a unit velocity carries by ``times``, fs, and its derivative, each ``[T]``."""
        if self.tau is None:
            return times, torch.ones_like(times)
        left = torch.exp(-times / self.tau)
        return -self.tau * torch.expm1(-times / self.tau), left

    def arrival(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """g(t), from 0 at the start to 1, and its derivative in 1/fs, each ``[T]``."""
        passed = times / self.tau
        left = torch.exp(-passed)
        return 1 - (1 + passed) * left, passed * left / self.tau


class LongLagOperator(SpectralOperator):
    """A spectral operator whose paths are bounded and may come to rest on a mean path.

    Permutations of like atoms do not commute with ``rest: aligned``, whose structure tells like
    atoms apart.
    """

    config: LongLagConfig
    decoder: LongLagDecoder

    def __init__(self, config: LongLagConfig) -> None:
        super().__init__(config)
        self.rest = AlignedRest(config) if config.rest == "aligned" else None

    def make_decoder(self, config: LongLagConfig) -> LongLagDecoder:
        """The untrained decoder."""
        return LongLagDecoder(config)

    def set_rest(self, structures: Tensor, times: Tensor) -> None:
        """Say where the molecule of an aligned rest is on the mean, once it has forgotten.

        At time t the ballistic part has given way to this path s(t) to the share g(t), see
        `LongLagDecoder`: x + v c(t) becomes (1 − g) (x + v c) + g Q s, with Q from `best_rotation`
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
        alignment = self._alignment(species, masses, x)
        coefficients = self.path_coefficients(
            species, masses.to(working), x.to(working), v.to(working), speeds
        )
        if alignment is not None and self.rest.response is not None:
            answer = self.rest.answer(alignment, x, v).to(working)
            coefficients = coefficients + self.settled(answer, species, masses.to(working))
        shift_x, shift_v = self.shifts(coefficients, times)
        carried, speed = (side[:, None, None] for side in self.decoder.carrier(times.to(x.dtype)))
        path_x, path_v = x[:, None] + v[:, None] * carried, v[:, None] * speed
        if alignment is not None:
            place, pace = self.rest.path(alignment, times.to(x.dtype))
            arrived, rate = (s[:, None, None] for s in self.decoder.arrival(times.to(x.dtype)))
            path_v = path_v * (1 - arrived) + rate * (place - path_x) + arrived * pace
            path_x = path_x + arrived * (place - path_x)
        return path_x + shift_x.to(x), path_v + shift_v.to(x)

    def _alignment(self, species: Tensor, masses: Tensor, x: Tensor) -> Alignment | None:
        if self.rest is None:
            return None
        wanted = self.species_of[self.rest.numbers]
        if species.shape[1] != len(wanted) or not bool((species == wanted).all()):
            raise CoverageError(
                f"{self.name} rests on a structure of one molecule, atoms "
                f"{list(self.config.rest_numbers)} in this order, and was given another"
            )
        return self.rest.alignment(masses, x)

    def _frame(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        centre, drift = super()._frame(state)
        return centre, (torch.zeros_like(drift) if self.config.centre == "free" else drift)

    def settled(self, coefficients: Tensor, species: Tensor, masses: Tensor) -> Tensor:
        """As the spectral operator's, but a free centre of mass is left where the paths take it."""
        if self.config.centre == "free":
            return coefficients * (species > 0)[..., None, None].to(coefficients)
        return super().settled(coefficients, species, masses)
