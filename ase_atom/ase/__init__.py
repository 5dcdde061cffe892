"""ATOM in ASE: calculator, propagator and its one-ensemble kinds, replicas, file formats.

What scripts import of it is in `ase_atom` itself.
"""
