"""What leaps came to: how many were drawn again, and what they cost in energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from torch import Tensor

REASONS = ("broken", "energy", "handedness")
"""Why samples are drawn again: the guard, the thermal band, a centre or double bond changed."""


@dataclass(frozen=True)
class LastLeap:
    """The latest leap of each replica.

    Parameters
    ----------
    raw, settled
        Potential energy of the sample that was kept, as drawn and after settling, eV, ``[B]``; not
        a number for replicas that did not leap, and without an energy head.
    redrawn
        Samples that were not kept, ``[B]``.
    """

    raw: Tensor
    settled: Tensor
    redrawn: Tensor


@dataclass
class LeapTally:
    """Counts and sums over all leaps of a run.

    Parameters
    ----------
    kept
        Samples that were kept: leaps of all replicas.
    redrawn
        Samples that were not, by `REASONS`.
    raw, settled
        Sums over the kept of the potential energy above the minimum, eV.
    expected
        Sum of what harmonic vibrations would have, eV.
    """

    kept: int = 0
    redrawn: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    raw: float = 0.0
    settled: float = 0.0
    expected: float = 0.0

    @property
    def drawn_again(self) -> int:
        """Samples that were not kept."""
        return sum(self.redrawn.values())

    def described(self) -> str:
        """One line of summary."""
        count = max(self.kept, 1)
        why = ", ".join(f"{number} {name}" for name, number in self.redrawn.items() if number)
        again = f"{self.drawn_again} drawn again" + (f" ({why})" if why else "")
        return (
            f"{self.kept} kept, {again}; mean potential energy above the minimum "
            f"{self.raw / count:.3f} eV as drawn, {self.settled / count:.3f} eV settled, "
            f"{self.expected / count:.3f} eV for harmonic vibrations"
        )

    def state_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def load(cls, saved: Mapping[str, object]) -> LeapTally:
        """Make one from what `state_dict` returned."""
        return cls(**saved)  # type: ignore[arg-type]
