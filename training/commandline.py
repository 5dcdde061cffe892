"""How a command ends: a mistake is one line on stderr and exit code 2."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import typer
from typer import TyperException

from ase_atom.errors import AtomError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_INTERRUPTED = 130


def run_command(
    app: typer.Typer,
    module: str,
    *,
    stopped: str,
    mistakes: tuple[type[Exception], ...] = (),
    reword: Callable[[str], str] = str,
) -> int:
    """Run a command line and return its exit code.

    Parameters
    ----------
    app
        The command, or commands.
    module
        What ``python -m`` runs, for the help.
    stopped
        Said after Ctrl-C.
    mistakes
        Exceptions whose message is for the user, beside those of the package.
    reword
        What becomes of a message, such as other names for options.
    """
    try:
        result = app(prog_name=f"python -m {module}", standalone_mode=False)
    except (AtomError, *mistakes) as error:
        message = str(error)
    except TyperException as error:
        message = f"{error.format_message()} (see --help)"
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        message = f"{name}{error.strerror or error}"
        if error.errno in _FULL:
            message += "; free some space and give the same command to go on"
    except (KeyboardInterrupt, typer.Abort):
        result, message = _INTERRUPTED, None
    else:
        message = None
    if message is not None:
        print(f"error: {' '.join(reword(message).split())}", file=sys.stderr)
        return 2
    # Typer makes an exit code of Ctrl-C.
    if result == _INTERRUPTED:
        print(f"\nstopped; {stopped}", file=sys.stderr)
    return result if isinstance(result, int) else 0
