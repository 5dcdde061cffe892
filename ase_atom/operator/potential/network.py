"""Networks of AIMNet2's form: energies and atomic charges of a structure."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from ase.units import Bohr, Hartree
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ase_atom.operator.config import Element
from ase_atom.operator.potential.dispersion import Dispersion

NEAREST_TO_ONE = 1 - 1e-6


class PotentialConfig(BaseModel):
    """Sizes of a `PotentialNetwork`; AIMNet2's own by default.

    Attributes
    ----------
    elements
        Atomic numbers.
    features, radial
        An atom's features are a table of ``features`` times ``radial`` numbers, as there are
        ``radial`` functions of the distance.
    mixed
        Mixtures of the vectors of each feature, of which the lengths are heard.
    hidden
        Widths of the hidden layers of each pass.
    readout
        Widths of the hidden layers that read the energy.
    cutoff
        Å, of messages.
    first_centre, last_centre, sharpness
        Of the functions exp(−η (d − s)²): s in Å and η in 1/Å².
    coulomb_cutoff
        Å. Charges nearer than this are screened.
    s6, s8, a1, a2
        Of the dispersion, see `Dispersion`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    elements: tuple[Element, ...] = Field(min_length=1)
    features: int = Field(default=16, ge=1, le=256)
    radial: int = Field(default=16, ge=2, le=256)
    mixed: int = Field(default=12, ge=1, le=256)
    hidden: tuple[tuple[int, ...], ...] = Field(
        default=((512, 380), (512, 380), (512, 380, 380)), min_length=2, max_length=16
    )
    readout: tuple[int, ...] = (128, 128)
    cutoff: float = Field(default=5.0, gt=0)
    first_centre: float = 0.8
    last_centre: float = 4.7375
    sharpness: float = Field(default=14.5125, gt=0)
    coulomb_cutoff: float = Field(default=4.6, gt=0)
    s6: float = 1.0
    s8: float = 0.3908
    a1: float = 0.566
    a2: float = 3.128


