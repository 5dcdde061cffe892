"""Springs that say how far they can be believed, and the same springs as an ASE calculator."""

from __future__ import annotations

import math
from functools import partial

import torch
from ase.calculators.calculator import Calculator, all_changes
from springs import SpringOperator

from ase_atom.operator.trust import Calibration, estimate_error
from ase_atom.state import PhaseState

PLAIN = Calibration(
    offset=0.0,
    weights=(1.0, 0.0, 0.0, 0.0),
    margin=1.5,
    strides_fs=[8.0, 16.0],
    trained=[(0.01, 0.02), (0.03, 0.06)],
    windows=100,
    molecules=10,
)
"""Expects the error that a round trip of the positions misses."""


class Judged(SpringOperator):
    """Springs with a calibration; ``heating`` is an error that grows with the stride."""

    @property
    def error_estimate(self):
        return partial(estimate_error, self, PLAIN)


class Breaks(Judged):
    """Ends the third jump of 4 fs of the last molecule nowhere, and no other."""

    made = 0

    @property
    def error_estimate(self):
        return lambda state, stride: torch.full((state.batch_size,), stride / 80)

    def __call__(self, state, times):
        positions, velocities = super().__call__(state, times)
        self.made += 1
        if self.made == 3:
            positions[-1:, -1] = math.nan
        return positions, velocities


class SpringCalculator(Calculator):
    """The same springs as an ASE calculator, which may fail at a call."""

    implemented_properties = ("energy", "forces")

    def __init__(self, springs: SpringOperator, fails_at: int | None = None) -> None:
        super().__init__()
        self.springs, self.fails_at, self.calls = springs, fails_at, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("the self-consistent field did not converge")
        energy, forces = self.springs.energy_and_forces(PhaseState.from_atoms(atoms))
        self.results = {"energy": float(energy[0]), "forces": forces[0].numpy()}
