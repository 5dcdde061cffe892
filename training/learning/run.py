"""One training run: its data, its operator, its folder, and how it resumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from ase_atom.errors import CheckpointError, ConfigError
from ase_atom.io.guard import reading
from ase_atom.operator import Operator, build_operator, load_operator
from ase_atom.operator.potential import Potential
from ase_atom.state import PhaseState
from training.data.buckets import bucketed, shares
from training.data.frames import EnergyOffsets, FrameData, Sampler, energy_offsets
from training.data.store import Burst
from training.learning.checkpoints import load_plain
from training.learning.config import TrainingConfig
from training.learning.heritage import inherit
from training.learning.losses import Scales, learns_energies
from training.learning.module import TrainingModule
from training.learning.reference import Reference, load_reference
from training.learning.validation import Validation

__all__ = [
    "Reference",
    "load_reference",
    "make_module",
    "make_operator",
    "refit_energies",
    "take_energy_scale",
]


def make_operator(
    config: TrainingConfig, train: Sequence[Burst], fit_energies: bool = True
) -> Operator:
    """An operator to train, with its energy scale set: new, or as ``start_from`` left it.

    Parameters
    ----------
    config
        Settings.
    train
        Bursts to train on.
    fit_energies
        Whether to fit the energy scale to them, which a checkpoint makes up for; see
        `take_energy_scale`.

    Raises
    ------
    ConfigError
        If the operator does not know an element of the data, or has another architecture than
        the one to start from.
    """
    elements = sorted({int(number) for burst in train for number in burst.numbers})
    strange = sorted(set(elements) - set(config.operator.elements))
    if strange:
        wanted = sorted({*elements, *config.operator.elements})
        raise ConfigError(
            f"the data holds atomic numbers {strange}: set operator.elements: {wanted}"
        )
    parent = load_operator(config.start_from) if config.start_from else None
    hears = getattr(config.operator, "force_input", False)
    if hears and (parent is None or parent.potential is None):
        raise ConfigError(
            f"operator.force_input: set start_from to an operator with a potential (it is "
            f"{config.start_from or 'not set'}); python -m training.potential gives it one"
        )
    torch.manual_seed(config.trainer.seed)
    operator = build_operator(config.operator)
    if parent is not None:
        assert config.start_from is not None
        inherit(operator, parent, config.start_from, config.refit_energies)
        _take_potential(operator, parent, config, train)
        if config.refit_energies and fit_energies and learns_energies(operator):
            refit_energies(operator, train)
        return _frozen_energy(operator, config)
    if config.energy_from:
        operator.take_energy(load_operator(config.energy_from))
        return _frozen_energy(operator, config)
    if not (operator.has_energy and fit_energies):
        return operator
    squares = sum(float((burst.forces**2).sum()) for burst in train)
    count = sum(burst.forces.size for burst in train)
    # So that an output of one, over an ångström, is a force of the usual size.
    scale = math.sqrt(squares / count) if squares else 1.0
    operator.set_energy_scale({}, scale)
    if len({burst.smiles for burst in train}) > 1 and hasattr(operator, "energy_pairs"):
        # Untrained outputs differ by many eV from molecule to molecule, which no offsets make up.
        with torch.no_grad():
            for weight in (operator.energy_pairs.weight, operator.energy_atoms[-1].weight):
                weight.mul_(0.05)
    # An untrained head has an output of its own; with the offsets it starts at the mean energy.
    with torch.no_grad():
        outputs = [
            float(operator.energy(PhaseState.from_atoms(_atoms(burst, 0)))) for burst in train
        ]
    energy_offsets(train, outputs).set_in(operator, scale)
    return operator


def _take_potential(
    operator: Operator, parent: Operator, config: TrainingConfig, bursts: Sequence[Burst]
) -> None:
    """Take a parent's potential, to be trained on if the data are of another level of theory.

    Raises
    ------
    ConfigError
        If it does not know an element, or is not to be trained on and the data are of another
        level of theory.
    """
    potential = parent.potential
    if potential is None:
        return
    missing = set(operator.config.elements) - set(potential.network.config.elements)
    if missing:
        raise ConfigError(
            f"the potential of {config.start_from} does not know atomic numbers "
            f"{sorted(missing)}: leave them out of operator.elements"
        )
    theories = {str(burst.attrs.get("theory", "unknown")) for burst in bursts}
    card = potential.card
    operator.potential = potential
    if theories == {card.reference}:
        return
    if not config.refit_energies:
        raise ConfigError(
            f"the data are not of the level of theory of {config.start_from}'s potential: set "
            "refit_energies: true"
        )
    reference, source = ", ".join(sorted(theories)), card.source or card.reference
    card = card.model_copy(update={"reference": reference, "source": source})
    operator.potential = Potential(potential.network, card)
    operator.potential.network.requires_grad_(True)


def refit_energies(operator: Operator, bursts: Sequence[Burst], frames: int = 8) -> None:
    """Set the energies of atoms so that the operator's mean energy of molecules is the data's.

    Every level of theory has a zero of its own.

    Parameters
    ----------
    operator
        With a trained energy head or a potential, whose energies of atoms are replaced.
    bursts
        Reference bursts.
    frames
        Frames of each burst over which the head's output is averaged.
    """
    operator.energy_offsets.zero_()
    if operator.charge_offsets is not None:
        operator.charge_offsets.zero_()
    if operator.potential is not None:
        operator.potential.network.alone.zero_()
    outputs = []
    with torch.no_grad():
        for burst in bursts:
            chosen = np.linspace(0, len(burst.energies) - 1, frames).round().astype(int)
            atoms = [_atoms(burst, frame) for frame in chosen]
            energies = operator.energy(PhaseState.from_atoms(atoms)).numpy()
            # These frames' mean energy is not the burst's, and the head follows the difference.
            strayed = burst.energies[chosen].mean() - np.mean(burst.energies)
            outputs.append(energies.mean() - strayed)
    found = energy_offsets(bursts, outputs, charged=operator.potential is None)
    found.set_in(operator, operator.energy_scale)


def take_energy_scale(operator: Operator, checkpoint: Path) -> None:
    """Set the affine map of energies to that of a checkpoint: data may have come in since."""
    state = load_plain(checkpoint)
    with reading(checkpoint, CheckpointError, what="is no checkpoint of such an operator"):
        for name in ("energy_scale", "energy_offsets", "charge_offsets"):
            kept = getattr(operator, name)
            if kept is not None:
                kept.copy_(state["state_dict"][f"operator.{name}"])
        if operator.potential is not None and learns_energies(operator):
            operator.potential.network.alone.copy_(state["state_dict"]["potential.alone"])


def _atoms(burst: Burst, frame: int) -> Atoms:
    return Atoms(burst.numbers, positions=burst.positions[frame], info={"charge": burst.charge})


def _frozen_energy(operator: Operator, config: TrainingConfig) -> Operator:
    """The operator, with an energy head that was taken from another one kept as it is."""
    if config.energy_from:
        operator.energy_head.requires_grad_(False)
    return operator


def make_module(config: TrainingConfig, reference: Reference, operator: Operator) -> TrainingModule:
    """Everything that a Lightning trainer needs to know.

    Raises
    ------
    DataError
        If the data's frames do not fit the window, or the bursts are shorter than it.
    """
    if not (learns_energies(operator) or config.loss.position or config.loss.velocity):
        raise ConfigError(
            "energies and forces are the potential's, so there is nothing to learn but paths: set "
            "loss.position and loss.velocity"
        )
    offsets = EnergyOffsets.from_operator(operator)
    samplers = []
    groups = bucketed(reference.part("train"), config.data.buckets)
    counts = shares(groups, config.trainer.batch_size)
    states = shares(groups, config.loss.force_batch)
    scales = []
    for bursts, windows, few in zip(groups, counts, states, strict=True):
        data = FrameData.from_bursts(bursts, offsets)
        window = data.frames_of(config.window, "loss.window")
        data.frames_of(window * config.loss.chain * data.interval, "loss.window times loss.chain")
        samplers.append(
            Sampler(
                data,
                geometries=_geometries(reference, bursts, data, offsets),
                window=window,
                chain=config.loss.chain,
                lags_per_jump=config.loss.lags_per_sample,
                batch_size=windows,
                state_batch_size=few,
                seed=config.trainer.seed,
            )
        )
        scales.append(Scales.from_data(data, window * config.loss.chain, config.loss.temperature))
    held_out = {
        name: _validation(config, FrameData.from_bursts(bursts, offsets))
        for name, bursts in reference.held_out().items()
    }
    weights = [float(len(sampler.data.energies)) for sampler in samplers]
    return TrainingModule(operator, config, samplers, Scales.mean(scales, weights), held_out)


def _geometries(
    reference: Reference,
    bursts: Sequence[Burst],
    data: FrameData,
    offsets: EnergyOffsets,
) -> FrameData | None:
    """Displaced geometries of the same compounds, padded alike."""
    taught = {burst.smiles for burst in bursts}
    chosen = [burst for burst in reference.displaced if burst.smiles in taught]
    if not chosen:
        return None
    return FrameData.from_bursts(chosen, offsets, data.numbers.shape[1])


def _validation(config: TrainingConfig, held: FrameData) -> Validation:
    held.frames_of(config.window, "loss.window")
    longest = min(config.operator.horizon, held.longest)
    wanted = {*(2.0**n for n in range(2, 20)), config.window, longest}
    lags = {time / held.interval for time in wanted if time <= longest}
    lags = sorted(round(lag) for lag in lags if abs(lag - round(lag)) < 1e-6 and lag >= 1)
    return Validation(held, lags, config.trainer.validate_starts)
