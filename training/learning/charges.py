"""Learn atomic charges from those of the reference engine, beside an operator that stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ase_atom.errors import ConfigError, DataError
from ase_atom.operator import Operator
from ase_atom.operator.atomic_charges import ChargesNetwork, dipole_of, inputs_of
from ase_atom.operator.spectral.model import SpectralOperator
from ase_atom.state import PhaseState
from training.data.buckets import bucketed
from training.data.frames import FrameData
from training.data.store import Burst
from training.learning.optimisers import build_schedule

_BUCKETS = (10, 13, 16, 20, 26, 34, 62)
_FRAMES_AT_ONCE = 40
_WARMUP, _CLIP = 50, 10.0


class ChargesConfig(BaseModel):
    """Settings of the training.

    Attributes
    ----------
    steps
        Steps of AdamW, whose rate falls to zero as a cosine.
    lr
        Rate at the start, after a warm-up, of the lift and the blocks, which begin with the
        operator's weights.
    readout_lr
        That of what reads charges from them.
    bursts
        Bursts in a batch, with two frames of each.
    charge_scale
        e. Errors of charges count in units of it.
    dipole_scale
        e Å. Errors of dipoles, and of their change from frame to frame, count in units of it.
    seed
        Of all that is drawn.
    """

    model_config = ConfigDict(extra="forbid")

    steps: int = Field(default=1500, ge=1)
    lr: float = Field(default=3e-4, gt=0)
    readout_lr: float = Field(default=2e-3, gt=0)
    bursts: int = Field(default=12, ge=1)
    charge_scale: float = Field(default=0.03, gt=0)
    dipole_scale: float = Field(default=0.05, gt=0)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class ChargedFrames:
    """Frames of bursts of similar size, with reference charges.

    Attributes
    ----------
    data
        Frames, padded.
    charges
        e, ``[F, N]``; zero on padding.
    """

    data: FrameData
    charges: Tensor

    @classmethod
    def of(cls, bursts: Sequence[Burst]) -> ChargedFrames:
        """Join bursts.

        Raises
        ------
        DataError
            If one has no atomic charges.
        """
        data = FrameData.from_bursts(bursts)
        charges = torch.zeros(data.positions.shape[:2])
        for burst, first in zip(bursts, data.first.tolist(), strict=True):
            if burst.atomic_charges is None:
                raise DataError(
                    f"burst {burst.key} has no atomic charges: those by AIMNet2 have them "
                    "(python -m training.generate --engine aimnet2)"
                )
            frames, atoms = burst.atomic_charges.shape
            charges[first : first + frames, :atoms] = torch.from_numpy(
                np.asarray(burst.atomic_charges, np.float32)
            )
        return cls(data, charges)

    def states(self, frames: Tensor) -> PhaseState:
        """Some frames, by their numbers, as states at rest."""
        rows = self.data.burst[frames]
        positions = self.data.positions[frames]
        return PhaseState(
            numbers=self.data.numbers[rows],
            masses=self.data.masses[rows],
            positions=positions,
            velocities=torch.zeros_like(positions),
            charge=self.data.charge[rows],
        )


def train_charges(
    operator: Operator,
    bursts: Sequence[Burst],
    config: ChargesConfig,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> ChargesNetwork:
    """Train a network of charges that begins with an operator's lift and first blocks.

    Parameters
    ----------
    operator
        Its weights stay as they are.
    bursts
        With atomic charges.
    config
        Settings.
    report
        Called every hundred steps with the step and the mean loss since the last call.

    Raises
    ------
    ConfigError
        If the operator is not spectral.
    DataError
        If a burst has no atomic charges.
    """
    network = _begun(operator, config)
    groups = [ChargedFrames.of(group) for group in bucketed(bursts, _BUCKETS)]
    generator = torch.Generator().manual_seed(config.seed)
    readouts = [*network.pairs.parameters(), *network.atoms.parameters()]
    inner = [*network.lift.parameters(), *network.trunk.parameters()]
    optimiser = torch.optim.AdamW(
        [{"params": inner, "lr": config.lr}, {"params": readouts, "lr": config.readout_lr}],
        weight_decay=0.01,
    )
    schedule = build_schedule(optimiser, _WARMUP, config.steps)
    weights = torch.tensor([float(len(group.data.length)) for group in groups])
    losses: list[float] = []
    for step in range(1, config.steps + 1):
        group = groups[int(torch.multinomial(weights, 1, generator=generator))]
        frames = _pairs_of_frames(group.data, config.bursts, generator)
        state, expected = group.states(frames), group.charges[frames]
        found = network(*inputs_of(operator, state, torch.float32))
        loss = _loss(found - expected, state, config)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if not step % 100 or step == config.steps:
            report(step, float(np.mean(losses)))
            losses.clear()
    return network


def _begun(operator: Operator, config: ChargesConfig) -> ChargesNetwork:
    """A network that begins with the operator's lift and first blocks."""
    if not isinstance(operator, SpectralOperator):
        raise ConfigError(
            "atomic charges begin with the blocks of a spectral operator, and "
            f"{operator.name} is {operator.config.architecture}"
        )
    torch.manual_seed(config.seed)
    network = ChargesNetwork(operator.config)
    lift = operator.lift.state_dict()
    network.lift.load_state_dict({key: lift[key] for key in network.lift.state_dict()})
    for own, first in zip(network.trunk.blocks, operator.trunk.blocks, strict=False):
        own.load_state_dict(first.state_dict())
    return network.train()


