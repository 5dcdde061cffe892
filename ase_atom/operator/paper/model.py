"""The published operator: lift, transformer over (time, atom) tokens, projection to vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.operator.base import Operator
from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.frames import body_axes
from ase_atom.operator.paper.heads import OutputHeads
from ase_atom.operator.paper.layers import initialise
from ase_atom.operator.paper.lift import Lift, Lifted, return_probabilities
from ase_atom.operator.paper.times import plan_times
from ase_atom.operator.paper.tokens import Tokens
from ase_atom.operator.paper.trunk import Trunk
from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.spectral import SpectralOperator
from ase_atom.operator.trunk import EnergyHead
from ase_atom.state import PhaseState


class PaperOperator(Operator):
    """The published ATOM; docs/paper-architecture.md describes it and every switch."""

    config: PaperConfig

    def __init__(self, config: PaperConfig) -> None:
        super().__init__(config)
        self.equivariant = config.trunk == "equivariant"
        self.predicts_velocities = config.velocities
        self.has_energy = config.energy is not None
        self.stochastic = max(config.noise, config.attention_dropout, config.dropout) > 0
        self.register_buffer("number_of", torch.tensor([0, *config.elements]), persistent=False)
        self.lift = Lift(config)
        self.trunk = Trunk(config)
        self.heads = OutputHeads(config)
        initialise(self)
        if config.update == "path":
            # Next to no bend is a good first guess.
            with torch.no_grad():
                self.heads.maps.vectors.mul_(0.1)
        self.energy_head = None
        if config.energy is not None:
            self.energy_head = EnergyHead(config.elements, **config.energy.model_dump())

    def segment(
        self,
        species: Tensor,
        masses: Tensor,
        x: Tensor,
        v: Tensor,
        times: Tensor,
        graph: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One piece of the path; see `Operator.segment`."""
        config = self.config
        working = self.heads.maps.vectors.dtype
        real = species > 0
        plan = plan_times(times, config.segment, config.timesteps, config.anchor)
        tokens = Tokens(config, plan, real, working)
        unit = self._velocity_unit(masses)
        scaled = (v.unsqueeze(1) / unit).squeeze(1)
        axes = body_axes(x, masses) if config.frame == "body" else None
        inside = (x, scaled) if axes is None else (x @ axes, scaled @ axes)
        lifted = self._lifted(species, *inside, tokens, x if graph is None else graph)
        outputs = self.heads(self.trunk(lifted, tokens), lifted.phase, real)
        outputs = _turned_back(outputs[:, plan.read].to(x.dtype), axes)
        if config.update == "absolute":
            path = outputs[..., 0, :], outputs[..., -1, :] * unit
        elif config.update == "delta":
            x_in, v_in = (
                _turned_back(tokens.place(side)[:, plan.read].to(x.dtype), axes)
                for side in lifted.inputs
            )
            path = x_in + outputs[..., 0, :], (v_in + outputs[..., -1, :]) * unit
        else:
            speeds = thermal_speeds(masses, config.temperature_scale).unsqueeze(1)
            lag = times.to(x)[:, None, None]
            # At short lags the bend is that of an acceleration, t²/2 a and t a.
            onset = 1 - torch.exp(-lag * config.timesteps / config.segment)
            bend = (outputs * (onset * speeds).unsqueeze(-2)).unbind(-2)
            path = x[:, None] + lag * (v[:, None] + bend[0]), v[:, None] + bend[1]
        if config.frame != "laboratory":
            path = tuple(_about_centre(side, masses) for side in path)
        return path[0], path[1] if config.velocities else None

    def _velocity_unit(self, masses: Tensor) -> Tensor | float:
        """What velocities are divided by, Å/fs: a number, or one per atom, ``[B, 1, N, 1]``."""
        if self.config.frame_interval is not None:
            return 1 / self.config.frame_interval
        return thermal_speeds(masses, self.config.temperature_scale).unsqueeze(1)

    def _lifted(
        self, species: Tensor, x: Tensor, v: Tensor, tokens: Tokens, graph: Tensor
    ) -> Lifted:
        config = self.config
        working = self.heads.maps.vectors.dtype
        numbers = self.number_of[species].unsqueeze(-1)
        atoms = species.unsqueeze(-1) > 0
        extra = [numbers.to(working)]
        if config.walks:
            back = return_probabilities(graph, atoms[..., 0], config.walks, config.radius)
            extra.append(back.to(working))
        noise = config.noise if self.training else 0.0
        return self.lift(
            (x * atoms).to(working),
            (v * atoms).to(working),
            torch.cat(extra, dim=-1),
            noise,
            tokens.number,
        )

    def energy_output(self, species: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """The energy head's dimensionless output, ``[B]``; see `Operator.energy_output`."""
        if self.energy_head is None:
            return super().energy_output(species, masses, x)
        return self.energy_head(species, masses, x)

    def take_energy(self, other: Operator) -> None:
        """Take the energy head of a spectral operator: its weights, scale and offsets.

        So two operators share one potential energy surface, and differ in their paths alone.

        Raises
        ------
        ConfigError
            If this operator has no energy head, or one of another size, or the other's energies
            are a potential's.
        """
        if self.energy_head is None or not isinstance(other, SpectralOperator):
            raise ConfigError(
                f"{self.name} has no energy head to fill"
                if self.energy_head is None
                else f"{other.name} is no spectral operator: it has no energy head to take"
            )
        if other.potential is not None:
            raise ConfigError(f"{other.name} has its energies from a potential: no head gives them")
        theirs = other.state_dict()
        mine = self.energy_head.state_dict()
        wrong = [
            name
            for name, value in mine.items()
            if name not in theirs or theirs[name].shape != value.shape
        ]
        sizes = other.config.energy_blocks, self.config.energy.blocks
        if wrong or sizes[0] != sizes[1] or other.config.elements != self.config.elements:
            raise ConfigError(
                f"the energy head of {other.name} has other sizes: give operator.energy its width, "
                "pair_width, vector_channels, heads, pair_vectors, radial_channels and, as blocks, "
                "its energy_blocks, and operator.elements its elements"
            )
        self.energy_head.load_state_dict({name: theirs[name] for name in mine})
        self.energy_scale.copy_(other.energy_scale)
        self.energy_offsets.copy_(other.energy_offsets)

    def _frame(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        if self.config.frame != "laboratory":
            return super()._frame(state)
        nowhere = torch.zeros_like(state.positions[:, 0])
        return nowhere, nowhere


def _about_centre(vectors: Tensor, masses: Tensor) -> Tensor:
    weights = (masses / masses.sum(1, keepdim=True))[:, None, :, None]
    return vectors - (weights * vectors).sum(2, keepdim=True)


def _turned_back(vectors: Tensor, axes: Tensor | None) -> Tensor:
    """Vectors ``[B, ..., 3]`` from a molecule's own axes to the laboratory's."""
    if axes is None:
        return vectors
    rows = vectors.flatten(1, -2) @ axes.transpose(-1, -2)
    return rows.view(vectors.shape)
