"""Tokens, one for each atom at each instant, and how they are marked with their instants."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.times import TimePlan, rotary_frequencies, rotate, turns

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
    """

    def __init__(
        self, config: PaperConfig, plan: TimePlan, real: Tensor, dtype: torch.dtype
    ) -> None:
        self.plan = plan
        self.number = len(plan.steps)
        self.mask = None if bool(real.all()) else real
        self._by: Tensor | None = None
        self._added: Tensor | None = None
        if config.positional == "none":
            return
        steps = plan.steps.to(real.device)
        if config.positional == "temporal_rope":
            places = steps[None, :, None]
        else:
            atoms = real.sum(1, dtype=torch.float64)[:, None, None]
            order = torch.arange(real.shape[1], device=real.device)
            # The first token of the context has place 0.
            places = (steps - plan.steps[0].to(steps))[None, :, None] * atoms + order
        if config.positional == "sinusoidal":
            frequencies = rotary_frequencies(config.width, _SINUSOIDAL_BASE).to(places)
            angles = places.unsqueeze(-1) * frequencies
            self._added = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2).to(dtype)
        else:
            frequencies = rotary_frequencies(config.width // config.heads, config.rope_base)
            self._by = turns(places, frequencies, dtype).unsqueeze(-2)

    def place(self, rows: Tensor) -> Tensor:
        """Features of all tokens, ``[B, T, N, ...]``, from those or from one copy."""
        return rows.expand(-1, self.number, *rows.shape[2:])

    def of_context(self, rows: Tensor) -> Tensor:
        """Features of the context tokens, ``[B, C, N, ...]``, from all or from one copy."""
        return self.place(rows)[:, : self.plan.context]

    def marked(self, rows: Tensor) -> Tensor:
        """Features with the sinusoidal embedding added, if that is what marks instants."""
        return rows if self._added is None else rows + self._added

    def turn(self, rows: Tensor) -> Tensor:
        """Turn ``[B, T, N, heads, width]`` of all tokens (or of one copy)."""
        if self._by is None:
            return self.place(rows)
        return rotate(rows, self._by)

    def turn_context(self, rows: Tensor) -> Tensor:
        """Turn the context's part of ``[B, T, N, heads, width]`` (or of one copy)."""
        if rows.shape[1] > 1:
            rows = rows[:, : self.plan.context]
        if self._by is None:
            return self.of_context(rows)
        return rotate(rows, self._by[:, : self.plan.context])