@dataclass(frozen=True)
class ChargeErrors:
    """How charges and dipoles of one molecule differ from the reference's.

    Attributes
    ----------
    charge
        RMS over atoms and frames, e.
    dipole
        RMS length of the difference, e Å.
    change
        RMS of the difference less its mean over each burst, over the RMS of the reference's dipole
        less its mean: what matters for infrared spectra.
    """

    charge: float
    dipole: float
    change: float


def measure_charges(operator: Operator, bursts: Sequence[Burst]) -> dict[str, ChargeErrors]:
    """Errors of an operator's atomic charges by the molecules' SMILES.

    Raises
    ------
    ConfigError
        If the operator has no atomic charges.
    DataError
        If a burst has none.
    """
    known = operator.atomic_charges
    if known is None:
        raise ConfigError(f"{operator.name} has no atomic charges: python -m training.charges")
    by_molecule: dict[str, list[Burst]] = {}
    for burst in bursts:
        by_molecule.setdefault(burst.smiles, []).append(burst)
    found = {}
    for smiles, own in by_molecule.items():
        group = ChargedFrames.of(own)
        squares: list[NDArray] = []
        dipoles, strayed, moved = [], [], []
        for first, length in zip(
            group.data.first.tolist(), group.data.length.tolist(), strict=True
        ):
            frames = torch.arange(first, first + length, max(1, length // _FRAMES_AT_ONCE))
            state, expected = group.states(frames), group.charges[frames]
            wrong = known(state) - expected
            squares.append((wrong**2)[:, state.mask[0]].numpy().ravel())
            off, whole = (dipole_of(each, state).numpy() for each in (wrong, expected))
            dipoles.append((off**2).sum(1))
            strayed.append(((off - off.mean(0)) ** 2).sum(1))
            moved.append(((whole - whole.mean(0)) ** 2).sum(1))
        found[smiles] = ChargeErrors(
            charge=_root_mean(squares),
            dipole=_root_mean(dipoles),
            change=_root_mean(strayed) / max(_root_mean(moved), 1e-6),
        )
    return found


def _root_mean(squares: Sequence[NDArray]) -> float:
    return float(np.sqrt(np.concatenate(squares).mean()))


def _pairs_of_frames(data: FrameData, bursts: int, generator: torch.Generator) -> Tensor:
    """Two frames of each of some bursts: all the first ones, then all the second."""
    chosen = torch.randint(len(data.length), (bursts,), generator=generator).repeat(2)
    places = torch.rand(len(chosen), generator=generator) * data.length[chosen]
    return data.first[chosen] + places.long()


def _loss(wrong: Tensor, state: PhaseState, config: ChargesConfig) -> Tensor:
    """Of charges, dipoles, and their change between the two frames of each burst."""
    atoms = state.mask.sum()
    of_charges = (wrong**2).sum() / atoms / config.charge_scale**2
    dipole = dipole_of(wrong, state)
    first, second = dipole.chunk(2)
    of_dipoles = (dipole**2).sum(1) + ((second - first) ** 2).sum(1).repeat(2)
    return of_charges + of_dipoles.mean() / config.dipole_scale**2
