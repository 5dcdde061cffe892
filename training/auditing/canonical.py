"""Long thermostatted runs of compounds that an operator has not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ase_atom.analysis.molecule.symmetry import bond_classes
from ase_atom.errors import DataError
from ase_atom.files import replace_text
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import Operator
from ase_atom.operator.engine.choice import evaluated_by
from training.data.burst import Burst
from training.evaluation.rollouts import Plan, starting_states
from training.evaluation.verdicts import (
    check_reference,
    compare_bonds,
    langevin_report,
    reference_observables,
)


@dataclass(frozen=True)
class CanonicalRun:
    """What Langevin dynamics of one compound came to.

    Attributes
    ----------
    replicas, unbroken
        Their number, and how many reached the end.
    temperature, temperature_error
        Of all motion about the centre of mass, K; None where every replica broke at once.
    bond, difference, difference_error
        The class of bonds whose mean length is farthest from the reference run's, by how much, and
        the standard error of that, Å; None without a reference run.
    reasons
        Of the replicas that broke.
    element, element_temperature, element_error
        The element whose atoms' temperature is farthest from the plan's, that, and its standard
        error over replicas, K.
    """

    replicas: int
    unbroken: int
    temperature: float | None
    temperature_error: float | None
    bond: str | None
    difference: float | None
    difference_error: float | None
    reasons: list[str]
    element: str | None = None
    element_temperature: float | None = None
    element_error: float | None = None


def roll(
    operator: Operator,
    bursts: Sequence[Burst],
    plan: Plan,
    replicas: int,
    reference: Sequence[Burst] = (),
) -> CanonicalRun:
    """Run Langevin dynamics of one compound from its bursts' frames.

    Parameters
    ----------
    operator
        What is audited.
    bursts
        Of the compound: starts come from those nearest the plan's temperature.
    plan
        Duration, stride, temperature, friction, seed.
    replicas
        Runs side by side.
    reference
        The reference engine's own Langevin runs of the compound, for mean bond lengths.

    Raises
    ------
    DataError
        If a reference run is of another ensemble, temperature or order of atoms.
    """
    check_reference(reference, plan.temperature)
    numbers = bursts[0].numbers
    for run in reference:
        if not np.array_equal(run.numbers, numbers):
            raise DataError(f"reference run {run.key} has its atoms in another order")
    bonds = perceive_bonds(numbers, bursts[0].positions[0])
    classes = bond_classes(numbers, bonds)
    state = starting_states(bursts, replicas, plan.temperature, plan.seed)
    # Audits read features of the network itself; its runs may be any engine's.
    moving = evaluated_by(operator, "auto", str(next(operator.parameters()).device))
    report, run, watch = langevin_report(moving, state, plan, classes, engine=None)
    if run.interrupted:
        # Replicas that were cut short did not reach the end.
        raise KeyboardInterrupt
    bond = difference = error = None
    if reference:
        there = reference_observables(reference, classes, plan.temperature)
        rows = compare_bonds(report["bonds"], there.bond_lengths())["bonds"]
        # Without a sample there is nothing to compare: every replica broke at once.
        rows = [row for row in rows if np.isfinite(row["mean_difference_angstrom"])]
        if rows:
            worst = max(rows, key=lambda row: abs(row["mean_difference_angstrom"]))
            own = next(b for b in report["bonds"] if b["bond"] == worst["bond"])
            bond, difference = worst["bond"], worst["mean_difference_angstrom"]
            errors = (own["mean_error_angstrom"], worst["reference_mean_error_angstrom"])
            error = _number(np.hypot(*(value or 0.0 for value in errors)))
    heat = report["temperature"]["internal"]
    elements = watch.element_temperatures()
    far = max(elements, key=lambda one: abs(elements[one][0] - plan.temperature), default=None)
    element = elements[far] if far is not None else (np.nan, np.nan)
    return CanonicalRun(
        replicas=replicas,
        unbroken=replicas - len(run.broken),
        temperature=_number(heat["mean_K"]),
        temperature_error=_number(heat["standard_error_K"]),
        bond=bond,
        difference=difference,
        difference_error=error,
        reasons=[entry["reason"] for entry in run.broken],
        element=far,
        element_temperature=_number(element[0]),
        element_error=_number(element[1]),
    )


def roll_once(
    folder: Path,
    name: str,
    operator: Operator,
    bursts: Sequence[Burst],
    plan: Plan,
    replicas: int,
    reference: Sequence[Burst] = (),
) -> CanonicalRun:
    """The run of `roll`, from ``runs/NAME.json`` in a folder if the very same was made before.

    Parameters
    ----------
    folder, name
        Of the audit, and of the compound.
    operator, bursts, plan, replicas, reference
        As `roll` takes them.
    """
    of = {
        "operator": operator.fingerprint,
        "bursts": [burst.checksum() for burst in bursts],
        "plan": asdict(plan),
        "replicas": replicas,
        "reference": [run.checksum() for run in reference],
    }
    path = folder / "runs" / f"{name}.json"
    if path.exists():
        try:
            kept = json.loads(path.read_text())
            if kept["of"] == of:
                # Older files have NaN for what is not known.
                run = {key: None if each != each else each for key, each in kept["run"].items()}
                return CanonicalRun(**run)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}): remove it") from error
    run = roll(operator, bursts, plan, replicas, reference)
    text = json.dumps({"of": of, "run": asdict(run)}, indent=1, allow_nan=False)
    replace_text(path, text)
    return run


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
