"""How a command ends: a mistake is one line on standard error and an exit code of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import typer
from typer import TyperException

from ase_atom.errors import AtomError, ConfigError, EngineWarning, TrajectoryWarning
from ase_atom.interruption import Interrupted, polite_kill, was_interrupted

BAD_INPUT = 2
KILLED = 128  # and the number of the signal, as shells have it
INTERRUPTED = 130  # the same of SIGINT
PIPE_CLOSED = 141  # the same of SIGPIPE

_OWN = (EngineWarning, TrajectoryWarning)
"""Warnings that are lines of a command."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_command(
    app: Callable[..., Any],
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
        The command, or commands, of typer; or a function that does the work whatever it is given.
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

    Returns
    -------
    0 for what went well, 130 after Ctrl-C, 143 after a polite kill, 141 where the reader of the
    output is gone, as in ``| head``, and else as ``codes`` say.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    with polite_kill() as came:
        code = _run(app, program, words, name, stopped, codes or {}, reword)
    return KILLED + came[-1] if came and code == INTERRUPTED else code


def _run(
    app: Callable[..., Any],
    program: str,
    words: Sequence[str],
    name: str,
    stopped: str | None,
    codes: Mapping[type[Exception], int],
    reword: Callable[[str], str],
) -> int:
    """Run it, as `run_command` documents, and return the exit code."""
    known = {**codes, AtomError: BAD_INPUT, TyperException: BAD_INPUT, OSError: BAD_INPUT}
    kinds: tuple[type[Exception], ...] = tuple(known)
    result: object = None
    try:
        _check_no_empty(words)
        with warnings.catch_warnings():
            for kind in _OWN:
                warnings.simplefilter("always", kind)
            prefix = "" if name == "error" else f"{name}: "
            warnings.showwarning = partial(_show, prefix, warnings.showwarning)
            result = app(args=words, prog_name=program, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        # Typer and Rich make an exit of it.
        if not isinstance(error.__context__ if isinstance(error, SystemExit) else error, OSError):
            raise
        return _pipe_closed(name)
    except Interrupted as stop:
        if stop.left:
            print(f"{name}: interrupted; {stop.left}", file=sys.stderr)
        return INTERRUPTED if stop.number is None else KILLED + stop.number
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except Exception as error:
        if was_interrupted(error):
            result = INTERRUPTED
        elif isinstance(error, kinds):
            at = _command(app, program, words)
            message = reword(_message(error, at, can_go_on=stopped is not None))
            print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
            return next(code for kind, code in known.items() if isinstance(error, kind))
        else:
            raise
    # Typer makes an exit code of Ctrl-C.
    if result == INTERRUPTED:
        print(
            f"{name}: interrupted" if stopped is None else f"\nstopped; {stopped}", file=sys.stderr
        )
    return result if isinstance(result, int) else 0


def _command(app: Callable[..., Any], program: str, words: Sequence[str]) -> str:
    """Return what the user types for the help: of several commands, that which the words name."""
    several = getattr(app, "registered_commands", ())
    names = {each.name or each.callback.__name__ for each in several}
    return f"{program} {words[0]}" if len(names) > 1 and words and words[0] in names else program


def _check_no_empty(words: Sequence[str]) -> None:
    """Refuse empty words; as a path, one would mean the working folder.

    Raises
    ------
    ConfigError
        Naming what stands before it.
    """
    for before, word in zip(["the command", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if not word.strip():
            place = f"the word after {before}"
        elif option.startswith("--") and equals and not value.strip():
            place = f"the value of {option}"
        else:
            continue
        raise ConfigError(f"{place} is empty; is it a shell variable that is not set?")


def _pipe_closed(name: str) -> int:
    """Say that nobody reads the output any more, as after ``| head``, and return the exit code."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # for what Python flushes at its end
        os.close(nowhere)
    with contextlib.suppress(OSError):
        print(f"{name}: the output was closed before its end", file=sys.stderr, flush=True)
    return PIPE_CLOSED


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
        return f"{error.format_message()} (see {program} --help)"
    if not isinstance(error, OSError):
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    message = f"{where}{error.strerror or error}"
    if can_go_on and error.errno in _FULL:
        message += "; free some space and give the same command to go on"
    return message
