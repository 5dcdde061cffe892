"""Making operators: reference data, training and evaluation, each ``python -m training.<verb>``.

From a checkout with the ``training`` extra. An installed package has the folder as
``ase_atom.training``, for ``ase-atom finetune``, ``leap-train`` and ``import``. The package needs
nothing from here.
"""

import sys

if __name__ != "training":
    # Modules here name each other as in a checkout. What was imported from one stays; a stranger's
    # package of the name does not.
    _before = sys.modules.get("training")
    if _before is None or _before.__doc__ != __doc__:
        sys.modules["training"] = sys.modules[__name__]
