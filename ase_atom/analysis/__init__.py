"""Trajectories laid beside a reference: observables, statistics, verdicts, a report.

The names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_atom.analysis.comparison import Comparison, compare
    from ase_atom.analysis.inputs.sources import load_trajectory
    from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
    from ase_atom.analysis.lines import Line, Tolerances, Verdict
    from ase_atom.analysis.options import Options

_HOMES = {
    "Comparison": "comparison",
    "compare": "comparison",
    "Line": "lines",
    "Options": "options",
    "Tolerances": "lines",
    "Verdict": "lines",
    "load_trajectory": "inputs.sources",
    "Segment": "inputs.trajectory",
    "Trajectory": "inputs.trajectory",
}

__all__ = [
    "Comparison",
    "Line",
    "Options",
    "Segment",
    "Tolerances",
    "Trajectory",
    "Verdict",
    "compare",
    "load_trajectory",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ase_atom.analysis.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
