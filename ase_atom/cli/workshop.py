"""``ase-atom finetune``, ``leap-train`` and ``import``: commands of the extra [training]."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

import typer

from ase_atom.commandline import INTERRUPTED, run_command
from ase_atom.errors import ConfigError
from ase_atom.interruption import Interrupted

HANDED_ON = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""Settings of a command that hands on all its words, ``--help`` too."""

_HOMES = ("ase_atom.training", "training")
"""Where the folder is: in an installed package, and in a checkout."""


def finetune(context: typer.Context) -> int:
    """Make an operator of your level of theory: ase-atom finetune OPERATOR AIMD [OPTIONS].

    Needs the extra [training]; ase-atom finetune --help lists the options.
    """
    return hand_on("finetune", "finetune", context.args)


def leap_train(context: typer.Context) -> int:
    """Train leaps of an operator: ase-atom leap-train OPERATOR [MOLECULES] [OPTIONS].

    Needs the extra [training]; ase-atom leap-train --help lists the options.
    """
    return hand_on("leap-train", "leap.__main__", context.args)


def import_(context: typer.Context) -> int:
    """Turn ab initio trajectories into reference data: ase-atom import FILES --output DATA.h5.

    Needs the extra [training]; ase-atom import --help lists the options.
    """
    return hand_on("import", "import_trajectory", context.args)


def hand_on(command: str, module: str, words: Sequence[str]) -> int:
    """Run a command of the folder ``training/`` and return its exit code.

    Raises
    ------
    ConfigError
        If what it needs is not installed.
    """
    program = f"ase-atom {command}"
    found = _load(program, module)
    before, sys.argv = sys.argv, [program, *words]
    try:
        code = run_command(
            found.app,
            program,
            words,
            name="ase-atom",
            stopped="the same command goes on where it was",
            codes=getattr(found, "CODES", None),
            reword=getattr(found, "_reworded", str),
        )
    finally:
        sys.argv = before
    if code == INTERRUPTED:
        raise Interrupted
    return code


def _load(program: str, module: str) -> ModuleType:
    for home in _HOMES:
        try:
            importlib.import_module(home)
        except ModuleNotFoundError:
            continue
        try:
            return importlib.import_module(f"{home}.{module}")
        except ModuleNotFoundError as error:
            raise ConfigError(
                f'{program} needs {error.name}: pip install "ase-atom[training]"'
            ) from error
    raise ConfigError(f"{program} is not in this installation: install ase-atom anew")
