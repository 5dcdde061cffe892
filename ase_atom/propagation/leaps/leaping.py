"""The step of a leap: drawn, settled, judged, and drawn again where it is no molecule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ase_atom.errors import BrokenStateError
from ase_atom.errors.warning import warn
from ase_atom.molecules.handedness import Handedness, HandednessOfBatch, rotatable_bonds
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.bodies import with_bodies
from ase_atom.propagation.ensembles import Ensemble, Langevin, Step
from ase_atom.propagation.guard import Guard
from ase_atom.propagation.jumps import choose
from ase_atom.propagation.leaps.asked import (
    check_leap,
    check_molecules,
    settling_ensemble,
    settling_stride,
    settling_time,
)
from ase_atom.propagation.leaps.band import ThermalBand, floors
from ase_atom.propagation.leaps.tally import REASONS, LastLeap, LeapTally
from ase_atom.propagation.steps import advance
from ase_atom.state import PhaseState
from ase_atom.units import format_time

MOST_DRAWS = 20
"""Samples of one leap; a replica of which none is a molecule is lost."""

FIRST_SETTLING = 40
"""Jumps that bring a start that is not thermal there, at the friction of settling."""


class Leaping:
    """Leaps of a batch of molecules.

    A step draws a state after the lag that settling leaves, lets it settle by ordinary jumps at
    high friction, and judges it: by the guard, by the thermal band of the operator's own potential
    energy (`ThermalBand`), and by stereocentres and double bonds (`Handedness`). What does not
    pass is drawn again, and counted.

    Parameters
    ----------
    operator
        With leaps.
    ensemble
        Langevin dynamics as the operator's leaps have learned them.
    stride
        Length of a leap in fs, its settling included.
    state
        The molecules at their start, ``[B, N]``.
    guard
        Says which are broken.

    Attributes
    ----------
    tally
        Of all leaps.
    last
        The latest leap of each replica; None before the first.

    Raises
    ------
    ConfigError, CoverageError
        As `check_leap` and `check_molecules`.
    """

    def __init__(
        self,
        operator: OperatorLike,
        ensemble: Ensemble,
        stride: float,
        state: PhaseState,
        guard: Guard,
    ) -> None:
        self.leaps = check_leap(operator, ensemble, stride)
        assert isinstance(ensemble, Langevin)  # as was checked
        self.operator, self.ensemble, self.stride = operator, ensemble, stride
        self.tally = LeapTally()
        self.last: LastLeap | None = None
        check_molecules(self.leaps.card, state)
        self._lost: dict[int, str] = {}
        self._guard = guard
        self._calm = settling_ensemble(ensemble, self.leaps.card)
        self._lag = stride - settling_time(self.leaps.card, operator)
        self._handed = HandednessOfBatch(
            [
                Handedness.of(atoms.numbers, atoms.positions, int(charge))
                for atoms, charge in zip(state.to_atoms(), state.charge, strict=True)
            ]
        )
        floor = floors(operator, state) if operator.has_energy else torch.zeros(state.batch_size)
        self._sizes = state.num_atoms.cpu()
        self._band = ThermalBand.at(ensemble.temperature_K, floor.double(), self._sizes)

    def follow(self, ensemble: Langevin, guard: Guard) -> None:
        """Go on with a guard, and at a temperature that was set anew.

        Raises
        ------
        ConfigError
            As `check_leap`.
        """
        self._guard = guard
        if ensemble != self.ensemble:
            check_leap(self.operator, ensemble, self.stride)
            self.ensemble = ensemble
            self._calm = settling_ensemble(ensemble, self.leaps.card)
            self._band = ThermalBand.at(ensemble.temperature_K, self._band.floor, self._sizes)

    def step(self, state: PhaseState, alive: Tensor, step: Step, first: bool = False) -> PhaseState:
        """Leap once with the replicas that are alive.

        Parameters
        ----------
        state
            ``[B, N]``.
        alive
            Which replicas leap, ``[B]``.
        step
            Its noise is that of leaps and settling.
        first
            Whether this is the run's first: a start that is not thermal settles before.

        Returns
        -------
        The states after it; those of replicas that are lost are not numbers.
        """
        rows = alive.nonzero().flatten()
        if first:
            state = self._thermal(state, rows, step)
        count = state.batch_size
        nothing = torch.full((count,), float("nan"), dtype=torch.float64)
        raw, settled = nothing.clone(), nothing.clone()
        redrawn = torch.zeros(count, dtype=torch.long)
        after = state
        for _ in range(MOST_DRAWS):
            begin = self._part(state, rows)
            drawn = self._drawn(begin, step)
            finite = _finite(drawn)
            drawn = choose(finite, drawn, begin)
            before = self._energies(drawn)
            drawn = self._settle(drawn, step, self.leaps.card.settling_jumps)
            drawn = choose(finite, drawn, _no_numbers(drawn))
            then = self._energies(drawn)
            after = _put(after, rows, drawn)
            verdict = self._verdict(after, rows, then)
            good = torch.tensor([not why for why in verdict], dtype=torch.bool)
            raw[rows[good]], settled[rows[good]] = before[good], then[good]
            self._count(rows[good], raw, settled)
            for why in verdict:
                if why:
                    self.tally.redrawn[why] += 1
            rows = rows[~good]
            redrawn[rows] += 1
            if not len(rows):
                break
        for row in rows.tolist():
            self._lost[row] = next(why for why in reversed(verdict) if why)
        self.last = LastLeap(raw, settled, redrawn)
        return _put(after, rows, _no_numbers(after.select(rows)))

    def frame(
        self, state: PhaseState, alive: Tensor, step: Step, first: bool
    ) -> tuple[Tensor, Tensor]:
        """Do the same, and return positions and velocities, ``[B, 1, N, 3]``."""
        end = self.step(state, alive, step, first)
        return end.positions[:, None], end.velocities[:, None]

    def explain(self, row: int, time: float) -> BrokenStateError | None:
        """Describe why a replica was lost at a time in fs, or return None if it was not."""
        why = self._lost.get(row)
        if why is None:
            return None
        said = {
            "broken": "is a molecule by its distances",
            "energy": "has a potential energy in the thermal band",
            "handedness": "keeps its stereocentres and double bonds",
        }[why]
        who = self._guard.labels[row].molecule
        return BrokenStateError(
            f"{who} broke at {format_time(time)}: none of {MOST_DRAWS} samples of its leap {said}",
            replica=row,
            time=time,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what another needs to go on: plain values and tensors."""
        return {"tally": self.tally.state_dict(), "floor": self._band.floor}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where another was."""
        self.tally = LeapTally.load(saved["tally"])
        self._band = replace(self._band, floor=saved["floor"])

    # -- parts of a step ---------------------------------------------------------------------------

    def _drawn(self, state: PhaseState, step: Step) -> PhaseState:
        drawn = self.leaps.draw(state, self._lag, self.ensemble.temperature_K, step.noise)
        if self.ensemble.fix_com:
            moved = drawn.center_of_mass()[0] - state.center_of_mass()[0]
            positions = (drawn.positions - moved[:, None]) * state.mask.unsqueeze(-1)
            drawn = drawn.replace(positions=positions).without_drift()
        return drawn

    def _settle(self, state: PhaseState, step: Step, jumps: int) -> PhaseState:
        stride = settling_stride(self.operator)
        calm = Step(stride, step.noise, step.potential)
        end = torch.tensor([stride], dtype=torch.float64)
        whole = _finite(state)
        for _ in range(jumps):
            x, v = advance(self.operator, self._calm, state, end, calm)
            moved = state.replace(positions=x[:, -1], velocities=v[:, -1])
            whole = whole & _finite(moved)
            # What is no number would upset the next jump: it waits where it was.
            state = moved if bool(whole.all()) else choose(whole, moved, state)
        return state if bool(whole.all()) else choose(whole, state, _no_numbers(state))

    def _part(self, state: PhaseState, rows: Tensor) -> PhaseState:
        """Some molecules of a state."""
        if len(rows) == state.batch_size:
            return state  # with all that is known of it
        return with_bodies(state.select(rows), self.operator.engine)

    def _energies(self, state: PhaseState) -> Tensor:
        if not self.operator.has_energy:
            return torch.full((state.batch_size,), float("nan"), dtype=torch.float64)
        return self.operator.energy(state).double().cpu()

    def _verdict(self, state: PhaseState, rows: Tensor, energies: Tensor) -> list[str]:
        """One of `REASONS` for each row that does not pass, else nothing."""
        broken, energy, handedness = REASONS
        good = self._guard.first_broken(state.positions[:, None], state.velocities[:, None]) == 1
        inside = torch.ones(state.batch_size, dtype=torch.bool)
        if self.operator.has_energy:
            whole = torch.full((state.batch_size,), float("nan"), dtype=torch.float64)
            whole[rows] = energies
            inside = self._band.holds(whole)
        kept = self._handed.kept(state.positions.double().cpu().numpy())
        found = []
        for row in rows.tolist():
            if not good[row]:
                found.append(broken)
            elif not inside[row]:
                found.append(energy)
            elif not kept[row]:
                found.append(handedness)
            else:
                found.append("")
        return found

    def _count(self, rows: Tensor, raw: Tensor, settled: Tensor) -> None:
        self.tally.kept += len(rows)
        if self.operator.has_energy:
            floor = self._band.floor[rows]
            self.tally.raw += float((raw[rows] - floor).sum())
            self.tally.settled += float((settled[rows] - floor).sum())
            self.tally.expected += float(self._band.expected[rows].sum())

    def _thermal(self, state: PhaseState, rows: Tensor, step: Step) -> PhaseState:
        """Bring replicas that do not start in the thermal band there."""
        for atoms, charge in zip(state.to_atoms()[:1], state.charge[:1].tolist(), strict=True):
            if not rotatable_bonds(atoms.numbers, atoms.positions, charge):
                warn(
                    f"{atoms.get_chemical_formula()} has no bond that turns: leaps of it are "
                    "samples, but jumps would reach them as soon"
                )
        if not self.operator.has_energy:
            return state
        thermal = self._band.is_thermal(self._energies(state))
        odd = rows[~thermal[rows]]
        if not len(odd):
            return state
        what = "the structure is" if state.batch_size == 1 else f"{len(odd)} structures are"
        time = FIRST_SETTLING * settling_stride(self.operator)
        warn(
            f"{what} at or near a minimum, or strained, and not at {self.ensemble.temperature_K:g} "
            f"K: settled for {format_time(time)} before the first leap, which its frame 0 is not"
        )
        return _put(state, odd, self._settle(self._part(state, odd), step, FIRST_SETTLING))


def _put(state: PhaseState, rows: Tensor, part: PhaseState) -> PhaseState:
    """Return a state with some of its rows replaced."""
    positions, velocities = state.positions.clone(), state.velocities.clone()
    positions[rows], velocities[rows] = part.positions, part.velocities
    return state.replace(positions=positions, velocities=velocities)


def _finite(state: PhaseState) -> Tensor:
    """Which molecules have numbers for positions and velocities, ``[B]``."""
    finite = torch.isfinite(state.positions) & torch.isfinite(state.velocities)
    return finite.flatten(1).all(dim=1)


def _no_numbers(state: PhaseState) -> PhaseState:
    nothing = torch.full_like(state.positions, float("nan"))
    return state.replace(positions=nothing, velocities=nothing)
