"""Modules that keep what they derive from their weights for as long as no weight changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Remembering(nn.Module):
    """A module with quantities that follow from its weights alone, such as products of them.

    They are kept while no gradients are wanted, and taken anew when a weight was changed in place
    or replaced; with gradients they are taken anew each time.
    """

    _kept: tuple[Any, Any] | None = None
    _places: list[tuple[dict[str, Any], str]] | None = None

    def derive(self) -> Any:
        """Compute them."""
        raise NotImplementedError

    def derived(self) -> Any:
        """Them, computed or kept."""
        if self._places is None:
            parts = [module._parameters for module in self.modules()]
            self._places = [(part, name) for part in parts for name in part]
        weights = [part[name] for part, name in self._places]
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
            # What comes next may be a step of an optimiser that changes weights without a trace, as
            # fused ones do.
            self._kept = None
            return self.derive()
        now = [(weight.data_ptr(), weight._version) for weight in weights]
        if self._kept is None or self._kept[0] != now:
            # Kept across calls, hence outside of any inference mode that the first one runs in.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = now, self.derive()
        return self._kept[1]
