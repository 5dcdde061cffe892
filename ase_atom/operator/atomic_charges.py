"""Atomic charges of a structure, and the dipole that follows, from an operator's own features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ase_atom.operator.torch_settings import own_torch
from ase_atom.operator.trunk import Features, TrunkConfig
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
    """Charges that add up to the molecule's, from invariant features of atoms and pairs.

    Each pair of near atoms passes charge from one to the other, each atom takes a share from all,
    and the total charge is divided among the atoms.

    Parameters
    ----------
    config
        Sizes of the features.
    """

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.pairs = _readout(config.pair_width, 1)
        self.atoms = _readout(config.width, 2)

    def forward(self, features: Features, distances: Tensor, charge: Tensor) -> Tensor:
        """Charges of atoms.

        Parameters
        ----------
        features
            Of structures at rest.
        distances
            Å, ``[B, N, N, 1]``.
        charge
            Total charges, e, ``[B]``.

        Returns
        -------
        e, ``[B, N]``; zero on padding.
        """
        first, last = _NEAR
        near = 0.5 + 0.5 * torch.cos(torch.pi * ((distances - first) / (last - first)).clamp(0, 1))
        passed = self.pairs(features.pairs) * near * features.pair_mask
        passed = (passed - passed.transpose(1, 2)).sum(2).squeeze(-1)
        there = features.atom_mask.squeeze(-1)
        share, seat = self.atoms(features.scalars).unbind(-1)
        share = share * there
        mean = share.sum(1, keepdim=True) / there.sum(1, keepdim=True)
        seats = torch.softmax(seat.masked_fill(there == 0, -torch.inf), dim=1)
        found: Tensor = (passed + share - mean) * there + charge[:, None] * seats
        return found


class AtomicCharges:
    """Atomic charges by an operator.

    Parameters
    ----------
    operator
        Supplies features of structures.
    network
        Reads charges from them.
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
        device = self.operator.species_of.device
        here = state if state.device == device else state.to(device)
        features, distances = features_of(self.operator, here)
        weight = next(self.network.parameters())
        found: Tensor = self.network(features, distances, here.charge.to(weight))
        return found.to(state.positions)

    def dipole(self, state: PhaseState) -> Tensor:
        """Dipole of the charges about the centre of mass in e Å, ``[B, 3]``.

        Raises
        ------
        CoverageError
            As for the charges.
        """
        about = state.about_center() * state.mask.unsqueeze(-1)
        return (self(state).unsqueeze(-1) * about).sum(1)

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
            raise ValueError("its architecture has no features to read atomic charges from")
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


def features_of(operator: Operator, state: PhaseState) -> tuple[Features, Tensor]:
    """Features of structures at rest, and distances in Å, ``[B, N, N, 1]``.

    Raises
    ------
    ConfigError
        If the operator's architecture has no such features.
    CoverageError
        For an element or a total charge that the operator does not know.
    """
    species = operator.species(state)
    working = next(operator.parameters()).dtype
    x = state.about_center().to(working)
    features = operator.features_at_rest(species, state.masses.to(working), x)
    separation = x[:, :, None] - x[:, None, :]
    return features, separation.norm(dim=-1, keepdim=True)


def _readout(width: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(_HIDDEN, outputs)
    with torch.no_grad():  # small charges at first: each atom adds up those from all pairs
        last.weight.mul_(0.1)
    return nn.Sequential(nn.RMSNorm(width), nn.Linear(width, _HIDDEN), nn.SiLU(), last)
