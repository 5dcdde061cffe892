"""How a command ends: a mistake is one line on standard error and an exit code of its own."""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import typer
from typer import TyperException

from ase_atom.errors import AtomError, EngineWarning, TrajectoryWarning

BAD_INPUT = 2
INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT

_OWN = (EngineWarning, TrajectoryWarning)
"""Warnings that are lines of a command."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_command(
    app: typer.Typer,
    program: str,
    arguments: Sequence[str] | None = None,
    *,
    name: str = "error",
    stopped: str | None = None,
    codes: Mapping[type[Exception], int] | None = None,
    reword: Callable[[str], str] = str,
) -> int:
    """Run a command line and return its exit code.

    Parameters
    ----------
    app
        The command, or commands.
    program
        What the user types, for the help: ``ase-atom`` or ``python -m training.train``.
    arguments
        Words of the command line; those of the process by default.
    name
        Begins the line of a mistake.
    stopped
        What becomes of the work after Ctrl-C, for a command that goes on when it is given again.
    codes
        Exit codes of some exceptions. Others of the package, of the command line and of files end
        with 2; all else is a fault of the program and is raised.
    reword
        Changes a message, such as to other names of options.
    """
    known = {**(codes or {}), AtomError: BAD_INPUT, TyperException: BAD_INPUT, OSError: BAD_INPUT}
    result: object = None
    try:
        words = None if arguments is None else list(arguments)
        with warnings.catch_warnings():
            for kind in _OWN:
                warnings.simplefilter("always", kind)
            prefix = "" if name == "error" else f"{name}: "
            warnings.showwarning = partial(_show, prefix, warnings.showwarning)
            result = app(args=words, prog_name=program, standalone_mode=False)
    except tuple(known) as error:
        message = reword(_message(error, program, can_go_on=stopped is not None))
        print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
        return next(code for kind, code in known.items() if isinstance(error, kind))
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
        if stopped is None:
            print(f"{name}: interrupted", file=sys.stderr)
    # Typer makes an exit code of Ctrl-C.
    if result == INTERRUPTED and stopped is not None:
        print(f"\nstopped; {stopped}", file=sys.stderr)
    return result if isinstance(result, int) else 0


def _show(
    prefix: str, other: Callable[..., None], message: Warning, category: type, *place: Any
) -> None:
    """Print a warning of the package as a line of the command, and any other as it would be."""
    if issubclass(category, _OWN):
        print(f"{prefix}warning: {message}", file=sys.stderr)
    else:
        other(message, category, *place)


def _message(error: Exception, program: str, can_go_on: bool) -> str:
    if isinstance(error, TyperException):
        return f"{error.format_message()} (see {'' if ' ' in program else f'{program} '}--help)"
    if not isinstance(error, OSError):
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    message = f"{where}{error.strerror or error}"
    if can_go_on and error.errno in _FULL:
        message += "; free some space and give the same command to go on"
    return message
