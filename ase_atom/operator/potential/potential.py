"""A potential energy surface of its own, beside an operator's paths."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ase_atom.operator.blueprint import blueprint
from ase_atom.operator.potential.network import PotentialConfig, PotentialNetwork
from ase_atom.operator.torch_settings import own_torch
from ase_atom.sending import Sendable
from ase_atom.state import PhaseState


class PotentialCard(BaseModel):
    """What a potential says of itself.

    Attributes
    ----------
    reference
        Level of theory of its energies, with the file that its weights are from.
    licence
        Of the weights, with their owner.
    command
        What put it beside the operator.
    source
        The potential from which it was fine-tuned, if it was. Its charges were learned there.
    """

    model_config = ConfigDict(extra="forbid")

    reference: str
    licence: str
    command: str = ""
    source: str = ""


class Potential(Sendable):
    """Energies and atomic charges of a `PotentialNetwork`.

    The elements and charges of states are for the operator to check.

    Parameters
    ----------
    network
        In evaluation mode from now on, and without gradients of its weights.
    card
        Where it is from.
    """

    def __init__(self, network: PotentialNetwork, card: PotentialCard) -> None:
        self.card = card
        self.network = network.eval().requires_grad_(False)
        elements = network.config.elements
        self._kinds = torch.zeros(max(elements) + 1, dtype=torch.long)
        self._kinds[list(elements)] = torch.arange(1, len(elements) + 1)

    @own_torch()
    def energy(self, state: PhaseState) -> Tensor:
        """Potential energies in eV, ``[B]``, float64, of which gradients can be taken."""
        return self._evaluate(state)[0]

    @own_torch()
    @torch.no_grad()
    def charges(self, state: PhaseState) -> Tensor:
        """Charges of atoms in e, ``[B, N]``, which add up to the molecule's; zero on padding."""
        found: Tensor = self._evaluate(state)[1]
        return found.to(state.positions)

    def kinds(self, numbers: Tensor) -> Tensor:
        """What the network knows elements by, 0 for padding, from atomic numbers."""
        return self._kinds.to(numbers.device)[numbers]

    def _evaluate(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        weight = next(self.network.parameters())
        here = state if state.device == weight.device else state.to(weight.device)
        about = (here.about_center() * here.mask.unsqueeze(-1)).to(weight.dtype)
        kinds = self.kinds(here.numbers)
        energy, charges = self.network(kinds, about, here.charge.to(weight.dtype))
        return energy.to(state.device), charges.to(state.device)

    @own_torch()
    def forces(self, numbers: Tensor, x: Tensor, charge: Tensor) -> Tensor:
        """Forces in eV/Å, ``[B, N, 3]``; see `energy_and_forces`.

        Gradients are taken through them where ``x`` requires them.
        """
        graded = x.requires_grad and torch.is_grad_enabled()
        return self.energy_and_forces(numbers, x, charge, graded)[1]

    @own_torch()
    def energy_and_forces(
        self, numbers: Tensor, x: Tensor, charge: Tensor, graded: bool
    ) -> tuple[Tensor, Tensor]:
        """Energies without those of separate atoms in eV, ``[B]``, float64, and forces in eV/Å.

        Parameters
        ----------
        numbers
            Atomic numbers that it knows, 0 on padding, ``[B, N]``.
        x
            Å, ``[B, N, 3]``.
        charge
            Total charges, e, ``[B]``.
        graded
            Whether gradients will be taken through the answers, by positions or by weights.
        """
        weight = next(self.network.parameters())
        with torch.enable_grad():
            here = x.to(weight)
            if not (graded and x.requires_grad):
                # Copies, as gradients cannot be taken through what was made in inference mode.
                here = here.detach().clone().requires_grad_(True)
            kinds, total = self.kinds(numbers.to(weight.device)).clone(), charge.to(weight).clone()
            energy, _ = self.network(kinds, here, total)
            (gradient,) = torch.autograd.grad(energy.sum(), here, create_graph=graded)
            energy = energy - self.network.alone[kinds].sum(1)
        return energy if graded else energy.detach(), -gradient

    def saved(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Facts and tensors from which `load` makes it again."""
        weights = self.network.state_dict()
        tensors = {key: value.detach().contiguous() for key, value in weights.items()}
        config = self.network.config.model_dump(mode="json")
        return {"card": self.card.model_dump_json(), "config": json.dumps(config)}, tensors

    @classmethod
    def load(cls, facts: Mapping[str, str], weights: Mapping[str, Tensor]) -> Potential | None:
        """Make it from what `saved` returned, or None of nothing.

        Raises
        ------
        ValueError
            If it does not fit this version.
        """
        if not facts and not weights:
            return None
        card = PotentialCard.model_validate_json(facts["card"])
        config = PotentialConfig.model_validate_json(facts["config"])
        # Looked at without memory: settings may ask for far more of it than their file is long.
        with blueprint():
            wanted = {
                key: value.shape for key, value in PotentialNetwork(config).state_dict().items()
            }
        if wanted != {key: value.shape for key, value in weights.items()}:
            raise ValueError("its potential is of another network than this version's")
        with torch.random.fork_rng(devices=[]):
            network = PotentialNetwork(config)
        network.load_state_dict(weights)
        return cls(network, card)
