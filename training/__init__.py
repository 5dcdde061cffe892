"""Making operators: reference data, training and evaluation, each ``python -m training.<verb>``.

Run from a checkout with the ``training`` extra installed; the package ``ase_atom`` never imports
anything from here.
"""
