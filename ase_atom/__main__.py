"""``python -m ase_atom`` is ``ase-atom``."""

import sys

from ase_atom.cli import main

sys.exit(main())
