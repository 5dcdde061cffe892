"""Settings as numbers that travel with an integrator's states, and what holds after one is loaded.

OpenMM keeps a custom integrator's variables in checkpoints and saved states, and puts them back
when one is loaded. It asks nobody then, so the variables say which settings they belong to, and
the integrator looks before its next step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ase_atom.openmm.plan import Plan
from ase_atom.propagation.ensembles import Ensemble, ensembles
from ase_atom.units import PS

FORMAT = 2611.0
"""Says that the variables are an `ATOMIntegrator`'s, which nothing else writes."""

MARK = "settings"
"""The variable that is a number of 48 bits for all settings, by which others are told at once."""

RESTART = -1.0
"""The mark by which `ATOMIntegrator` says that its own settings hold, whatever was loaded."""

MADE_BY = "made_by"

Record = Mapping[str, float]
"""Values of the variables that hold the settings."""


def record_of(plan: Plan, held: bool, fingerprint: str) -> dict[str, float]:
    """Return the settings as numbers.

    Parameters
    ----------
    plan
        How jumps are made; the temperature is a variable of its own.
    held
        Whether the centre of mass is held.
    fingerprint
        Of the operator.
    """
    ensemble = plan.ensemble
    own = [float(getattr(ensemble, name)) for name in ensemble.parameters]
    return {
        MADE_BY: FORMAT,
        "made_ensemble": _number_of(ensemble.name),
        # The one setting that an ensemble has beside those of all, or what stands for several.
        "made_own": own[0] if len(own) == 1 else _number_of(repr(own)),
        "made_fix_com": float(held),
        "made_energy_correction": float(ensemble.energy_correction),
        "made_reversible": _number_of_choice(ensemble.reversible),
        "made_timestep": plan.timestep,
        "made_stride": plan.frames * plan.timestep,
        "made_operator": _number_of(fingerprint),
    }


def mark_of(record: Record, temperature: float) -> float:
    """Return the number of a record and a temperature in K, 0 without a thermostat."""
    return _number_of(repr((sorted(record.items()), temperature)))


def differences(
    record: Record, temperature: float, loaded: Record, loaded_temperature: float
) -> list[str]:
    """Say in words what is set otherwise than in a state that was loaded, nothing if all is alike.

    Temperatures are in K and 0 without a thermostat.
    """
    ours, theirs = (_ensemble_of(each["made_ensemble"]) for each in (record, loaded))
    found = []
    if ours is not theirs:
        found.append(f"{_title(ours)}, not {_title(theirs)}")
    elif temperature != loaded_temperature:
        found.append(f"temperature {temperature:g} K, not {loaded_temperature:g} K")
    if ours is not None and ours is theirs and record["made_own"] != loaded["made_own"]:
        found.append(_difference_of_own(ours, record["made_own"], loaded["made_own"]))
    for name in ("timestep", "stride"):
        mine, other = record[f"made_{name}"], loaded[f"made_{name}"]
        if mine != other:
            found.append(f"{name} {mine:g} fs, not {other:g} fs")
    for name in ("fix_com", "energy_correction", "reversible"):
        mine, other = record[f"made_{name}"], loaded[f"made_{name}"]
        if mine != other:
            found.append(f"{name}={_choice_of(mine)}, not {_choice_of(other)}")
    if record["made_operator"] != loaded["made_operator"]:
        found.append("another operator")
    return found


def _ensemble_of(number: float) -> type[Ensemble] | None:
    return next((e for e in ensembles().values() if _number_of(e.name) == number), None)


def _title(ensemble: type[Ensemble] | None) -> str:
    return "another ensemble" if ensemble is None else ensemble.title


def _difference_of_own(ensemble: type[Ensemble], mine: float, other: float) -> str:
    if len(ensemble.parameters) != 1:
        return f"other settings of {ensemble.title}"
    ((name, parameter),) = ensemble.parameters.items()
    rate = parameter.unit == "1/fs"
    factor, unit = (PS, "/ps") if rate else (1.0, " fs")
    return f"{name} {factor * mine:g}{unit}, not {factor * other:g}{unit}"


def _number_of_choice(choice: bool | None) -> float:
    return 0.5 if choice is None else float(choice)


def _choice_of(number: float) -> bool | None:
    return None if number == 0.5 else bool(number)


def _number_of(text: str) -> float:
    return float(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big"))
