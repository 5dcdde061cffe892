"""Values of options: read, and checked against each other."""

from __future__ import annotations

import math
from pathlib import Path

import typer

from ase_atom.errors import ConfigError
from ase_atom.units import parse_time


def given_options(context: typer.Context) -> list[str]:
    """Return the names of the options and arguments that stand on the command line."""
    return [
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None
        and source.name == "COMMANDLINE"
    ]


def check_resumed(context: typer.Context, restart: Path, molecule: str, free: set[str]) -> None:
    """Check that nothing is to change of what goes on from a restart file.

    Parameters
    ----------
    context
        Of the command.
    restart
        The file.
    molecule
        Name of the argument of molecules.
    free
        Options that may be given.

    Raises
    ------
    ConfigError
        Naming an option that would change what was begun.
    """
    for name in given_options(context):
        if name not in {"resume", "quiet", "as_json"} | free:
            named = "the structures" if name == molecule else f"--{name.replace('_', '-')}"
            (longer,) = (f"--{one}" for one in free)
            raise ConfigError(
                f"{named} cannot be changed: --resume {restart} goes on with the settings that the "
                f"run began with, and takes {longer} alone"
            )


def ensemble_files() -> list[str]:
    """Return the names of the package's ensembles, which are those of their files.

    Without an import of what they need, so that help texts stay quick.
    """
    folder = Path(__file__).parents[1] / "propagation" / "ensembles"
    names = {each.stem for each in folder.glob("*.py")}
    return sorted(names - {"__init__", "base", "registry"})


def read_time(text: str, option: str, zero: bool = False) -> float:
    """Read a time in fs, above zero, or at least zero where ``zero`` is allowed.

    Raises
    ------
    ConfigError
        If it is something else, naming the option.
    """
    try:
        value = parse_time(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r} is not a time; give {error}") from error
    if value < 0 or (value == 0 and not zero):
        raise ConfigError(f"{option} must be above zero, not {text}")
    return value


def read_number(text: str, option: str, unit: str) -> float:
    """Read a number.

    Raises
    ------
    ConfigError
        If it is none, naming the option.
    """
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r} is not a number ({unit})") from error


def check_belongs(option: str, given: float | str | None, its: str, ensemble: str) -> None:
    """Refuse an option of another ensemble, which would do nothing.

    Parameters
    ----------
    option, given
        Its name, and its value or None.
    its, ensemble
        The one that it is of, and the chosen one.

    Raises
    ------
    ConfigError
        If it was given in vain.
    """
    if given is not None and ensemble != its:
        text = given if isinstance(given, str) else f"{given:g}"
        raise ConfigError(f"{option} {text} goes with --ensemble {its}, not {ensemble}")


def check_positive(option: str, value: float, unit: str) -> None:
    """Refuse what is not a number above zero.

    Raises
    ------
    ConfigError
        Naming the option and the value.
    """
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{option} must be above zero, not {value:g} {unit}")
