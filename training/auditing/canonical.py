"""Long thermostatted runs of compounds that an operator has not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ase_atom.analysis.molecule.symmetry import BondClass, bond_classes
from ase_atom.errors import DataError
from ase_atom.files import replace_text
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import Operator
from ase_atom.operator.engine.choice import evaluated_by
from ase_atom.units import PS
from training.data.burst import Burst
from training.evaluation.rollouts import Plan, starting_states
from training.evaluation.verdicts import (
    check_reference,
    compare_bonds,
    langevin_report,
    reference_observables,
)

LENGTH, WIDTH = 0.005, 0.05
"""How far a mean bond length may be from the reference's in Å, and a width from it in all."""


@dataclass(frozen=True)
class CanonicalRun:
    """What Langevin dynamics of one compound came to.

    Attributes
    ----------
    replicas, unbroken
        Their number, and how many reached the end.
    time
        Of each replica that did, ps.
    temperature, temperature_error
        Of all motion about the centre of mass, K; None where every replica broke at once.
    element, element_temperature, element_error
        The element whose atoms' temperature is farthest from the plan's, that, and its standard
        error over replicas, K.
    bonds
        Means and widths of each class of bonds, as `Observables.bond_lengths` has them.
    reasons
        Of the replicas that broke.
    """

    replicas: int
    unbroken: int
    time: float
    temperature: float | None
    temperature_error: float | None
    element: str | None
    element_temperature: float | None
    element_error: float | None
    bonds: list[dict[str, Any]]
    reasons: list[str]


@dataclass(frozen=True)
class BondsBeside:
    """Bonds of a long run beside those of the reference engine's own.

    Attributes
    ----------
    classes
        Number of classes of equivalent bonds.
    alike, as_wide
        Of how many classes the mean length is within `LENGTH`, and the width within `WIDTH`, and
        two standard errors.
    bond, difference, difference_error
        The class whose mean length is farthest from the reference's, by how much, and the standard
        error of that, Å.
    width, ratio, ratio_error
        The class whose width is farthest, its width over the reference's, and the standard error.
    ratios
        Of the widths of all classes.
    """

    classes: int
    alike: int
    as_wide: int
    bond: str
    difference: float
    difference_error: float
    width: str
    ratio: float
    ratio_error: float
    ratios: list[float]


def roll(operator: Operator, bursts: Sequence[Burst], plan: Plan, replicas: int) -> CanonicalRun:
    """Run Langevin dynamics of one compound from its bursts' frames.

    Parameters
    ----------
    operator
        What is audited.
    bursts
        Of the compound: starts come from those nearest the plan's temperature.
    plan
        Duration, stride, temperature, friction, seed, precision.
    replicas
        Runs side by side.
    """
    classes = _bond_classes(bursts)
    state = starting_states(bursts, replicas, plan.temperature, plan.seed)
    # Audits read features of the network itself; its runs may be any engine's.
    moving = evaluated_by(operator, "auto", str(next(operator.parameters()).device))
    report, run, watch = langevin_report(moving, state, plan, classes, engine=None)
    if run.interrupted:
        # Replicas that were cut short did not reach the end.
        raise KeyboardInterrupt
    heat = report["temperature"]["internal"]
    elements = watch.element_temperatures()
    far = max(elements, key=lambda one: abs(elements[one][0] - plan.temperature), default=None)
    element = elements[far] if far is not None else (np.nan, np.nan)
    return CanonicalRun(
        replicas=replicas,
        unbroken=replicas - len(run.broken),
        time=run.jumps * plan.stride / PS,
        temperature=_number(heat["mean_K"]),
        temperature_error=_number(heat["standard_error_K"]),
        element=far,
        element_temperature=_number(element[0]),
        element_error=_number(element[1]),
        # Where every replica broke at once there is no sample.
        bonds=report["bonds"] if watch.samples.any() else [],
        reasons=[entry["reason"] for entry in run.broken],
    )


def compare_with(
    reference: Sequence[Burst], run: CanonicalRun, bursts: Sequence[Burst], temperature: float
) -> BondsBeside | None:
    """Compare bonds with those of the reference engine's own Langevin runs.

    Parameters
    ----------
    reference
        Langevin runs of the compound by the engine.
    run
        Of the operator, from ``bursts``.
    bursts
        What `roll` took.
    temperature
        Of both, K.

    Returns
    -------
    BondsBeside or None
        None where there is nothing to compare: no reference, no bonds, or every replica broke.

    Raises
    ------
    DataError
        If a reference run is of another ensemble, temperature or order of atoms.
    """
    check_reference(reference, temperature)
    for each in reference:
        if not np.array_equal(each.numbers, bursts[0].numbers):
            raise DataError(f"reference run {each.key} has its atoms in another order")
    if not reference or not run.bonds:
        return None
    there = reference_observables(reference, _bond_classes(bursts), temperature)
    rows = compare_bonds(run.bonds, there.bond_lengths())["bonds"]
    off = np.array([row["mean_difference_angstrom"] for row in rows])
    ratio = np.array([row["width_ratio"] for row in rows])
    pairs = list(zip(run.bonds, rows, strict=True))
    off_error = np.array(
        [
            np.hypot(own["mean_error_angstrom"] or 0.0, row["reference_mean_error_angstrom"] or 0.0)
            for own, row in pairs
        ]
    )
    ratio_error = ratio * np.array(
        [
            np.hypot(
                (own["width_error_angstrom"] or 0.0) / own["width_angstrom"],
                (row["reference_width_error_angstrom"] or 0.0) / row["reference_width_angstrom"],
            )
            for own, row in pairs
        ]
    )
    far, wide = int(np.abs(off).argmax()), int(np.abs(np.log(ratio)).argmax())
    return BondsBeside(
        classes=len(rows),
        alike=int(np.sum(np.abs(off) <= LENGTH + 2 * off_error)),
        as_wide=int(np.sum(np.abs(ratio - 1) <= WIDTH + 2 * ratio_error)),
        bond=rows[far]["bond"],
        difference=float(off[far]),
        difference_error=float(off_error[far]),
        width=rows[wide]["bond"],
        ratio=float(ratio[wide]),
        ratio_error=float(ratio_error[wide]),
        ratios=ratio.tolist(),
    )


def roll_once(
    folder: Path,
    name: str,
    operator: Operator,
    bursts: Sequence[Burst],
    plan: Plan,
    replicas: int,
) -> CanonicalRun:
    """The run of `roll`, from ``runs/NAME.json`` in a folder if the very same was made before.

    Parameters
    ----------
    folder, name
        Of the audit, and of the compound.
    operator, bursts, plan, replicas
        As `roll` takes them.
    """
    of = {
        "operator": operator.fingerprint,
        "bursts": [burst.checksum() for burst in bursts],
        "plan": asdict(plan),
        "replicas": replicas,
    }
    path = folder / "runs" / f"{name}.json"
    if path.exists():
        try:
            kept = json.loads(path.read_text())
            if kept["of"] == of:
                return CanonicalRun(**kept["run"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}): remove it") from error
    run = roll(operator, bursts, plan, replicas)
    text = json.dumps({"of": of, "run": asdict(run)}, indent=1, allow_nan=False)
    replace_text(path, text)
    return run


def _bond_classes(bursts: Sequence[Burst]) -> list[BondClass]:
    numbers = bursts[0].numbers
    return bond_classes(numbers, perceive_bonds(numbers, bursts[0].positions[0]))


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
