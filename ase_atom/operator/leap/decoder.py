"""The leap decoder: draws a molecule's state after picoseconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ase_atom.errors import CoverageError
from ase_atom.operator.base import checksum
from ase_atom.operator.blueprint import blueprint
from ase_atom.operator.leap.card import LeapCard
from ase_atom.operator.leap.config import LeapConfig
from ase_atom.operator.leap.flow import Guess, centred, sampled
from ase_atom.operator.leap.network import LeapNetwork, conditions_of
from ase_atom.operator.leap.rigid import moved_centre, turned
from ase_atom.operator.torch_settings import own_torch
from ase_atom.sending import Sendable
from ase_atom.state import PhaseState
from ase_atom.superposition import superposing_rotations
from ase_atom.units import thermal_speed

Noise = Callable[[torch.Size], Tensor]
"""Source of standard normal numbers of a shape."""


class Source(NamedTuple):
    """What shapes are drawn from.

    Attributes
    ----------
    species, start, conditions
        As for `LeapNetwork`.
    noise, mask
        As for `ase_atom.operator.leap.flow.sampled`.
    """

    species: Tensor
    start: Tensor
    conditions: Tensor
    noise: Tensor
    mask: Tensor


class LeapDecoder(Sendable):
    """Draw from p(x(t + τ) | x(t), τ, T) of Langevin dynamics at the friction of its card.

    The shape is drawn by a network that learned it from trajectories (see
    `ase_atom.operator.leap.flow`), the centre of mass and the rotation as those of a rigid body
    (see `ase_atom.operator.leap.rigid`), and the velocities from the Maxwell-Boltzmann
    distribution: a lag is past their memory of 1/γ.

    Parameters
    ----------
    network
        Guesses structures.
    card
        What it learned.
    """

    def __init__(self, network: LeapNetwork, card: LeapCard) -> None:
        self.network, self.card = network.eval().requires_grad_(False), card
        elements = network.config.elements
        self._species_of = torch.zeros(max(elements) + 1, dtype=torch.long)
        for index, number in enumerate(elements):
            self._species_of[number] = index + 1

    def saved(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Facts and tensors from which `load` makes the decoder again."""
        facts = {"config": self.config.model_dump_json(), "card": self.card.model_dump_json()}
        weights = self.network.state_dict()
        return facts, {key: value.detach().contiguous() for key, value in weights.items()}

    @classmethod
    def load(cls, facts: Mapping[str, str], weights: Mapping[str, Tensor]) -> LeapDecoder | None:
        """Make a decoder from what `saved` returned, or None of nothing.

        Raises
        ------
        ValueError
            If facts and tensors do not fit each other or this version.
        """
        if not facts and not weights:
            return None
        config = LeapConfig.model_validate_json(facts["config"])
        card = LeapCard.model_validate_json(facts["card"])
        with blueprint():
            network = LeapNetwork(config)
        wanted = {key: value.shape for key, value in network.state_dict().items()}
        if wanted != {key: value.shape for key, value in weights.items()}:
            raise ValueError("its leaps are of other settings than they say")
        with torch.random.fork_rng(devices=[]):
            network = LeapNetwork(config)
        network.load_state_dict(weights)
        return cls(network, card)

    def to(self, device: str | torch.device) -> LeapDecoder:
        """Move the network to a device; states may be elsewhere."""
        self.network.to(device)
        return self

    @property
    def config(self) -> LeapConfig:
        """Hyper-parameters of the network."""
        return self.network.config

    @property
    def fingerprint(self) -> str:
        """SHA-256 of network and card's physics: what tells one decoder from another."""
        facts = self.card.model_dump(mode="json", include=_PHYSICS, exclude_none=True)
        config = self.config.model_dump(mode="json")
        text = json.dumps({"config": config, "card": facts}, sort_keys=True)
        return checksum(self.network.state_dict(), {"leaps": text})

    def __call__(
        self, state: PhaseState, lag: float, temperature: float, noise: Noise
    ) -> PhaseState:
        """Draw one later state for each molecule.

        Parameters
        ----------
        state
            ``B`` molecules of up to ``N`` atoms.
        lag
            fs.
        temperature
            K.
        noise
            Source of standard normal numbers.

        Raises
        ------
        ConfigError
            For a lag or a temperature outside those that it learned.
        CoverageError
            For an element that it does not know.
        """
        self.card.check(lag, temperature)
        return self.draw(state, lag, temperature, noise)

    @own_torch()
    @torch.no_grad()
    def draw(self, state: PhaseState, lag: float, temperature: float, noise: Noise) -> PhaseState:
        """Draw as a call does, also at the lags somewhat below the card's that settling leaves."""
        friction = self.card.friction
        shape = self.shapes(state, lag, temperature, noise)
        rotation = turned(state, lag, temperature, friction, noise).to(shape)
        centre = moved_centre(state, lag, temperature, friction, noise)
        mask = state.mask.unsqueeze(-1)
        speeds = thermal_speed(state.masses.masked_fill(~state.mask, 1.0), temperature)
        velocities = speeds.unsqueeze(-1) * noise(state.velocities.shape).to(state.velocities)
        return state.replace(
            positions=(shape @ rotation.transpose(1, 2) + centre[:, None]) * mask,
            velocities=velocities * mask,
        )

    def shapes(self, state: PhaseState, lag: float, temperature: float, noise: Noise) -> Tensor:
        """Draw positions about the centre of mass, laid on those of the state, ``[B, N, 3]``."""
        x = state.positions
        weight = next(self.network.parameters())
        species = self.species(state).to(weight.device)
        mask = (species > 0).unsqueeze(-1).to(weight)
        start = centred((x - state.center_of_mass()[0][:, None]).to(weight), mask)
        first = start + self.config.spread * noise(x.shape).to(weight)
        count = len(x)
        conditions = conditions_of(
            weight.new_full((count,), lag), weight.new_full((count,), temperature)
        )
        source = Source(species, start, conditions, first, mask)
        found = self.sample(source, self.card.passes).to(x)
        return _laid(state, found)

    def sample(self, source: Source, passes: int) -> Tensor:
        """Follow the flow from noise to x_1, ``[B, N, 3]``; see `sampled`."""
        guess = self.guess_of(source.species, source.start, source.conditions)
        return sampled(guess, source.noise, source.mask, passes)

    def guess_of(self, species: Tensor, start: Tensor, conditions: Tensor) -> Guess:
        """The network's guess for molecules; arguments as for `LeapNetwork`."""

        def guess(noisy: Tensor, level: Tensor) -> Tensor:
            guessed: Tensor = self.network(species, noisy, start, level, conditions)
            return guessed

        return guess

    def species(self, state: PhaseState) -> Tensor:
        """Index of each atom among the network's elements, 0 for padding, ``[B, N]``.

        Raises
        ------
        CoverageError
            For an element that it does not know.
        """
        known = self._species_of.to(state.device)
        inside = state.numbers.clamp(max=len(known) - 1)
        species = known[inside]
        strange = (state.numbers > 0) & ((species == 0) | (state.numbers != inside))
        if bool(strange.any()):
            found = sorted(set(state.numbers[strange].tolist()))
            raise CoverageError(
                f"atomic numbers {found} are not among those of these leaps, "
                f"{list(self.config.elements)}"
            )
        return species


_PHYSICS = {"friction", "passes", "settling_jumps", "settling_friction", "settling_fs"}


def _laid(state: PhaseState, x: Tensor) -> Tensor:
    """Positions about the centre of mass, turned onto those of a state."""
    weights = state.mass_fractions.to(x)
    x = (x - (weights * x).sum(1, keepdim=True)) * state.mask.unsqueeze(-1)
    before = state.about_center() * state.mask.unsqueeze(-1)
    weighted = (weights * before).double().cpu().numpy()
    rotations, _ = superposing_rotations(x.double().cpu().numpy(), weighted)
    return x @ torch.from_numpy(rotations).to(x)
