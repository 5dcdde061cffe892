"""What every operator has: one interface for propagation, and a narrow one for training."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Self

import torch
from torch import Tensor, nn

from ase_atom.errors import ConfigError, CoverageError, HorizonError
from ase_atom.operator.config import ArchitectureConfig
from ase_atom.operator.engine.network import Network
from ase_atom.operator.memory import keep_freed_memory
from ase_atom.operator.potential import Potential
from ase_atom.operator.protocol import OperatorBase
from ase_atom.operator.torch_settings import own_torch
from ase_atom.state import PhaseState
from ase_atom.units import format_charge


class Operator(OperatorBase, nn.Module, ABC):
    """Φ_t: (x₀, v₀, Z) ↦ (x(t), v(t)) for every t from 0 to the horizon, and a potential energy.

    The centre of mass is taken out before the network and put back after it, where it moves as
    x + V t exactly, so the map is Galilean invariant. A horizon longer than one segment is
    covered by chained segments with the same weights, all inside one call.

    An architecture supplies `segment` and, if it has an energy head, `energy_output`; with
    `network` it can be evaluated by other engines. Propagation calls the operator itself, `energy`
    and `energy_and_forces`; training calls `segment`, `energy_output`, `index` and
    `set_energy_scale` as well. States may be on another device than the weights: answers come back
    to where they are.

    Attributes
    ----------
    config
        Architecture, see `ArchitectureConfig` and its subclasses.
    card
        What the operator was trained for; None on one that has never been trained.
    equivariant
        Whether rotations commute with the map exactly, so that training needs no random rotations.
    predicts_velocities
        Whether the map gives velocities, without which a state cannot be propagated.
    has_energy
        Whether there is an energy head.
    stochastic
        Whether the map draws random numbers while it is trained.
    species_of
        Index of each atomic number among the operator's elements, counted from 1; 0 for padding
        and for elements that it does not know. ``[largest number + 1]``.
    potential
        A potential of its own, which takes the place of the energy head, or None. An architecture
        may hear its forces.
    energy_scale, energy_offsets, charge_offsets
        Affine map from the energy head's output to eV: the scale, the energy of an atom of
        each atomic number, ``[largest number + 1]``, and that of each of ``config.charges``; None
        where there is one charge alone.
    """

    engine = "torch"
    equivariant: bool = True
    has_energy: bool = True
    stochastic: bool = False
    potential: Potential | None = None
    species_of: Tensor
    energy_scale: Tensor
    energy_offsets: Tensor
    charge_offsets: Tensor | None

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        keep_freed_memory()
        self.config = config
        self.horizon, self.piece = config.horizon, config.segment
        # Total energies are thousands of eV: the offsets stay in float64, outside the network.
        largest = max(config.elements)
        lookup = torch.zeros(largest + 1, dtype=torch.long)
        for index, number in enumerate(config.elements):
            lookup[number] = index + 1
        self.register_buffer("species_of", lookup, persistent=False)
        self.register_buffer("energy_scale", torch.tensor(1.0))
        self.register_buffer("energy_offsets", torch.zeros(largest + 1, dtype=torch.float64))
        several = len(config.charges) > 1
        charges = torch.zeros(len(config.charges), dtype=torch.float64) if several else None
        self.register_buffer("charge_offsets", charges)

    # -- what an architecture supplies -------------------------------------------------------------

    @abstractmethod
    def segment(
        self,
        species: Tensor,
        masses: Tensor,
        x: Tensor,
        v: Tensor,
        times: Tensor,
        graph: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One piece of the path, in the frame of reference that the network works in.

        Parameters
        ----------
        species
            Index of element and molecule's charge, 0 for padding, ``[B, N]``; see `index`.
        masses
            amu, ``[B, N]``.
        x, v
            Å and Å/fs, ``[B, N, 3]``; about a centre of mass at the origin and at rest, unless the
            architecture works in the laboratory frame.
        times
            fs from the piece's start, ``[T]``, from 0 to ``config.segment``.
        graph
            Positions from which an architecture that uses bonds reads them, Å, ``[B, N, 3]``;
            by default ``x``.

        Returns
        -------
        positions, velocities
            Each ``[B, T, N, 3]`` in the precision of ``x``; velocities are None if the
            architecture does not predict them.
        """

    def energy_output(self, species: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """The energy head's dimensionless output, ``[B]``; arguments as for `segment`.

        Raises
        ------
        ConfigError
            If the operator has no energy head.
        """
        raise ConfigError(
            f"{self.name} has no energy head: propagate it without an energy correction "
            "(--uncorrected), and take energies and forces from another source"
        )

    def network(self) -> Network | None:
        """The operator for engines other than torch, or None if it has no graph."""
        return None

    def forces_heard(self, species: Tensor, x: Tensor) -> Tensor:
        """Forces of the potential in eV/Å, ``[B, N, 3]``, for a network that hears them.

        Gradients are taken through them where ``x`` requires them.

        Raises
        ------
        ConfigError
            If the operator has no potential.
        """
        if self.potential is None:
            raise ConfigError(
                f"{self.name} hears the forces of a potential and has none: "
                "python -m training.potential gives it one"
            )
        elements = len(self.config.elements)
        place = (species - 1).clamp(min=0)
        known = torch.tensor(self.config.elements, device=x.device)
        numbers = torch.where(species > 0, known[place % elements], 0)
        charges = torch.tensor(self.config.charges, device=x.device)
        charge = charges[(place // elements).amax(1)]
        return self.potential.forces(numbers, x, charge).to(x)

    # -- the map -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name on the card, or that of the architecture."""
        return self.card.name if self.card else f"this {self.config.architecture} operator"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the architecture and the weights, whatever the card says."""
        config = self.config.model_dump(mode="json", exclude_defaults=True)
        config["architecture"] = self.config.architecture
        weights, facts = dict(self.state_dict()), {"config": json.dumps(config, sort_keys=True)}
        if self.potential is not None:
            more, tensors = self.potential.saved()
            facts |= {"potential": more["config"]}
            weights |= {f"potential.{key}": each for key, each in tensors.items()}
        return checksum(weights, facts)

    def forward(
        self, state: PhaseState, times: Tensor, graph: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode the state at ``times``.

        Parameters
        ----------
        state
            ``B`` molecules of up to ``N`` atoms.
        times
            Instants in fs after the state, ``[T]``, each from 0 to the horizon.
        graph
            Positions from which an architecture that uses bonds reads them, Å, ``[B, N, 3]``; by
            default those of the state.

        Returns
        -------
        positions, velocities
            Å and Å/fs, each ``[B, T, N, 3]``, in the state's precision.

        Raises
        ------
        HorizonError
            For a time below 0 or beyond the horizon.
        CoverageError
            For an element or a total charge that the operator does not know.
        ConfigError
            If the operator predicts positions alone.
        """
        if not self.predicts_velocities:
            raise ConfigError(
                f"{self.name} predicts no velocities and cannot be propagated: call its positions()"
            )
        positions, velocities = self._path(state, times, graph)
        assert velocities is not None
        return positions, velocities

    def positions(self, state: PhaseState, times: Tensor, graph: Tensor | None = None) -> Tensor:
        """Positions at ``times``, ``[B, T, N, 3]``, also of an operator without velocities.

        Arguments and errors as for a call of the operator.
        """
        return self._path(state, times, graph)[0]

    @own_torch()
    def _path(
        self, state: PhaseState, times: Tensor, graph: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        device = self.species_of.device
        if state.device != device:
            graph = None if graph is None else graph.to(device)
            x, v = self._path(state.to(device), times, graph)
            return x.to(state.device), None if v is None else v.to(state.device)
        times = torch.as_tensor(times, dtype=torch.float64).reshape(-1)
        pieces = self.pieces(times)
        species = self.species(state)
        mask = state.mask.unsqueeze(-1).to(state.positions.dtype)
        centre, drift = self._frame(state)
        x = (state.positions - centre[:, None]) * mask
        v = (state.velocities - drift[:, None]) * mask
        graph = x if graph is None else graph
        out_x = x.new_empty(x.shape[0], len(times), *x.shape[1:])
        out_v = torch.empty_like(out_x) if self.predicts_velocities else None
        for here, asked in pieces:
            path_x, path_v = self.segment(species, state.masses, x, v, asked, graph)
            if len(pieces) == 1:
                out_x, out_v = path_x, path_v
                break
            assert path_v is not None  # a path in pieces goes on from the velocities
            assert out_v is not None
            out_x[:, here] = path_x[:, : len(here)]
            out_v[:, here] = path_v[:, : len(here)]
            x, v = path_x[:, -1], path_v[:, -1]
        moved = centre[:, None] + drift[:, None] * times.to(centre)[:, None]
        frame_mask = mask.unsqueeze(1)
        out_x = (out_x + moved.unsqueeze(2)) * frame_mask
        if out_v is not None:
            out_v = (out_v + drift[:, None, None]) * frame_mask
        return out_x, out_v

    def pieces(self, times: Tensor) -> list[tuple[list[int], Tensor]]:
        """Which times fall into each piece of the path, and what to ask of it.

        Parameters
        ----------
        times
            fs from the state, ``[T]``.

        Returns
        -------
        For each piece the places of its times and these from the piece's start in fs, with the
        piece's end as one more where another follows.

        Raises
        ------
        HorizonError
            For a time below 0 or beyond the horizon.
        """
        instants = times.tolist()
        self._check_times(instants)
        # A time on a boundary belongs to the segment that ends there.
        length = self.config.segment
        index = [max(0, math.ceil(instant / length - 1e-9) - 1) for instant in instants]
        last = max(index, default=-1)
        found = []
        for piece in range(last + 1):
            here = [place for place, at in enumerate(index) if at == piece]
            asked = times[here] - piece * length
            if piece < last:
                asked = torch.cat([asked, asked.new_tensor([length])])
            found.append((here, asked))
        return found

    def _frame(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Origin and velocity of the frame that the network works in, each ``[B, 3]``."""
        return state.center_of_mass()

    # -- energies ----------------------------------------------------------------------------------

    def set_energy_scale(
        self, offsets: Mapping[int, float], scale: float, charges: Mapping[int, float] | None = None
    ) -> None:
        """Fix the affine map from the head's output to eV.

        Parameters
        ----------
        offsets
            Energy per atom of each element, eV, by atomic number.
        scale
            Energy that an output of one stands for, eV.
        charges
            Energy of each total charge, eV, where the operator knows several.
        """
        for number, offset in offsets.items():
            self.energy_offsets[number] = offset
        for charge, offset in (charges or {}).items():
            assert self.charge_offsets is not None
            self.charge_offsets[self.config.charges.index(charge)] = offset
        self.energy_scale.fill_(scale)

    @own_torch()
    def energy(self, state: PhaseState) -> Tensor:
        """Potential energy in eV, ``[B]``, float64. Velocities are ignored.

        Raises
        ------
        ConfigError
            If the operator has no energy head.
        CoverageError
            For an element or a total charge that the operator does not know.
        """
        device = self.species_of.device
        if state.device != device:
            return self.energy(state.to(device)).to(state.device)
        species = self.species(state)
        if self.potential is not None:
            return self.potential.energy(state)
        working = next(self.parameters()).dtype
        centre, _ = state.center_of_mass()
        x = (state.positions - centre[:, None]).to(working)
        output = self.energy_output(species, state.masses.to(working), x)
        offsets = self.offsets(state.numbers, state.charge)
        return output.double() * self.energy_scale.double() + offsets

    def offsets(self, numbers: Tensor, charge: Tensor) -> Tensor:
        """Part of the energy that follows from elements and charge alone, eV, ``[B]``.

        Parameters
        ----------
        numbers
            Atomic numbers, 0 on padding, ``[B, N]``.
        charge
            Total charges, e, ``[B]``.
        """
        offsets = self.energy_offsets[numbers].sum(1)
        if self.charge_offsets is None:
            return offsets
        return offsets + self.charge_offsets[self._place(charge)]

    def in_double_precision(self) -> Self:
        """Return a copy in double precision."""
        return deepcopy(self).double()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # A potential goes to devices and precisions with the operator.
        if self.potential is not None:
            self.potential.network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    # -- checks ------------------------------------------------------------------------------------

    def species(self, state: PhaseState) -> Tensor:
        """Index of each atom's element and molecule's charge, checked; see `index`.

        Raises
        ------
        CoverageError
            For an element or a total charge that the operator does not know.
        """
        self._check_charge(state.charge)
        numbers, known = state.numbers, self.species_of
        inside = numbers.clamp(max=len(known) - 1)
        species = known[inside]
        strange = (numbers > 0) & ((species == 0) | (numbers != inside))
        if bool(strange.any()):
            found = sorted(set(numbers[strange].tolist()))
            raise CoverageError(
                f"atomic numbers {found} are not among this operator's {self.config.elements}"
            )
        return self._charged(species, state.charge)

    def index(self, numbers: Tensor, charge: Tensor) -> Tensor:
        """What the network knows atoms by, ``[B, N]``: 0 for padding and unknown elements.

        Elements count from 1 for the first of ``config.charges``; for the next charge they go on
        where those ended, and so forth.

        Parameters
        ----------
        numbers
            Atomic numbers of elements up to the heaviest that it knows, 0 on padding, ``[B, N]``.
        charge
            Total charges, of those that it knows, e, ``[B]``.
        """
        return self._charged(self.species_of[numbers], charge)

    def _charged(self, species: Tensor, charge: Tensor) -> Tensor:
        if self.charge_offsets is None:
            return species
        behind = len(self.config.elements) * self._place(charge)
        return torch.where(species > 0, species + behind[:, None], species)

    def _place(self, charge: Tensor) -> Tensor:
        """Place of charges among ``config.charges``."""
        known = torch.tensor(self.config.charges, device=charge.device)
        return (charge[:, None] == known).int().argmax(1)

    def _check_charge(self, charge: Tensor) -> None:
        known = self.card.charges if self.card else list(self.config.charges)
        if known == [0] and not bool(charge.any()):
            return
        strange = sorted(set(charge.tolist()) - set(known))
        if strange:
            raise CoverageError(
                f"{self.name} moves molecules of total charge {format_charge(known)}, not "
                f"{format_charge(strange)}"
            )

    def _check_times(self, instants: Sequence[float]) -> None:
        low, high = min(instants, default=0.0), max(instants, default=0.0)
        if not all(map(math.isfinite, instants)) or low < 0:
            raise HorizonError(f"times must be finite and at least 0 fs, not {list(instants)}")
        if high > self.horizon * (1 + 1e-9):
            raise HorizonError(
                f"{high:g} fs lies beyond this operator's horizon of {self.horizon:g} fs"
            )


def checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """SHA-256 of tensors and facts by their names, whatever the order."""
    digest = hashlib.sha256()
    for key in sorted(facts):
        digest.update(json.dumps([key, facts[key]]).encode())
    for key in sorted(tensors):
        tensor = tensors[key].cpu()
        digest.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
