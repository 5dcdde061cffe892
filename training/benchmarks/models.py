"""From a row's settings to a model that predicts samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ase_atom.errors import ConfigError
from ase_atom.operator import build_operator, parse_config
from ase_atom.state import PhaseState
from training.benchmarks.long_lag import LongLagOperator
from training.benchmarks.marched import Marched
from training.benchmarks.peers import EGNN, EGNO
from training.benchmarks.response import fit_response
from training.benchmarks.samples import Samples
from training.benchmarks.suites import Row
from training.benchmarks.trivial import MeanStructure
from training.learning.config import explain


@dataclass(frozen=True)
class Setting:
    """What a model must know of its task.

    Attributes
    ----------
    elements
        Atomic numbers that occur in any of its parts.
    lags
        Times of the frames, fs, ``[P]``: the multiples of Δ/P, to which frames were rounded down.
    interval
        Between frames of the data, fs.
    heavy
        Whether there are heavy atoms only.
    """

    elements: tuple[int, ...]
    lags: Tensor
    interval: float
    heavy: bool


class OperatorModel(nn.Module):
    """An operator of this package as a model of samples."""

    last_only = False
    version = 1

    def __init__(self, settings: dict[str, Any], setting: Setting, train: Samples) -> None:
        super().__init__()
        lags = setting.lags
        given = {"elements": setting.elements, "horizon": float(lags[-1])}
        given |= {"segment": given["horizon"]}
        architecture = settings.get("architecture", "spectral")
        if architecture == "paper":
            given |= {"timesteps": len(lags), "frame_interval": setting.interval}
        elif architecture == "spectral":
            # Lags are long here: a row's settings are those of the architecture for them.
            settings = settings | {"architecture": "long_lag"}
            # Heavy atoms alone feel the recoil of the others.
            given |= {"centre": "free" if setting.heavy else "uniform"}
            if settings.get("rest") == "aligned":
                given |= {"rest_numbers": tuple(train.numbers[0].tolist())}
        try:
            self.operator = build_operator(parse_config(given | settings))
        except ValidationError as error:
            raise ConfigError(explain(error, "a row's operator")) from error
        if isinstance(self.operator, LongLagOperator):
            self._rest(train, lags)
        self.register_buffer("lags", lags.double(), persistent=False)

    def _rest(self, train: Samples, lags: Tensor) -> None:
        """Start from the mean of the training targets in the frame of their start.

        With a response, from what departs from it linearly, too.
        """
        if self.operator.config.rest != "aligned":
            return
        if len(train.molecule.unique()) > 1:
            raise ConfigError("rest: aligned is for one molecule: several need rest: learned")
        mean = MeanStructure(aligned=True)
        mean.prepare(train, train, lags)
        (body,) = mean.means.values()
        self.operator.set_rest(body, lags)
        if self.operator.config.response:
            fit_response(self.operator, train, lags)

    def forward(self, samples: Samples) -> Tensor:
        """Positions at the lags, Å, ``[B, P, N, 3]``."""
        state = PhaseState(samples.numbers, samples.masses, samples.positions, samples.velocities)
        # As published, bonds are those of the first frame.
        return self.operator.positions(state, self.lags, samples.first)


def build_model(row: Row, setting: Setting, train: Samples, seed: int) -> nn.Module:
    """An untrained model.

    Raises
    ------
    ConfigError
        For settings that the model does not have.
    """
    torch.manual_seed(seed)
    if row.model == "operator":
        return OperatorModel(row.settings, setting, train)
    if row.model == "marched":
        return Marched(row.settings, setting.lags, setting.interval, setting.heavy)
    try:
        if row.model == "egnn":
            return EGNN(setting.elements, **row.settings)
        return EGNO(setting.elements, len(setting.lags), **row.settings)
    except TypeError as error:
        raise ConfigError(f"a row's {row.model}: {error}") from error


def version_of(row: Row) -> int:
    """Number of a model's code, which grows with a change that makes other results."""
    kinds = {"egnn": EGNN, "egno": EGNO, "operator": OperatorModel, "marched": Marched}
    return kinds[row.model].version


def parameters_of(model: nn.Module) -> int:
    """Number of weights that prediction uses: an energy head has no part in it."""
    unused = ("operator.energy_",)
    return sum(
        weight.numel() for name, weight in model.named_parameters() if not name.startswith(unused)
    )


def predict(model: nn.Module, samples: Samples, batch: int = 200) -> Tensor:
    """Predictions of many samples, without gradients and in evaluation mode."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(samples.select(slice(first, first + batch)))
            for first in range(0, len(samples), batch)
        ]
    return torch.cat(parts)


def elements_of(parts: Sequence[Samples]) -> tuple[int, ...]:
    """Atomic numbers in samples, sorted."""
    found = torch.cat([part.numbers.flatten() for part in parts]).unique().tolist()
    return tuple(number for number in found if number)
