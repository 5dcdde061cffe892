"""Numbers with OpenMM's units, or plain ones that are meant in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from openmm import unit

from ase_atom.errors import ConfigError
from ase_atom.errors.values import check_flag
from ase_atom.propagation import Settings
from ase_atom.propagation.ensembles import own_settings, unit_of
from ase_atom.units import PS

Quantity: TypeAlias = Any
"""With a unit, or a plain number in OpenMM's: ps, K, 1/ps."""

PLAIN = "numbers without a unit are in ps"
"""What messages about times say of their units."""


def plain_number(name: str, quantity: Quantity, wanted: unit.Unit) -> float:
    """Return a number in OpenMM's unit.

    Parameters
    ----------
    name
        What it is, for the message.
    quantity
        With a unit, or a plain number.
    wanted
        OpenMM's unit.

    Raises
    ------
    ConfigError
        For a quantity of another dimension, or what is no number.
    """
    try:
        if unit.is_quantity(quantity):
            quantity = quantity.value_in_unit(wanted)
        if isinstance(quantity, bool | str | bytes):
            raise TypeError
        return float(quantity)
    except (TypeError, ValueError) as error:
        given = quantity if unit.is_quantity(quantity) else repr(quantity)
        raise ConfigError(
            f"{name} is a number in {wanted.get_name()} or a quantity with a unit: {given} cannot "
            f"be given in {wanted.get_name()}"
        ) from error


def settings_of(
    temperature: Quantity | None,
    friction: Quantity | None,
    taut: Quantity | None,
    settings: Mapping[str, Quantity] | None,
    stride: Quantity | None,
    fix_com: bool | None,
    energy_correction: bool,
    reversible: bool | None,
) -> Settings:
    """Return what a script says, in OpenMM's units, as settings of propagation.

    Raises
    ------
    ConfigError
        For a quantity of another dimension, what is no number, or a ``fix_com`` that is no flag.
    """
    check_flag("fix_com", fix_com, or_none=True)  # also where there is no thermostat to set it
    own = own_settings(settings, friction=friction, taut=taut)
    length = _optional("stride", stride, unit.picosecond)
    return Settings(
        temperature=_optional("temperature", temperature, unit.kelvin),
        own={name: _own(name, value) for name, value in own.items()},
        # Without a thermostat it is the integrator's to see to.
        fix_com=None if temperature is None else fix_com,
        energy_correction=energy_correction,
        reversible=reversible,
        stride=None if length is None else length * PS,
        names={"temperature": "a temperature"},
    )


def _optional(name: str, quantity: Quantity | None, wanted: unit.Unit) -> float | None:
    return None if quantity is None else plain_number(name, quantity, wanted)


def _own(name: str, quantity: Quantity | None) -> float | None:
    """Return a setting that one ensemble alone has, in the ensemble's unit."""
    if unit_of(name) == "1/fs":
        rate = _optional(name, quantity, unit.picosecond**-1)
        return None if rate is None else rate / PS
    time = _optional(name, quantity, unit.picosecond)
    return None if time is None else time * PS
