"""Atomic charges of a structure, and the dipole that follows, beside an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.torch_settings import own_torch
from ase_atom.operator.trunk import Lift, Trunk, TrunkConfig
from ase_atom.sending import Sendable
from ase_atom.state import PhaseState

if TYPE_CHECKING:
    from ase_atom.operator.base import Operator

_NEAR = (2.0, 4.0)
"""Å. Charge passes freely between atoms closer than the first, and not beyond the second."""

_HIDDEN = 64


class ChargesCard(BaseModel):
    """What learned atomic charges say of themselves.

    Attributes
    ----------
    reference
        Where the charges come from that they learned.
    compounds
        How many molecules they learned from.
    training_command, training_config
        What made them, and its settings as plain data.
    data_fingerprint
        SHA-256 over the reference data.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    reference: str
    compounds: int
    training_command: str
    training_config: dict[str, Any] = {}
    data_fingerprint: str


class ChargesNetwork(nn.Module):
    """Charges that add up to the molecule's, from a structure.

    A lift and blocks as those of an operator's energy head give invariant features of atoms and
    pairs. Each pair of near atoms passes charge from one to the other, each atom takes a share from
    all, and the total charge is divided among the atoms.

    Parameters
    ----------
    config
        Of the operator; ``energy_blocks`` blocks are used.
    """

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.temperature_scale = config.temperature_scale
        self.lift = Lift(config)
        self.trunk = Trunk(config.model_copy(update={"blocks": config.energy_blocks}))
        self.pairs = _readout(config.pair_width, 1)
        self.atoms = _readout(config.width, 2)

    def forward(self, species: Tensor, masses: Tensor, x: Tensor, charge: Tensor) -> Tensor:
        """Charges of atoms in e, ``[B, N]``; zero on padding.

        Parameters
        ----------
        species
            Index of element and charge, 0 for padding, ``[B, N]``; see `Operator.index`.
        masses
            amu, ``[B, N]``.
        x
            Å, ``[B, N, 3]``.
        charge
            Total charges, e, ``[B]``.
        """
        speeds = thermal_speeds(masses, self.temperature_scale)
        features = self.trunk(self.lift(species, x, torch.zeros_like(x), speeds))
        # Twice the same atom is no pair, and its distance has no gradient.
        apart = (
            (x[:, :, None] - x[:, None, :]).square().sum(-1, keepdim=True).clamp(min=1e-6).sqrt()
        )
        first, last = _NEAR
        far = ((apart - first) / (last - first)).clamp(0, 1)
        near = (0.5 + 0.5 * torch.cos(torch.pi * far)) * features.pair_mask
        passed = self.pairs(features.pairs) * near
        passed = (passed - passed.transpose(1, 2)).sum(2).squeeze(-1)
        there = features.atom_mask.squeeze(-1)
        share, seat = self.atoms(features.scalars).unbind(-1)
        share = share * there
        mean = share.sum(1, keepdim=True) / there.sum(1, keepdim=True)
        seats = torch.softmax(seat.masked_fill(there == 0, -torch.inf), dim=1)
        found: Tensor = (passed + share - mean) * there + charge[:, None] * seats
        return found


class AtomicCharges(Sendable):
    """Atomic charges by an operator.

    Parameters
    ----------
    operator
        Knows elements and charges.
    network
        Finds the charges.
    card
        What it learned.
    """

    def __init__(self, operator: Operator, network: ChargesNetwork, card: ChargesCard) -> None:
        self.operator, self.card = operator, card
        self.network = network.eval().requires_grad_(False)

    @own_torch()
    @torch.no_grad()
    def __call__(self, state: PhaseState) -> Tensor:
        """Charges of atoms in e, ``[B, N]``, which add up to the molecule's; zero on padding.

        Raises
        ------
        CoverageError
            For an element or a total charge that the operator does not know.
        """
        weight = next(self.network.parameters())
        here = state if state.device == weight.device else state.to(weight.device)
        found: Tensor = self.network(*inputs_of(self.operator, here, weight.dtype))
        return found.to(state.positions)

    def dipole(self, state: PhaseState) -> Tensor:
        """Dipole of the charges about the centre of mass in e Å, ``[B, 3]``.

        Raises
        ------
        CoverageError
            As for the charges.
        """
        return dipole_of(self(state), state)

    def saved(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Facts and tensors from which `load` makes them again."""
        weights = self.network.state_dict()
        tensors = {key: value.detach().contiguous() for key, value in weights.items()}
        return {"card": self.card.model_dump_json()}, tensors

    @classmethod
    def load(
        cls, operator: Operator, facts: Mapping[str, str], weights: Mapping[str, Tensor]
    ) -> AtomicCharges | None:
        """Make them from what `saved` returned, or None of nothing.

        Raises
        ------
        ValueError
            If they do not fit the operator or this version.
        """
        if not facts and not weights:
            return None
        card = ChargesCard.model_validate_json(facts["card"])
        if not isinstance(operator.config, TrunkConfig):
            raise ValueError("its architecture has no trunk, and atomic charges need one")
        with torch.random.fork_rng(devices=[]):
            network = ChargesNetwork(operator.config)
        wanted = {key: value.shape for key, value in network.state_dict().items()}
        if wanted != {key: value.shape for key, value in weights.items()}:
            raise ValueError("its atomic charges are of another network than this version's")
        network.load_state_dict(weights)
        return cls(operator, network, card)

    def to(self, device: str | torch.device) -> AtomicCharges:
        """Move the network to a device; states may be elsewhere."""
        self.network.to(device)
        return self


class PotentialCharges(Sendable):
    """Atomic charges of an operator's potential, as `ase_atom.operator.protocol.Charges`.

    Parameters
    ----------
    operator
        With a potential; it knows elements and charges.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator = operator

    def __call__(self, state: PhaseState) -> Tensor:
        """Charges of atoms in e, ``[B, N]``, which add up to the molecule's; zero on padding.

        Raises
        ------
        CoverageError
            For an element or a total charge that the operator does not know.
        """
        self.operator.species(state)
        assert self.operator.potential is not None
        return self.operator.potential.charges(state)

    def dipole(self, state: PhaseState) -> Tensor:
        """Dipole of the charges about the centre of mass in e Å, ``[B, 3]``; errors as above."""
        return dipole_of(self(state), state)


def dipole_of(charges: Tensor, state: PhaseState) -> Tensor:
    """Dipole of charges ``[B, N]`` in e about the centre of mass, e Å, ``[B, 3]``."""
    about = state.about_center() * state.mask.unsqueeze(-1)
    return (charges.unsqueeze(-1) * about).sum(1)


def inputs_of(
    operator: Operator, state: PhaseState, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a `ChargesNetwork` takes of structures.

    Raises
    ------
    CoverageError
        For an element or a total charge that the operator does not know.
    """
    about = state.about_center() * state.mask.unsqueeze(-1)
    species = operator.species(state)
    return species, state.masses.to(dtype), about.to(dtype), state.charge.to(dtype)


def _readout(width: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(_HIDDEN, outputs)
    with torch.no_grad():  # small charges at first: each atom adds up those from all pairs
        last.weight.mul_(0.1)
    return nn.Sequential(nn.RMSNorm(width), nn.Linear(width, _HIDDEN), nn.SiLU(), last)
