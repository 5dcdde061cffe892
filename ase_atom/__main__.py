"""``python -m ase_atom`` is ``ase-atom``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of the process; see `ase_atom.cli.main`.

    Nothing is imported before, so that Ctrl-C is one line from the start.
    """
    try:
        from ase_atom.cli import main as command
    except BaseException as error:
        from ase_atom.interruption import was_interrupted

        if not was_interrupted(error):
            raise
        print("ase-atom: interrupted", file=sys.stderr)
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
