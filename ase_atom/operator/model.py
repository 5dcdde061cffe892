"""The operator: lift, trunk, decode, behind one interface that every architecture shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ase_atom.errors import CoverageError, HorizonError
from ase_atom.operator.config import OperatorConfig
from ase_atom.operator.lifting import Features, Lift, thermal_speeds
from ase_atom.operator.temporal import SpectralDecoder
from ase_atom.operator.trunk import Trunk
from ase_atom.state import PhaseState

if TYPE_CHECKING:
    from ase_atom.operator.card import OperatorCard


class Operator(nn.Module):
    """Φ_t: (x₀, v₀, Z) ↦ (x(t), v(t)) for every t from 0 to the horizon, and a potential energy.

    The centre of mass is taken out before the lift and put back after the decode, where it moves
    as x + V t exactly, so the map is Galilean invariant. A horizon longer than one segment is
    covered by chained segments with the same weights, all inside one call.

    Attributes
    ----------
    config
        Architecture, see `OperatorConfig`.
    card
        What the operator was trained for; None on one that has never been trained.
    equivariant
        True: rotations commute with the map exactly, so training needs no random rotations.
    """

    equivariant = True

    def __init__(self, config: OperatorConfig) -> None:
        super().__init__()
        self.config = config
        self.card: OperatorCard | None = None
        self.lift = Lift(config)
        self.trunk = Trunk(config)
        self.decoder = SpectralDecoder(config)
        self.energy_atoms = nn.Sequential(
            nn.RMSNorm(config.width),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, 1),
        )
        self.energy_pairs = nn.Linear(config.pair_width, 1, bias=False)
        # Total energies are thousands of eV: the offsets stay in float64, outside the network.
        largest = max(config.elements)
        lookup = torch.zeros(largest + 1, dtype=torch.long)
        for index, number in enumerate(config.elements):
            lookup[number] = index + 1
        self.register_buffer("species_of", lookup, persistent=False)
        self.register_buffer("energy_scale", torch.tensor(1.0))
        self.register_buffer("energy_offsets", torch.zeros(largest + 1, dtype=torch.float64))

    @property
    def horizon(self) -> float:
        """Longest time that one call may ask for, fs."""
        return self.config.horizon

    def set_energy_scale(self, offsets: Mapping[int, float], scale: float) -> None:
        """Fix the affine map from the head's output to eV.

        Parameters
        ----------
        offsets
            Energy per atom of each element, eV, by atomic number.
        scale
            Energy that an output of one stands for, eV.
        """
        for number, offset in offsets.items():
            self.energy_offsets[number] = offset
        self.energy_scale.fill_(scale)

    def forward(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the state at ``times``.

        Parameters
        ----------
        state
            ``B`` molecules of up to ``N`` atoms.
        times
            Instants in fs after the state, ``[T]``, each from 0 to the horizon.

        Returns
        -------
        positions, velocities
            Å and Å/fs, each ``[B, T, N, 3]``, in the state's precision.

        Raises
        ------
        HorizonError
            For a time below 0 or beyond the horizon.
        CoverageError
            For an element that the operator does not know.
        """
        times = torch.as_tensor(times, dtype=torch.float64).reshape(-1)
        self._check_times(times)
        mask = state.mask.unsqueeze(-1).to(state.positions.dtype)
        centre, drift = state.center_of_mass()
        x = (state.positions - centre[:, None]) * mask
        v = (state.velocities - drift[:, None]) * mask
        species = self._species(state.numbers)
        # A time on a boundary belongs to the segment that ends there.
        length = self.config.segment
        index = torch.clamp(torch.ceil(times / length - 1e-9).long() - 1, min=0)
        pieces = int(index.max()) + 1 if len(times) else 0
        out_x = x.new_empty(x.shape[0], len(times), *x.shape[1:])
        out_v = torch.empty_like(out_x)
        for piece in range(pieces):
            here = torch.nonzero(index == piece).flatten()
            local = times[here] - piece * length
            asked = local if piece == pieces - 1 else torch.cat([local, local.new_tensor([length])])
            path_x, path_v = self.segment(species, state.masses, x, v, asked)
            out_x[:, here], out_v[:, here] = path_x[:, : len(here)], path_v[:, : len(here)]
            if piece < pieces - 1:
                x, v = path_x[:, -1], path_v[:, -1]
        moved = centre[:, None] + drift[:, None] * times.to(centre)[:, None]
        frame_mask = mask.unsqueeze(1)
        return (
            (out_x + moved.unsqueeze(2)) * frame_mask,
            (out_v + drift[:, None, None]) * frame_mask,
        )

    def segment(
        self, species: Tensor, masses: Tensor, x: Tensor, v: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One piece of the path, about a centre of mass at rest.

        Parameters
        ----------
        species
            Index into the elements, 0 for padding, ``[B, N]``.
        masses
            amu, ``[B, N]``.
        x, v
            Å and Å/fs, ``[B, N, 3]``; centre of mass at the origin and at rest.
        times
            fs from the piece's start, ``[T]``, from 0 to ``config.segment``.

        Returns
        -------
        positions, velocities
            Each ``[B, T, N, 3]`` in the precision of ``x``.
        """
        working = self.decoder.frequencies.dtype
        speeds = thermal_speeds(masses, self.config.temperature_scale).to(working)
        coefficients = self.path_coefficients(
            species, masses.to(working), x.to(working), v.to(working), speeds
        )
        basis_x, basis_v = self.decoder.basis(times.to(working))
        shift_x = torch.einsum("bnxk,kt->btnx", coefficients, basis_x).to(x.dtype)
        shift_v = torch.einsum("bnxk,kt->btnx", coefficients, basis_v).to(x.dtype)
        lag = times.to(x.dtype)[:, None, None]
        return x[:, None] + v[:, None] * lag + shift_x, v[:, None] + shift_v

    def path_coefficients(
        self, species: Tensor, masses: Tensor, x: Tensor, v: Tensor, speeds: Tensor
    ) -> Tensor:
        """Coefficient vectors of the decoder's basis in Å/fs, ``[B, N, 3, 2 K]``.

        Their mass-weighted mean is taken out, so that the centre of mass keeps its place.
        """
        features = self.trunk(self.lift(species, x, v, speeds))
        coefficients = self.decoder.coefficients(features) * speeds.unsqueeze(-1)
        weights = (masses / masses.sum(1, keepdim=True))[:, :, None, None]
        mean = (weights * coefficients).sum(1, keepdim=True)
        return (coefficients - mean) * features.atom_mask.unsqueeze(-1)

    def energy(self, state: PhaseState) -> Tensor:
        """Potential energy in eV, ``[B]``, float64. Velocities are ignored."""
        species = self._species(state.numbers)
        working = self.decoder.frequencies.dtype
        centre, _ = state.center_of_mass()
        x = (state.positions - centre[:, None]).to(working)
        output = self.energy_output(species, state.masses.to(working), x)
        offsets = self.energy_offsets[state.numbers].sum(1)
        return output.double() * self.energy_scale.double() + offsets

    def energy_output(self, species: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """The energy head's dimensionless output, ``[B]``, at zero velocity."""
        speeds = thermal_speeds(masses, self.config.temperature_scale)
        features = self.lift(species, x, torch.zeros_like(x), speeds)
        features = self.trunk(features, depth=self.config.energy_blocks)
        return self._energy_readout(features)

    def energy_and_forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Potential energy in eV, ``[B]``, and forces −∇E in eV/Å, ``[B, N, 3]``."""
        with torch.enable_grad():
            positions = state.positions.detach().requires_grad_(True)
            energy = self.energy(state.replace(positions=positions))
            (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return energy.detach(), -gradient

    def _energy_readout(self, features: Features) -> Tensor:
        atoms = self.energy_atoms(features.scalars) * features.atom_mask
        pairs = self.energy_pairs(features.pairs) * features.pair_mask
        return atoms.sum((1, 2)) + pairs.sum((1, 2, 3))

    def _species(self, numbers: Tensor) -> Tensor:
        known = self.species_of
        inside = numbers.clamp(max=len(known) - 1)
        species = known[inside]
        strange = (numbers > 0) & ((species == 0) | (numbers != inside))
        if bool(strange.any()):
            found = sorted(set(numbers[strange].tolist()))
            raise CoverageError(
                f"atomic numbers {found} are not among this operator's {self.config.elements}"
            )
        return species

    def _check_times(self, times: Tensor) -> None:
        if len(times) == 0:
            return
        low, high = float(times.min()), float(times.max())
        if not (math.isfinite(low) and math.isfinite(high)) or low < 0:
            raise HorizonError(f"times must be at least 0 fs, not {low:g}")
        if high > self.horizon * (1 + 1e-9):
            raise HorizonError(
                f"{high:g} fs lies beyond this operator's horizon of {self.horizon:g} fs"
            )


_ARCHITECTURES: dict[str, type[Operator]] = {"spectral": Operator}


def build_operator(config: OperatorConfig) -> Operator:
    """An untrained operator of the architecture that ``config`` names."""
    return _ARCHITECTURES[config.architecture](config)