class PotentialNetwork(nn.Module):
    """Messages of scalars and of vectors' lengths, charges that are passed on, and an energy.

    After Anstine, Zubatyuk and Isayev, Chem. Sci. 16, 10228 (2025). In each pass an atom hears its
    own features, sums of its neighbours' features times functions of the distance, the lengths of
    such sums along the directions, and from the second pass on the same of the charges. All passes
    but the last change features and charges; the charges add up to the molecule's. The last one's
    result gives the atom's energy. Coulomb energies of the charges and dispersion are added.
    """

    centres: Tensor
    alone: Tensor

    def __init__(self, config: PotentialConfig) -> None:
        super().__init__()
        self.config = config
        features, radial, mixed = config.features, config.radial, config.mixed
        width, elements = features * radial, len(config.elements)
        self.embedding = nn.Embedding(elements + 1, width)
        # Energies of atoms are hundreds of eV: they stay in double precision, outside the sums.
        self.register_buffer("alone", torch.zeros(elements + 1, dtype=torch.float64))
        centres = torch.linspace(config.first_centre, config.last_centre, radial)
        self.register_buffer("centres", centres)
        heard = width + features * (radial + mixed)
        self.mix = nn.Parameter(torch.randn(features, radial, mixed) / math.sqrt(radial))
        self.mix_charges = nn.Parameter(torch.randn(radial, mixed) / math.sqrt(radial))
        last = len(config.hidden) - 1
        self.passes = nn.ModuleList(
            _layers(
                heard + (1 + radial + mixed if place else 0),
                hidden,
                width + (0 if place == last else 2),
                bounded=place > 0,
            )
            for place, hidden in enumerate(config.hidden)
        )
        self.energy = _layers(width, config.readout, 1)
        self.dispersion = Dispersion(elements, config.s6, config.s8, config.a1, config.a2)

    def forward(self, kinds: Tensor, x: Tensor, charge: Tensor) -> tuple[Tensor, Tensor]:
        """Energies in eV, ``[B]``, float64, and charges in e, ``[B, N]``; zero on padding.

        Parameters
        ----------
        kinds
            Index of the element, 0 for padding, ``[B, N]``.
        x
            Å, ``[B, N, 3]``.
        charge
            Total charges, e, ``[B]``.
        """
        there = (kinds > 0).to(x.dtype)
        pairs = there[:, :, None] * there[:, None] * (1 - torch.eye(x.shape[1]).to(x))
        apart = x[:, :, None] - x[:, None]
        # 1 Å where there is no pair: no infinities, not even in gradients.
        distances = ((apart * apart).sum(-1) + (1 - pairs)).sqrt()
        messages = self._messages(apart / distances.unsqueeze(-1), distances, pairs)

        table = self.embedding(kinds).unflatten(-1, (self.config.features, -1))
        charges = torch.zeros_like(there)
        result = charges
        for place, layers in enumerate(self.passes):
            heard = [table.flatten(-2), *_heard(messages, table, self.mix)]
            if place:
                heard += [charges.unsqueeze(-1), *self._heard_of_charges(messages, charges)]
            result = layers(torch.cat(heard, dim=-1)) * there.unsqueeze(-1)
            if place < len(self.passes) - 1:
                charges = _balanced(charges + result[..., 0], result[..., 1], charge)
                table = table + result[..., 2:].view_as(table)
        short = self.energy(result).squeeze(-1).double() * there
        energy = (short + self.alone[kinds]).sum(1)
        energy = energy + self._coulomb(charges, distances, pairs)
        return energy + self.dispersion(kinds, distances, pairs), charges

    def _messages(self, directions: Tensor, distances: Tensor, pairs: Tensor) -> Tensor:
        """Functions of the distance, and these along x, y and z: ``[B, radial, 4, N, N]``."""
        config = self.config
        part = (distances / config.cutoff).clamp(max=1)
        smooth = (0.5 + 0.5 * torch.cos(torch.pi * part)) * pairs
        off = distances[:, None] - self.centres.to(distances)[:, None, None]
        radial = torch.exp(-config.sharpness * off.square()) * smooth[:, None]
        along = radial[:, :, None] * directions.permute(0, 3, 1, 2)[:, None]
        return torch.cat([radial[:, :, None], along], dim=2)

    def _heard_of_charges(self, messages: Tensor, charges: Tensor) -> tuple[Tensor, Tensor]:
        found = messages @ charges[:, None, None, :, None]
        scalars = found[:, :, 0, :, 0].transpose(1, 2)
        vectors = torch.einsum("bgdi,gh->bihd", found[:, :, 1:, :, 0], self.mix_charges)
        return scalars, vectors.square().sum(-1)

    def _coulomb(self, charges: Tensor, distances: Tensor, pairs: Tensor) -> Tensor:
        """Coulomb energy in eV, ``[B]``, without what the network says itself of near atoms."""
        part = (distances / self.config.coulomb_cutoff).clamp(max=NEAREST_TO_ONE)
        screened = 1 - torch.exp(1 - 1 / (1 - part.square()))
        products = charges[:, :, None] * charges[:, None] * pairs
        energies = screened * products / distances
        return 0.5 * Hartree * Bohr * energies.sum((1, 2), dtype=torch.float64)


def _heard(messages: Tensor, table: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over neighbours of their features, and lengths of mixtures of such vectors."""
    batch, radial, _, atoms, _ = messages.shape
    columns = table.permute(0, 3, 1, 2)  # [B, radial, N, features]
    found = messages.reshape(batch, radial, 4 * atoms, atoms) @ columns
    found = found.view(batch, radial, 4, atoms, -1)
    scalars = found[:, :, 0].permute(0, 2, 3, 1)
    vectors = torch.einsum("bgdia,agh->biahd", found[:, :, 1:], mix)
    return scalars.flatten(-2), vectors.square().sum(-1).flatten(-2)


def _balanced(charges: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    """Charges that add up to the total: each takes a share of the difference by its weight."""
    shares = weights.square()
    missing = total - charges.sum(1)
    return charges + shares * (missing / (shares.sum(1) + 1e-6)).unsqueeze(1)


def _layers(first: int, hidden: tuple[int, ...], last: int, bounded: bool = False) -> nn.Sequential:
    """Linear layers with GELU between, and after the last one where it is ``bounded`` below."""
    layers: list[nn.Module] = []
    for ins, outs in pairwise((first, *hidden, last)):
        layers += [nn.Linear(ins, outs), nn.GELU()]
    return nn.Sequential(*(layers if bounded else layers[:-1]))
