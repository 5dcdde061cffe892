"""Leaps whose network an engine evaluates in torch's place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import RLock

import numpy as np
import torch
from torch import Tensor

from ase_atom.errors import EngineWarning
from ase_atom.errors.warning import warn
from ase_atom.operator.engine.session import Arrays, Evaluator, Session
from ase_atom.operator.leap.decoder import LeapDecoder, Source
from ase_atom.operator.leap.flow import LEAST, levels, sampled
from ase_atom.operator.leap.graph import leap_graph
from ase_atom.operator.leap.network import LeapLift
from ase_atom.operator.trunk.graph import atoms_and_pairs, weights_of

TOLERANCE = 1e-5
"""Largest difference from torch in the first guess, Å."""


class EngineLeaps(LeapDecoder, ABC):
    """A leap decoder whose network runs in an engine, or in torch if that differs or fails.

    Parameters
    ----------
    decoder
        In torch.
    """

    title: str

    def __init__(self, decoder: LeapDecoder) -> None:
        super().__init__(decoder.network, decoder.card)
        self._decoder = decoder
        self._alone = RLock()  # what is known of the last molecules is for one thread at a time
        self._sessions: dict[int, Evaluator] = {}
        self._molecules: tuple[Tensor, Arrays] | None = None
        self._trusted: bool | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._decoder,)

    def sample(self, source: Source, passes: int) -> Tensor:
        """See `LeapDecoder.sample`."""
        with self._alone:
            return self._checked(source, passes)

    def _checked(self, source: Source, passes: int) -> Tensor:
        """The engine's sample, if its first guess is torch's."""
        if self._trusted is None:
            # A sample of one pass is the first guess.
            expected = super().sample(source, 1)
            try:
                off = float((self._sample(source, 1) - expected).abs().max())
                wrong = "" if off < TOLERANCE else f"its first guess differs by {off:.1e} Å"
            except Exception as error:  # whatever a runtime of another processor raises
                wrong = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            self._trusted = not wrong
            if wrong:
                warn(f"torch evaluates the leaps instead of {self.title}: {wrong}", EngineWarning)
        return self._sample(source, passes) if self._trusted else super().sample(source, passes)

    @abstractmethod
    def _sample(self, source: Source, passes: int) -> Tensor:
        """Do the same in the engine."""

    @abstractmethod
    def _open(self, weights: dict[str, np.ndarray], threads: int) -> Evaluator:
        """What evaluates the network of some weights in threads."""

    def _session(self) -> Evaluator:
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            weights = weights_of(self.network.state_dict())
            self._sessions[threads] = self._open(weights, threads)
        return self._sessions[threads]

    def _constant(self, species: Tensor) -> Arrays:
        """What the molecules give to all passes, worked out anew where these are others."""
        if self._molecules is None or not torch.equal(self._molecules[0], species):
            self._molecules = species, _constants(self.network.lift, species)
        return self._molecules[1]


class OnnxLeaps(EngineLeaps):
    """Leaps by ONNX Runtime, a pass of all molecules at a time."""

    title = "ONNX Runtime"

    def _open(self, weights: dict[str, np.ndarray], threads: int) -> Evaluator:
        return Session(leap_graph(self.config, weights), threads)

    def _sample(self, source: Source, passes: int) -> Tensor:
        session, constant, network = self._session(), self._constant(source.species), self.network

        def guess(noisy: Tensor, level: Tensor) -> Tensor:
            known = network.lift.known(level, source.conditions)[:, None]
            (change,) = session(constant, _arrays(x=noisy, start=source.start, known=known))
            return network.moved(noisy, torch.from_numpy(change), level, source.mask)

        return sampled(guess, source.noise, source.mask, passes)


class NumbaLeaps(EngineLeaps):
    """Leaps by what Numba compiled, all passes of a molecule at a time."""

    title = "Numba"

    def _open(self, weights: dict[str, np.ndarray], threads: int) -> Evaluator:
        from ase_atom.operator.leap.kernels import LeapKernel

        return LeapKernel(self.config, weights, threads)

    def _sample(self, source: Source, passes: int) -> Tensor:
        lift, steps = self.network.lift, levels(passes)
        level = steps[:-1].clamp(min=LEAST).to(source.noise)
        # Each by itself: rounding is not to depend on what else is in a batch.
        kinds, kind = source.conditions.unique(dim=0, return_inverse=True)
        heard = torch.stack(
            [lift.conditions(lift.known(level, each.expand(passes, -1))) for each in kinds]
        )
        of_pairs = torch.stack([lift.condition_pairs(each) for each in heard])
        moving = _arrays(
            x=source.noise,
            start=source.start,
            levels=steps,
            kind=kind,
            heard=heard,
            of_pairs=of_pairs,
        )
        (found,) = self._session()(self._constant(source.species), moving)
        return torch.from_numpy(found)


def _arrays(**tensors: Tensor) -> Arrays:
    return {name: each.contiguous().numpy() for name, each in tensors.items()}


@torch.no_grad()
def _constants(lift: LeapLift, species: Tensor) -> Arrays:
    """Inputs of the molecules, by name; see `ase_atom.operator.trunk.graph.constants`."""
    atoms, pairs = atoms_and_pairs(species)
    receiver, sender = lift.receiver(species), lift.sender(species)
    return _arrays(
        scalars=lift.embedding(species),
        receiver=receiver,
        sender=sender,
        kinds=receiver[:, :, None] + sender[:, None, :],
        atoms=atoms,
        pairs=pairs,
    )
