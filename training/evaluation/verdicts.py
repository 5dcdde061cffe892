"""What a rollout shows: temperature, bonds and energy, beside the reference engine's own run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase.calculators.calculator import Calculator

from ase_atom.analysis.molecule.symmetry import BondClass
from ase_atom.analysis.statistics import block_average, mean_and_error, slopes, to_list
from ase_atom.errors import DataError
from ase_atom.operator import Operator
from ase_atom.propagation import NVE, Langevin, is_reversible
from ase_atom.state import PhaseState
from ase_atom.units import PS
from training.data.burst import Burst
from training.evaluation.accuracy import duration, states_of
from training.evaluation.observables import Observables
from training.evaluation.rollouts import Advance, Plan, Run, observed_run

_SETTLE = (0.1, 5.0)  # of a Langevin run: this share, but at most so many ps, is not counted


def langevin_report(
    operator: Operator,
    state: PhaseState,
    plan: Plan,
    bonds: Sequence[BondClass],
    engine: Calculator | None,
    advance: Advance | None = None,
) -> tuple[dict[str, Any], Run, Observables]:
    """Canonical dynamics: temperature, bond lengths, potential energy, broken replicas."""
    settle = settling(plan.duration)
    watch = Observables(
        bonds, state.numbers.shape[1], state.batch_size, plan.temperature, is_linear(state)
    )
    ensemble = Langevin(
        plan.temperature,
        plan.friction,
        energy_correction=plan.energy_correction,
        reversible=is_reversible(Langevin, plan.reversible),
    )

    def enough() -> bool:
        if plan.precision is None:
            return True
        error = watch.temperatures()["internal"]["standard_error_K"]
        return error is not None and bool(error <= plan.precision)

    run = observed_run(operator, state, ensemble, plan, engine, watch, settle, advance, enough)
    report = _common(run, state, plan) | {
        "ensemble": "Langevin, O(h/2) Φ_h O(h/2), centre of mass fixed",
        "friction_per_fs": plan.friction,
        "energy_correction": plan.energy_correction,
        "reversible": ensemble.reversible,
        "settling_ps": settle / PS,
        "temperature": watch.temperatures(),
        "bonds": watch.bond_lengths(),
    }
    counted = np.array(run.times) > settle
    if engine is not None and counted.any():
        potential = np.array(run.potential)[counted]
        potential = potential[:, np.isfinite(potential).all(0)]
        mean, error = mean_and_error(potential.mean(0)) if potential.size else (np.nan, np.nan)
        report["reference_potential_energy"] = {
            "mean_eV": to_list([mean])[0],
            "standard_error_eV": to_list([error])[0],
            "std_eV": to_list([potential.std() if potential.size else np.nan])[0],
        }
    return report, run, watch


def nve_report(
    operator: Operator,
    state: PhaseState,
    plan: Plan,
    engine: Calculator | None,
    advance: Advance | None = None,
) -> tuple[dict[str, Any], Run]:
    """Microcanonical dynamics: drift of the total energy, conservation of momenta."""
    ensemble = NVE(plan.energy_correction, is_reversible(NVE, plan.reversible))
    run = observed_run(operator, state, ensemble, plan, engine, advance=advance)
    report = _common(run, state, plan) | {
        "ensemble": "NVE, angular momentum restored at the end of each jump",
        "energy_correction": plan.energy_correction,
        "reversible": ensemble.reversible,
        "momentum_change_amu_A_per_fs": run.momentum,
        "angular_momentum_change_amu_A2_per_fs": run.angular_momentum,
        "initial_angular_momentum_rms_amu_A2_per_fs": float(
            state.without_drift().angular_momentum().square().sum(1).mean().sqrt()
        ),
    }
    if engine is not None:
        total = (np.array(run.potential) + np.array(run.kinetic)) * 1000 / state.numbers.shape[1]
        drift = slopes(np.array(run.times) / PS, total)
        drift = drift[np.isfinite(drift)]
        mean, error = mean_and_error(drift)
        last = (total - total[0])[-1]
        last = last[np.isfinite(last)]
        report["total_energy_drift"] = {
            "mean_meV_per_atom_per_ps": to_list([mean])[0],
            "standard_error": to_list([error])[0],
            "worst_replica": to_list([drift[np.abs(drift).argmax()] if len(drift) else np.nan])[0],
            "change_at_end_mean_meV_per_atom": to_list([last.mean() if len(last) else np.nan])[0],
            "change_at_end_worst_meV_per_atom": to_list(
                [last[np.abs(last).argmax()] if len(last) else np.nan]
            )[0],
        }
    return report, run


def _common(run: Run, state: PhaseState, plan: Plan) -> dict[str, Any]:
    report: dict[str, Any] = {
        "replicas": state.batch_size,
        "stride_fs": plan.stride,
        "duration_ps": run.jumps * plan.stride / PS,
        "asked_ps": plan.duration / PS,
        "interrupted": run.interrupted,
        "temperature_K": plan.temperature,
        "seed": plan.seed,
        "broken": len(run.broken),
        "broken_replicas": run.broken,
    }
    gap = np.array(run.head) - np.array(run.potential)
    gap = gap[np.isfinite(gap)]
    if gap.size:
        report["energy_head_on_rollout"] = {
            "mean_difference_eV": float(gap.mean()),
            "std_difference_eV": float(gap.std()),
        }
    return report


def is_linear(state: PhaseState) -> bool:
    """Whether the first molecule of a batch has all atoms on one line."""
    positions = state.positions[0, : int(state.num_atoms[0])].numpy()
    spread = np.linalg.svd(positions - positions.mean(0), compute_uv=False)
    return len(positions) < 3 or bool(spread[1] < 0.05 * spread[0])


def check_reference(bursts: Sequence[Burst], temperature: float) -> None:
    """Refuse reference runs that are not Langevin dynamics at the wanted temperature.

    Raises
    ------
    DataError
        Naming the first such burst.
    """
    for burst in bursts:
        ensemble = str(burst.attrs.get("ensemble", "nve")).lower()
        if ensemble != "langevin" or abs(burst.temperature_K - temperature) > 0.5:
            raise DataError(
                f"reference burst {burst.key} is {ensemble} at {burst.temperature_K:g} K, not "
                f"langevin at {temperature:g} K: make one with "
                "python -m training.generate --ensemble langevin"
            )


def reference_observables(
    bursts: Sequence[Burst], bonds: Sequence[BondClass], temperature: float
) -> Observables:
    """The same statistics of the reference engine's own thermostatted run.

    The beginning of each burst is left out, as in `langevin_report`, and few bursts are cut into
    eight pieces each, so that error bars can be given.
    """
    pieces = 8 if len(bursts) < 8 else 1
    linear = is_linear(states_of([(bursts[0], 0)]))
    watch = Observables(bonds, len(bursts[0].numbers), pieces * len(bursts), temperature, linear)
    for index, burst in enumerate(bursts):
        counted = np.arange(settled_frame(burst), len(burst.positions))
        for piece, frames in enumerate(np.array_split(counted, pieces)):
            for part in np.array_split(frames, max(1, len(frames) // 200)):
                state = states_of([(burst, int(frame)) for frame in part])
                row = torch.full((len(part),), index * pieces + piece, dtype=torch.long)
                watch.add(state, row)
    return watch


def settling(length: float) -> float:
    """How much of a thermostatted run of a given length to leave out at its start, fs."""
    return min(_SETTLE[0] * length, _SETTLE[1] * PS)


def settled_frame(burst: Burst) -> int:
    """The first frame of a reference run that counts."""
    return int(np.ceil(settling(duration(burst)) / burst.interval))


def compare_bonds(own: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, Any]:
    """Differences of mean length in Å and relative differences of width, bond by bond."""
    rows = [
        {
            "bond": mine["bond"],
            "reference_mean_angstrom": theirs["mean_angstrom"],
            "reference_mean_error_angstrom": theirs["mean_error_angstrom"],
            "reference_width_angstrom": theirs["width_angstrom"],
            "reference_width_error_angstrom": theirs["width_error_angstrom"],
            "mean_difference_angstrom": mine["mean_angstrom"] - theirs["mean_angstrom"],
            "width_ratio": mine["width_angstrom"] / theirs["width_angstrom"],
        }
        for mine, theirs in zip(own, reference, strict=True)
    ]
    return {
        "bonds": rows,
        "largest_mean_difference_angstrom": max(
            (abs(row["mean_difference_angstrom"]) for row in rows), default=0.0
        ),
        "largest_width_deviation": max((abs(row["width_ratio"] - 1) for row in rows), default=0.0),
    }


def reference_energy(bursts: Sequence[Burst]) -> dict[str, float]:
    """Mean and spread of a reference run's potential energies, eV."""
    energies = [np.asarray(b.energies[settled_frame(b) :], dtype=float) for b in bursts]
    pooled = np.concatenate(energies)
    errors = [block_average(series)[1] for series in energies]
    weights = np.array([len(series) for series in energies]) / len(pooled)
    return {
        "mean_eV": float(pooled.mean()),
        "standard_error_eV": float(np.sqrt(((weights * np.array(errors)) ** 2).sum())),
        "std_eV": float(pooled.std()),
    }
