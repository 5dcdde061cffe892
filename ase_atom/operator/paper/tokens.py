"""Tokens, one for each atom at each instant, and how they are marked with their instants."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ase_atom.operator.paper.affine import Factored
from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.times import TimePlan

_SINUSOIDAL_BASE = 10_000.0


class Tokens:
    """The tokens of a batch.

    Rotary embedding turns queries and keys by the token's instant (``temporal_rope``) or by its
    place in the sequence of all tokens, time by time and atom by atom (``rope``). Sinusoidal
    embedding is added to features before they are projected, by place as well. Padding has no
    place in the sequence: an atom's place does not depend on the company of its molecule.

    Parameters
    ----------
    config
        Of the operator.
    plan
        Instants of the tokens.
    real
        True where there is an atom, ``[B, N]``.
    dtype
        Of the features.

    Attributes
    ----------
    plan
        Instants.
    number
        Instants of each atom, T.
    atoms
        Atoms of the largest molecule, N.
    mask
        True where there is an atom, ``[B, N]``; None if there is no padding.
    places
        What rotary or sinusoidal embedding marks: instants in grid steps, or places in the
        sequence, ``[1 or B, T, 1 or N]``; None for no embedding.
    """

    def __init__(
        self, config: PaperConfig, plan: TimePlan, real: Tensor, dtype: torch.dtype
    ) -> None:
        self.plan = plan
        self.number = len(plan.steps)
        self.atoms = real.shape[1]
        self.mask = None if bool(real.all()) else real
        self.windows, self._by, self._by_step, self._by_lag = _time_marks(
            plan,
            config.width // config.heads,
            config.heads,
            config.rope_base if config.positional == "temporal_rope" else None,
            dtype,
            real.device,
        )
        self._added: Tensor | None = None
        self.places: Tensor | None = None
        if config.positional == "none":
            return
        self.places = plan.steps.to(real.device)[None, :, None]
        if config.positional == "temporal_rope":
            return
        count = real.sum(1, dtype=torch.float64)[:, None, None]
        order = torch.arange(self.atoms, device=real.device)
        # The first token of the context has place 0.
        self.places = (self.places - self.places[:, :1]) * count + order
        if config.positional == "rope":
            channels = config.width // config.heads
            by = complex_turns(self.places, channels, config.rope_base, dtype)
            self._by = by.repeat(1, 1, 1, config.heads)
        else:
            frequencies = _frequencies(config.width, _SINUSOIDAL_BASE, self.places)
            angles = self.places.unsqueeze(-1) * frequencies
            self._added = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2).to(dtype)

    # -- features laid out [B, T, N, ...], of all tokens or of one copy of the state ---------------

    def place(self, rows: Tensor) -> Tensor:
        """Features of all tokens, ``[B, T, N, ...]``."""
        return rows.expand(-1, self.number, *rows.shape[2:])

    def of_context(self, rows: Tensor) -> Tensor:
        """Features of the context tokens, ``[B, C, N, ...]``."""
        if rows.shape[1] > 1:
            return rows[:, : self.plan.context]
        return rows.expand(-1, self.plan.context, *rows.shape[2:])

    def marked(self, rows: Tensor | Factored) -> Tensor | Factored:
        """Features with the sinusoidal embedding added, if that is what marks instants."""
        if self._added is None:
            return rows
        return (rows.rows() if isinstance(rows, Factored) else rows) + self._added

    def turn(self, rows: Tensor) -> Tensor:
        """Turn ``[B, T, N, width]``."""
        return self.place(rows) if self._by is None else rotate(rows, self._by)

    def turn_context(self, rows: Tensor) -> Tensor:
        """Turn the context's part of ``[B, T, N, width]``."""
        if self._by is None:
            return self.of_context(rows)
        if rows.shape[1] > 1:
            rows = rows[:, : self.plan.context]
        return rotate(rows, self._by[:, : self.plan.context])

    # -- features of one copy laid out [..., N, channels], marked by time alone --------------------

    def turn_copies(self, rows: Tensor) -> Tensor:
        """Turn ``[..., N, channels]`` to each instant: ``[..., T N, channels]``."""
        if self._by_step is None:
            return _copies(rows, self.number)
        return rotate(rows.unsqueeze(-3), self._by_step).flatten(-3, -2)

    def turn_by_lag(self, rows: Tensor) -> Tensor:
        """Turn ``[..., N, channels]`` by each lag of the plan: ``[..., D N, channels]``."""
        if self._by_lag is None:
            return _copies(rows, len(self.plan.lags))
        return rotate(rows.unsqueeze(-3), self._by_lag).flatten(-3, -2)

    def key_mask(self) -> Tensor | None:
        """True where a key is an atom's, ``[B, 1, 1, C N]``; None if all are."""
        if self.mask is None:
            return None
        return self.mask[:, None, None, None].expand(-1, 1, 1, self.plan.context, -1).flatten(3)


@lru_cache(maxsize=64)
def _time_marks(
    plan: TimePlan,
    channels: int,
    heads: int,
    base: float | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The plan's windows; turns of all heads by its steps; of one head by its steps and lags.

    Turns are ``[1, T, 1, heads channels/2]``, ``[T, 1, channels/2]`` and ``[D, 1, channels/2]``.
    """
    with torch.inference_mode(False):
        windows = plan.windows.to(device, dtype)
        if base is None:
            return windows, None, None, None
        steps, lags = (
            complex_turns(side.to(device), channels, base, dtype)[:, None]
            for side in (plan.steps, plan.lags)
        )
        return windows, steps.repeat(1, 1, heads)[None], steps, lags


def _frequencies(width: int, base: float, like: Tensor) -> Tensor:
    """Angles per step of the pairs of ``width`` channels, base^(−2k/width), ``[width/2]``."""
    pairs = torch.arange(width // 2, dtype=torch.float64, device=like.device)
    return base ** (-2 * pairs / width)


def complex_turns(places: Tensor, channels: int, base: float, dtype: torch.dtype) -> Tensor:
    """Turns e^{i ω p} at places ``[...]``, complex ``[..., channels/2]``; angles in float64."""
    angles = places.double().unsqueeze(-1) * _frequencies(channels, base, places)
    complex_type = torch.complex128 if dtype == torch.float64 else torch.complex64
    return torch.polar(torch.ones_like(angles), angles).to(complex_type)


def rotate(rows: Tensor, by: Tensor) -> Tensor:
    """Turn neighbouring channels of ``[..., channels]`` as pairs, each by its own angle."""
    whole = torch.float64 if by.dtype == torch.complex128 else torch.float32
    pairs = torch.view_as_complex(rows.to(whole).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * by).flatten(-2)


def _copies(rows: Tensor, number: int) -> Tensor:
    copies = rows.unsqueeze(-3).expand(*rows.shape[:-2], number, *rows.shape[-2:])
    return copies.flatten(-3, -2)
